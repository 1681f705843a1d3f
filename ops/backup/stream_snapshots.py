"""Takes and restores snapshots of streams by JetStream's API, in the files that `nats backup` uses.

Consumers are left out. A snapshot is not of one instant, and may have a consumer that is ahead of its stream: what the
stream then gets in those places would never be received. So after a restore the services make their consumers anew, and
receive everything again; what they have reacted to already changes nothing.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from infra import files
from infra.broker.client import BrokerClient, status
from ops.backup.manifest import STREAM_DATA, STREAM_META, StreamSnapshot
from ops.errors import Unreachable
from ops.reading import Stream

NOTHING: Final = Raw(b"{}")
CHUNK: Final = 128 << 10  # bytes
SILENCE_S: Final = 30.0  # between two chunks
RESTORED_S: Final = 3_600.0  # while the server makes the stream of what it got


class _Meta(Struct):
    config: Raw
    state: Raw


class _Answer(Struct):
    config: Raw = NOTHING
    state: Raw = NOTHING
    deliver_subject: str = ""
    error: dict[str, Any] | None = None


async def take(stream: Stream, name: str, folder: Path) -> StreamSnapshot | None:
    """Write a snapshot of the stream `name` into `folder`, which is made; return None if there is no such stream.

    Raises Unreachable if the broker refuses the snapshot, ends it with an error or falls silent; the client's errors,
    OSError.
    """
    try:
        info = await stream.js.stream_info(name)
    except NotFoundError:
        return None
    files.make_folder(folder)
    chunks: asyncio.Queue[tuple[str, bytes, bytes]] = asyncio.Queue()
    inbox = stream.nc.new_inbox()
    subscription = await stream.nc.listen(
        inbox, lambda _, reply, body, head: chunks.put_nowait((reply.decode(), body, head))
    )
    try:
        request = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": CHUNK, "jsck": True}
        answer = await _ask(stream.nc, f"$JS.API.STREAM.SNAPSHOT.{name}", msgspec.json.encode(request))
        await _receive(stream, name, chunks, folder / data_file(stream))
    finally:
        with suppress(NatsError):
            await stream.nc.unlisten(subscription)
    (folder / STREAM_META).write_bytes(msgspec.json.encode(_Meta(answer.config, answer.state)))
    for path in (folder / STREAM_META, folder / data_file(stream)):
        path.chmod(files.PRIVATE)
        files.sync_file(path)
    files.sync_folder(folder)
    state = msgspec.json.decode(answer.state)
    return StreamSnapshot(name, state.get("messages", 0), state.get("last_seq", 0), str(info.created))


def data_file(stream: Stream) -> str:
    """Return the file name that `nats backup` gives the data of a snapshot; it depends on the broker's version."""
    version = stream.nc.connected_server_version
    return STREAM_DATA[0] if (version.major, version.minor) >= (2, 15) else STREAM_DATA[1]


async def _receive(stream: Stream, name: str, chunks: asyncio.Queue[tuple[str, bytes, bytes]], path: Path) -> None:
    with path.open("wb") as data:
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    reply, body, head = await chunks.get()
            except TimeoutError:
                raise Unreachable(f"the broker sent nothing more of {name} for {SILENCE_S:g} s") from None
            if not body:
                code, why = status(head) if head else ("", "")
                if code not in ("", "204"):
                    raise Unreachable(f"the broker ended the snapshot of {name}: {code} {why}".rstrip())
                return
            if reply:
                await stream.nc.publish(reply, b"")
            data.write(body)


async def restore(stream: Stream, name: str, folder: Path) -> int:
    """Make the stream `name` from the snapshot in `folder`, and return how many messages the stream has.

    Raises Unreachable if the broker refuses, for example because the stream exists; the client's errors, OSError.
    """
    answer = await _ask(stream.nc, f"$JS.API.STREAM.RESTORE.{name}", (folder / STREAM_META).read_bytes())
    path = next(path for name in STREAM_DATA if (path := folder / name).exists())
    with path.open("rb") as data:
        while chunk := data.read(CHUNK):
            await _ask(stream.nc, answer.deliver_subject, chunk)
    end = await _ask(stream.nc, answer.deliver_subject, b"", RESTORED_S)
    return int(msgspec.json.decode(end.state).get("messages", 0))


async def _ask(nc: BrokerClient, subject: str, body: bytes, timeout_s: float = SILENCE_S) -> _Answer:
    found = (await nc.request(subject, body, timeout=timeout_s)).data
    answer = msgspec.json.decode(found, type=_Answer) if found else _Answer()
    if answer.error is not None:
        raise Unreachable(f"the broker refuses {subject}: {answer.error.get('description', answer.error)}")
    return answer
