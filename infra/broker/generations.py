"""The generations of the stream, as one session knows them: found when it begins, and looked at again each second.

The newest one takes what is published. The others are read, and sealed once nothing more comes: a sealed stream takes
nothing from anybody. Nobody keeps a list of them: the broker's streams are the list.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog
from nats.errors import NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from infra.broker.client import BrokerClient
from infra.broker.connection import CONNECT_TIMEOUT_S
from infra.broker.errors import ConnectionLost
from infra.broker.floor import check_archive, first_kept, is_archived
from infra.broker.numbering import number_of, stream_name
from infra.broker.streams import check_stream, ensure_stream
from infra.settings import Settings

logger = structlog.get_logger()

NAMES: Final = "$JS.API.STREAM.NAMES"


class _Names(msgspec.Struct):
    total: int = 0
    streams: list[str] | None = None
    error: dict[str, object] | None = None


_names: Final = msgspec.json.Decoder(_Names)


async def generation_numbers(nc: BrokerClient, timeout_s: float = CONNECT_TIMEOUT_S) -> list[int]:
    """Ask which generations there are; return their numbers, the oldest first. Raises the client's errors."""
    found: list[str] = []
    while True:
        try:
            answered = await nc.request(NAMES, b'{"offset":%d}' % len(found), timeout=timeout_s)
        except NoRespondersError:
            raise ServiceUnavailableError(code=503, description="no server answers for JetStream") from None
        answer = _names.decode(answered.data)
        if answer.error is not None:
            APIError.from_error(answer.error)
        found += answer.streams or ()
        if not answer.streams or len(found) >= answer.total:
            return sorted(number for number in map(number_of, found) if number is not None)


async def find_generations(nc: BrokerClient, js: JetStreamContext) -> list[StreamInfo]:
    """Return the info of each generation, the oldest first. Raises the client's errors; NotFoundError without any."""
    try:
        return await _infos(nc, js)
    except NotFoundError:  # there is none; or one was archived since its name was told
        return await _infos(nc, js)


async def _infos(nc: BrokerClient, js: JetStreamContext) -> list[StreamInfo]:
    return [await js.stream_info(stream_name(number)) for number in await generation_numbers(nc) or (0,)]


async def ensure_generations(nc: BrokerClient, js: JetStreamContext, settings: Settings) -> "Generations":
    """Return the generations. First makes one if none is there but archived ones, or the next if the newest is sealed.

    An unsealed newest one gets the subjects and `allow_batched` it lacks. Raises StreamMisconfigured as `check_stream`
    and `ensure_stream` do; ArchiveUnusable as `check_archive` does; the client's errors.
    """
    numbers = await generation_numbers(nc)
    older = [await js.stream_info(stream_name(number)) for number in numbers]
    await check_archive(nc, settings, older)
    newest = max([*numbers[-1:], first_kept(settings)])
    if newest in numbers:
        if older[-1].config.sealed:
            newest += 1
        else:
            older.pop()
    for info in older:
        check_stream(info.config, settings, sealed=True)
    return Generations(nc, settings, [*older, await ensure_stream(js, settings, newest)])


class Generations:
    """What a session knows of the generations; `look` finds what has changed."""

    def __init__(self, nc: BrokerClient, settings: Settings, infos: Sequence[StreamInfo]) -> None:
        """`infos` has one for each generation, the oldest first, as this connection got them."""
        self._nc = nc
        self._settings = settings
        self._looks = 0
        self.infos = list(infos)
        """The generations, the oldest first."""

    @property
    def newest(self) -> StreamInfo:
        """The info of the generation with the highest number, as the last look found it."""
        return self.infos[-1]

    @property
    def number(self) -> int:
        """The number of the newest generation."""
        return number_of(str(self.newest.config.name)) or 0

    @property
    def sealed(self) -> list[str]:
        """The names of the streams that were sealed at the last look, the oldest first."""
        return [str(info.config.name) for info in self.infos if info.config.sealed]

    @property
    def names(self) -> list[str]:
        """The names of the streams, the newest first."""
        return [str(info.config.name) for info in reversed(self.infos)]

    async def look(self, js: JetStreamContext, answer_s: float = CONNECT_TIMEOUT_S) -> list[StreamInfo]:
        """Look what has changed, and return the generations that were made since the last look.

        Those that have left the broker for the archive are forgotten. A sealed one takes nothing more, so only one
        sealed one is asked each time, in turns. The broker has `answer_s` seconds for the streams' names, and the
        timeout of `js` for the rest. Raises ConnectionLost if one was replaced, if a sealed one is gone though no
        archive has it, or if an older one is there that was not before; NotFoundError if one that was asked is gone,
        and in no archive; ArchiveUnusable if one is gone and the archive cannot be asked; the client's other errors.
        """
        numbers = await generation_numbers(self._nc, answer_s)
        known = {number_of(str(info.config.name)) or 0: info for info in self.infos}
        newest = max(known)
        sealed = [number for number, info in known.items() if info.config.sealed and number in numbers]
        turn = sealed[self._looks % len(sealed)] if sealed else None
        self._looks += 1
        there: list[StreamInfo] = []
        for number, info in known.items():
            if not info.config.sealed or number == turn:
                there += await self._same(js, info, number)
            elif number in numbers:
                there.append(info)
            elif not await is_archived(self._settings, number):
                raise ConnectionLost(f"{info.config.name} is gone, and no archive has it")
        if not known.keys() >= {number for number in numbers if number < newest}:
            raise ConnectionLost("an older generation of the stream is there again")
        made = [await js.stream_info(stream_name(number)) for number in numbers if number > newest]
        self.infos = [*there, *made]
        return made

    async def _same(self, js: JetStreamContext, known: StreamInfo, number: int) -> list[StreamInfo]:
        """Return the generation's present info; an empty list if it has left the broker for the archive.

        Raises the errors of `look` for a generation that is gone or replaced.
        """
        try:
            info = await js.stream_info(str(known.config.name))
        except NotFoundError:
            if await is_archived(self._settings, number):
                return []
            raise
        if str(info.created) != str(known.created):
            raise ConnectionLost("the stream was replaced by another one")
        return [info]
