"""The stream that a replay goes into, and its subjects: muted, or with --aloud the original ones."""

import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from contracts.origin import REPLAYED
from contracts.wire import FACTS, MSG_ID, POSITION, said_by
from infra.broker.errors import StreamMisconfigured
from infra.broker.generations import ensure_generations
from infra.broker.numbering import number_of
from infra.broker.numbering import prefix as begin_of
from infra.consuming.dead_letter import PREFIX as DEAD_PREFIX
from infra.settings import Settings, SettingsError, load
from ops import reading
from ops.errors import Unreachable
from ops.replay.lines import ReplayedMessage, head, is_subject
from ops.replay.publishing import Publisher

REPLAY: Final = "REPLAY"
PREFIX: Final = "replay"
_OWN: Final = re.compile("|".join([*sorted({said_by(name) for name in FACTS}), DEAD_PREFIX, "l[0-9]+"]))
"""Matches the first tokens of the subjects of facts, dead letters, and later generations of the stream."""

WINDOW_S: Final = 120.0  # a muted replay that is repeated within this time adds nothing


class Target(NamedTuple):
    """The stream to publish a replay into. `url`: its broker's; empty: the broker of the environment.

    `prefix`: put before each subject, with a dot. None: aloud, under the subjects that services hear. `fresh_ids`: each
    message gets a new id, which the stream does not know.
    """

    url: str
    stream: str
    prefix: str | None
    fresh_ids: bool = False

    @property
    def where(self) -> str:
        """The stream's name and, if a URL is set, its address, for people; the URL's user and password are left out."""
        return f"stream {self.stream}" + (f" of {self.url.rpartition('@')[2]}" if self.url else "")


class TargetPublisher:
    """Gives each message its subject and id at the target, and publishes it with a Publisher.

    Headers that the target's broker would act on are left out, except the id.
    """

    def __init__(self, target: Target, publisher: Publisher) -> None:
        self.target = target
        """The target. If it is aloud, its `stream` is the name of the generation that takes what is published."""
        self._begin = begin_of(number_of(target.stream) or 0)
        self._publisher = publisher
        self._run = secrets.token_hex(8)
        self._said = 0

    async def say(self, message: ReplayedMessage) -> None:
        prefix = self.target.prefix
        begin = self._begin if prefix is None else f"{prefix}."
        subject = begin + message.subject
        # The target's server would act on other headers of its own, which foreign messages may have.
        headers = {name: value for name, value in message.headers.items() if not _is_servers(name)}
        if self.target.fresh_ids:
            self._said += 1  # not the sequence: lines of two files may have equal ones
            headers[MSG_ID] = f"{REPLAYED}{self._run}@{self._said}"
            # Under another id it has no place in the log, and says so: an older relay would look for it there.
            headers.pop(POSITION, None)
        await self._publisher.send(message.sequence, subject, message.body, head(headers))


def _is_servers(header: str) -> bool:
    return header.lower().startswith("nats-") and header != MSG_ID


@contextlib.asynccontextmanager
async def opened(env: Mapping[str, str], target: Target) -> AsyncIterator[tuple[TargetPublisher, Publisher]]:
    """Connect to the target's broker, make the stream if it is missing, and yield two publishers into it.

    The TargetPublisher prepares messages, and sends them by the Publisher, which waits for acknowledgements.

    Raises Unreachable, also for the client's errors in the block, and SettingsError if `check` does or a muted target's
    stream does not take the prefix.
    """
    check(target)
    where = {**env, "NATS_URL": target.url} if target.url else env
    settings = load(Settings, "nats", 4_222, where)
    async with reading.stream(where) as stream:
        if target.prefix is not None:
            await _ensure_muted(stream.js, target, target.prefix, settings.events_max_bytes)
        else:
            try:
                generations = await ensure_generations(stream.nc, stream.js, settings)
            except StreamMisconfigured as error:
                raise Unreachable(f"{target.where} cannot take a replay: {error}") from error
            target = target._replace(stream=generations.names[0])
        publisher = Publisher(stream.nc, target.stream)
        await publisher.begin()
        yield TargetPublisher(target, publisher), publisher


def check(target: Target) -> None:
    """Check that services cannot hear a muted replay. An aloud target always passes.

    Raises SettingsError if the prefix cannot begin a subject or is the system's own, or if services hear the stream.
    """
    if target.prefix is None:
        return
    if not is_subject(target.prefix) or target.prefix.startswith(("$", "_INBOX")):
        raise SettingsError(f"--prefix {target.prefix!r} is not the beginning of a subject, such as {PREFIX}")
    if _OWN.fullmatch(target.prefix.partition(".")[0]):
        raise SettingsError(f"--prefix {target.prefix} is a subject of the system itself: take another one")
    if number_of(target.stream) is not None:
        raise SettingsError(f"services hear {target.stream}: name another stream for a muted replay")


async def _ensure_muted(js: JetStreamContext, target: Target, prefix: str, max_bytes: int) -> None:
    subject = f"{prefix}.>"
    try:
        subjects = (await js.stream_info(target.stream)).config.subjects or []
    except NotFoundError:
        await js.add_stream(
            StreamConfig(
                name=target.stream,
                description="Facts, replayed where no service hears them",
                subjects=[subject],
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                max_bytes=max_bytes,
                duplicate_window=WINDOW_S,
                allow_direct=True,
            )
        )
        return
    if subject not in subjects:
        raise SettingsError(f"stream {target.stream} exists and does not take {subject}, but {', '.join(subjects)}")
