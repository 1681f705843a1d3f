"""An archive in a bucket of an S3-compatible store: the manifests, and the files of each generation by their SHA-256.

EVENTS.json                         the manifest of generation 0, written only if there is none
EVENTS/<SHA-256>/part-000.jsonl.gz  a file of it: two archivers never write the same name with another content

Objects are never changed or deleted by this system. Only the library obstore, an optional extra, speaks to the store.
"""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from infra.archive.cache import PIECE, FileCache
from infra.archive.credentials import in_file
from infra.archive.errors import ArchiveDamaged, ArchiveTaken, ArchiveUnreachable
from infra.archive.manifest import INDEX, WAY_OUT, ArchivedFile, is_manifest
from infra.archive_settings import ArchiveSettings

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

T = TypeVar("T")

CONNECT_S: Final = 2.0
READ_S: Final = 10.0
"""For one request that reads. At most RETRIES more are begun, within RETRY_S, before the bucket counts as away."""
WRITE_S: Final = 60.0
REACH_S: Final = 5.0
"""For the request that only shows whether the bucket can be read."""
RETRIES: Final = 3
RETRY_S: Final = 10.0
AT_ONCE: Final = 16  # manifests that are read
UPLOADS: Final = 3  # pieces that are written at once
NOTHING: Final = "nothing"  # a folder that no generation has: to list it is one short answer

_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3})")
"""Of an error's text only these are shown: a store answers with the key's id, and with what was signed."""
_KINDS: Final = {
    "InvalidCertificate": "its certificate is not accepted",
    "BadScheme": "it would be asked without TLS",
    "kind: Connect,": "it takes no connection",
    "kind: Timeout,": "no answer in time",
}


