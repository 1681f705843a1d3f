"""Where the issuer's public keys come from: a file that is read again when it changes, or a URL that is asked in time.

Nothing that a token says makes a service ask a URL more often than each ASK_EVERY_S, or another URL.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Final, Protocol

import httpx
import structlog

from infra.auth.key_set import MOST_BYTES, KeySet, parse_key_set
from infra.auth.principal import KeysUnavailable

logger = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0
"""How often a file is looked at."""
REFRESH_S: Final = 300.0
"""How old keys of a URL get before it is asked again, while the old ones are used."""
ASK_EVERY_S: Final = 15.0
"""A URL is asked no sooner after an attempt, whatever the reason is."""
TIMEOUT_S: Final = 5.0
"""For the whole answer of a URL."""
OLDEST_S: Final = 86_400.0
"""Keys of a URL that cannot be read are used no longer than this after they were read."""


class Keys(Protocol):
    """The keys of the issuer."""

    version: int
    """Rises with each change of the keys."""
    look_at: float
    """When the source is to be looked at again, in seconds since the epoch."""
    trouble: str | None
    """Why the source could not be read when it was looked at last; None: it could, or it was not looked at yet."""

    async def current(self) -> KeySet:
        """Return the keys, after a look at the source if one is due. Raises KeysUnavailable."""

    async def newer(self) -> KeySet:
        """Return the keys after another look at the source, unless the last one is too recent. Raises KeysUnavailable.

        For a token that names a key which is not there."""


class FileKeys:
    """Keys of a file. A change counts within LOOK_EVERY_S; a file that cannot be used leaves the keys as they are."""

    def __init__(self, path: Path, clock: Callable[[], float] = time) -> None:
        """Read the file. Raises OSError; ValueError, in words, if it is no usable JWKS."""
        self._path = path
        self._clock = clock
        self._stamp = self._stamp_now()
        self._keys = parse_key_set(_read(path))
        self.version = 0
        self.look_at = clock() + LOOK_EVERY_S
        self.trouble: str | None = None

    @property
    def development(self) -> bool:
        return self._keys.development

    async def current(self) -> KeySet:
        if self._clock() >= self.look_at:
            self._look()
        return self._keys

    async def newer(self) -> KeySet:
        return await self.current()

    def _stamp_now(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _look(self) -> None:
        self.look_at = self._clock() + LOOK_EVERY_S
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp and self.trouble is None:
                return
            read = parse_key_set(_read(self._path))
            if read.development and not self._keys.development:
                raise ValueError("it has a development key, and the one before had none")
        except (OSError, ValueError) as error:
            why = f"the keys of tokens in {self._path} cannot be read, the old ones are used: {error}; mend the file"
            if why != self.trouble:
                logger.error("keys of tokens cannot be read", path=str(self._path), error=str(error))
            self.trouble = why
            return
        self._stamp, self._keys, self.trouble = stamp, read, None
        self.version += 1
        logger.info("keys of tokens were read", path=str(self._path), keys=len(read.keys))


class UrlKeys:
    """Keys of a URL. While it cannot be read, the known ones are used until they are OLDEST_S old."""

    def __init__(self, url: str, clock: Callable[[], float] = time, *, development: bool = False) -> None:
        """Nothing is asked yet. `development`: a development key may be used, too."""
        self._url = url
        self._development = development
        self._clock = clock
        self._keys: KeySet | None = None
        self._read_at = self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None
        self.version = 0
        self.look_at = float("-inf")
        self.trouble: str | None = None

    async def current(self) -> KeySet:
        if self._clock() >= self.look_at or self._asking is not None:
            asking = self._ask()
            if not self._usable:
                await asyncio.shield(asking)
        return self._known()

    async def newer(self) -> KeySet:
        if self._asking is not None or self._clock() - self._asked_at >= ASK_EVERY_S:
            await asyncio.shield(self._ask())
        return self._known()

    def _known(self) -> KeySet:
        if self._keys is None or not self._usable:
            raise KeysUnavailable(self.trouble or f"the keys of tokens at {self._url} are being read")
        return self._keys

    @property
    def _usable(self) -> bool:
        return self._clock() - self._read_at <= OLDEST_S

    def _ask(self) -> asyncio.Task[None]:
        """Return the one task that asks now; it raises nothing."""
        if self._asking is None:
            self._asked_at = self._clock()
            self.look_at = self._asked_at + ASK_EVERY_S
            self._asking = asyncio.create_task(self._read())
        return self._asking

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                read = parse_key_set(await fetch(self._url))
            if read.development and not self._development:
                raise ValueError("it has a development key")
            if self._keys is None or read.keys.keys() != self._keys.keys.keys() or not _same(read, self._keys):
                self.version += 1
            self._keys, self._read_at, self.trouble = read, self._clock(), None
            self.look_at = self._read_at + REFRESH_S
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError) as error:
            said = str(error).strip() or type(error).__name__
            why = (
                f"the keys of tokens at {self._url} cannot be read ({said}); is the issuer up, and the way to it open?"
            )
            if why != self.trouble:
                logger.error("keys of tokens cannot be read", url=self._url, error=said)
            self.trouble = why
        finally:
            self._asking = None


def _same(one: KeySet, other: KeySet) -> bool:
    return all(other.keys[kid] == key for kid, key in one.keys.items())


async def fetch(url: str) -> bytes:
    """Return the body of this URL. Redirects are not followed, and nothing is decompressed, so its size is bounded.

    Raises ValueError for another status, an encoded body, or a long one.
    """
    body = b""
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as http,
        http.stream("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"it answers {answer.status_code}; redirects are not followed")
        if (encoding := answer.headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise ValueError(f"its body is encoded ({encoding}), though `identity` was asked for")
        async for part in answer.aiter_raw():
            body += part
            if len(body) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
    return body


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)