class Bucket:
    """The archive in the bucket that the settings name. See ArchivePlace."""

    setting = "ARCHIVE_URL"
    near = False

    def __init__(self, settings: ArchiveSettings) -> None:
        """Raise ValueError if the settings name no bucket."""
        if settings.archive_bucket is None:
            raise ValueError("ARCHIVE_URL is not set")
        self.title = str(settings.archive_bucket)
        self._settings = settings
        self._cache = FileCache(settings.archive_cache / "files", settings.archive_cache_bytes)
        self._writing = settings.archive_cache / "writing"

    @cached_property
    def _read(self) -> S3Store:
        return _store(self._settings, READ_S)

    @cached_property
    def _write(self) -> S3Store:
        return _store(self._settings, WRITE_S)

    async def ask(self) -> None:
        try:
            async with asyncio.timeout(REACH_S):
                await obstore.list_with_delimiter_async(self._read, NOTHING)
        except TimeoutError:
            raise _unusable(self.title, _KINDS["kind: Timeout,"], _next_step("", None)) from None
        except (BaseError, ValueError, OSError) as error:
            raise self._away(error) from None

    def look(self) -> list[tuple[str, str]]:
        found = self._asked(lambda: obstore.list_with_delimiter(self._read))["objects"]
        listed = [(one["path"].rpartition("/")[2], f"{one['e_tag']} {one['size']}") for one in found]
        return sorted(one for one in listed if is_manifest(one[0]))

    def _content(self, name: str) -> bytes:
        return self._asked(lambda: bytes(obstore.get(self._read, name).bytes()), f"{self.title}/{name}")

    def read_manifests(self, names: Sequence[str]) -> list[bytes]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self._content, names))

    def where(self, stream: str, file: ArchivedFile) -> str:
        return f"{self.title}/{_key(stream, file)}"

    def whole(self, stream: str, file: ArchivedFile) -> Path:
        return self._cache.path(file, lambda offset, size: self.read_range(stream, file, offset, size))

    def read_range(self, stream: str, file: ArchivedFile, offset: int, size: int) -> bytes:
        key, end = _key(stream, file), min(file.bytes, offset + size)
        if end <= offset:
            return b""
        return self._asked(
            lambda: bytes(obstore.get_range(self._read, key, start=offset, end=end)), self.where(stream, file)
        )

    def described(self, stream: str, file: ArchivedFile) -> ArchivedFile:
        key, found = _key(stream, file), hashlib.sha256()
        size = self._asked(lambda: obstore.head(self._read, key)["size"], self.where(stream, file))
        for offset in range(0, min(size, file.bytes), PIECE):
            found.update(self.read_range(stream, file, offset, PIECE))
        return ArchivedFile(file.name, size, found.hexdigest())

    def writing_folder(self, stream: str) -> Path:
        return self._writing / stream

    def add(self, stream: str, written: Sequence[ArchivedFile]) -> None:
        for file in written:
            path = self.writing_folder(stream) / file.name
            self._put(_key(stream, file), path)
            if file.name == INDEX:
                self._cache.add(file, path)
        shutil.rmtree(self.writing_folder(stream))

    def _put(self, key: str, path: Path) -> None:
        self._asked(lambda: obstore.put(self._write, key, path, chunk_size=PIECE, max_concurrency=UPLOADS))

    def publish(self, name: str, content: bytes) -> None:
        def put() -> bool:
            try:
                obstore.put(self._write, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError:  # another run's; or this one's, and the store's answer was lost
                return False
            return True

        if not self._asked(put) and self._content(name) != content:
            raise ArchiveTaken(
                f"{self.title}/{name} is there already: another run has archived it meanwhile. Run it again"
            )

    def _asked(self, ask: Callable[[], T], of: str = "") -> T:
        """Return the result of `ask`, a request to the store.

        `of`: the name, for messages, of the object that it reads; empty: it reads none. Raises ArchiveDamaged if that
        object is missing; ArchiveUnreachable for any other error.
        """
        try:
            return ask()
        except FileNotFoundError as error:
            code = _CODE.search(str(error))
            if of and (code is None or code[1] == "NoSuchKey"):
                raise ArchiveDamaged(f"{of} is missing. {WAY_OUT}") from None
            raise self._away(error) from None
        except (BaseError, ValueError, OSError) as error:
            raise self._away(error) from None

    def _away(self, error: Exception) -> ArchiveUnreachable:
        text = str(error)
        kind = next((why for kind, why in _KINDS.items() if kind in text), "")
        code, status = (found and found[1] for found in (one.search(text) for one in (_CODE, _STATUS)))
        why = kind or " ".join(filter(None, (status, code))) or type(error).__name__
        return _unusable(self.title, why, _next_step(text, status))


def _unusable(title: str, why: str, step: str) -> ArchiveUnreachable:
    return ArchiveUnreachable(f"the archive's bucket {title} cannot be used: {why}. {step}")


def _next_step(text: str, status: str | None) -> str:
    if "169.254." in text or "/credentials" in text or "CredentialProvider" in text:
        return "There are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if "InvalidCertificate" in text:
        return "Set SSL_CERT_FILE to its authority's file, or give the store a certificate with its host name"
    if "BadScheme" in text:
        return "Set ARCHIVE_ENDPOINT in place of AWS_ENDPOINT_URL: then http:// is checked, and said"
    if "NoSuchBucket" in text:
        return "There is no such bucket: make it, or set ARCHIVE_URL"
    if status in ("401", "403", "404"):
        return "Check its credentials (AWS_ACCESS_KEY_ID), ARCHIVE_REGION, and what they may do: list, get, put"
    return "Does its store run at ARCHIVE_ENDPOINT? All goes on by itself once it answers"


def _key(stream: str, file: ArchivedFile) -> str:
    return f"{stream}/{file.sha256}/{file.name}"


def _store(settings: ArchiveSettings, request_s: float) -> S3Store:
    """Return obstore's client of the bucket; `request_s` limits a request, in seconds.

    The library finds the credentials itself if `in_file` returns None. Raises ArchiveUnreachable if the library cannot
    use the value of one of its variables.
    """
    url = settings.archive_bucket
    assert url is not None
    config: S3Config = {"virtual_hosted_style_request": settings.archive_addressing == "virtual"}
    if settings.archive_endpoint:
        config["aws_endpoint_url_s3"] = _endpoint(settings.archive_endpoint, url.bucket, settings.archive_addressing)
    if settings.archive_region:
        config["region"] = settings.archive_region
    client: ClientConfig = {
        "allow_http": settings.archive_endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(seconds=request_s),
    }
    retry: RetryConfig = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=RETRY_S),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
    }
    try:
        return S3Store(
            url.bucket,
            prefix=url.prefix or None,
            config=config,
            client_options=client,
            retry_config=retry,
            credential_provider=in_file(),
        )
    except (BaseError, ValueError) as error:
        wrong = [name for name, value in os.environ.items() if name.startswith("AWS_") and f'"{value}"' in str(error)]
        why = f"the value of {' or '.join(sorted(wrong)) or 'a variable AWS_...'} is none that the library takes"
        raise _unusable(str(url), why, "Correct or unset it, and start this again") from None


def _endpoint(endpoint: str, bucket: str, addressing: str) -> str:
    scheme, _, host = endpoint.rstrip("/").partition("://")
    return f"{scheme}://{bucket}.{host}" if addressing == "virtual" else f"{scheme}://{host}"
