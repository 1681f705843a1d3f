"""The commands `orders stream ls | roll | keeper`."""

import asyncio
import os
from datetime import datetime

import rich_click as click
from msgspec import Struct
from nats.js import JetStreamContext
from nats.js.api import StreamInfo
from rich import box
from rich.table import Table

from infra.archive.manifest import GenerationManifest
from infra.broker.consumers import all_consumers
from infra.broker.generations import find_generations
from infra.broker.rolling import roll as roll_over
from infra.process import keeper as keeper_process
from infra.settings import Settings, load
from ops.cli import ending_well
from ops.output import print_json, print_out
from ops.reading import archived_before, kept_generations, stream


class GenerationRow(Struct):
    """One generation. `unread`: messages that a durable consumer has not acknowledged, summed over all its consumers.

    `made_at` None: the broker does not say it. `archived`: it is read from the archive, and `bytes` is the size of its
    files there; otherwise of its stream.
    """

    stream: str
    messages: int
    bytes: int
    first_sequence: int
    last_sequence: int
    made_at: datetime | None
    sealed: bool
    unread: int
    archived: bool = False


@click.group("stream")
def command() -> None:
    """The generations of the stream: EVENTS, then EVENTS_1, EVENTS_2 and so on. Facts go into the newest one."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="For machines: a list of generations.")
@ending_well
def ls(*, as_json: bool) -> None:
    """List the generations, the oldest first."""
    rows = asyncio.run(_rows())
    if as_json:
        print_json(rows)
    else:
        print_out(_table(rows))


@command.command("roll")
@ending_well
def roll() -> None:
    """Make the next generation now, unless the newest is empty.

    Services move to it within a second or two; the keeper seals the one before.
    """
    newest, made = asyncio.run(_roll())
    if made is None:
        print_out(f"{newest.config.name} is empty: there is nothing to roll over")
    else:
        print_out(f"made {made.config.name} after {newest.config.name}, which has {newest.state.messages} messages")


@command.command("keeper")
@ending_well
def keeper() -> None:
    """Keep the generations until SIGTERM or Ctrl-C: make the next one when it is time, seal those before.

    EVENTS_ROLL_MESSAGES, EVENTS_ROLL_BYTES, EVENTS_ROLL_AGE_S and half of EVENTS_MAX_BYTES say when. `just up`
    starts one. Two keepers at once do no harm.
    """
    keeper_process.run(os.environ)


async def _rows() -> list[GenerationRow]:
    async with stream(os.environ) as opened:
        kept = await kept_generations(opened)
        archived = [_archived_row(one) for one in archived_before(opened, kept)]
        return [*archived, *[_row(info, await _unread(opened.js, info)) for info in kept]]


async def _unread(js: JetStreamContext, info: StreamInfo) -> int:
    found = await all_consumers(js, str(info.config.name))
    return sum((one.num_pending or 0) + (one.num_ack_pending or 0) for one in found if one.config.durable_name)


def _row(info: StreamInfo, unread: int) -> GenerationRow:
    state, config = info.state, info.config
    return GenerationRow(
        stream=str(config.name),
        messages=state.messages,
        bytes=state.bytes,
        first_sequence=state.first_seq,
        last_sequence=state.last_seq,
        made_at=info.created,
        sealed=bool(config.sealed),
        unread=unread,
    )


def _archived_row(manifest: GenerationManifest) -> GenerationRow:
    return GenerationRow(
        stream=manifest.stream,
        messages=manifest.messages,
        bytes=sum(file.bytes for file in manifest.files),
        first_sequence=manifest.first_sequence,
        last_sequence=manifest.last_sequence,
        made_at=datetime.fromisoformat(manifest.created),
        sealed=True,
        unread=0,
        archived=True,
    )


def _table(rows: list[GenerationRow]) -> Table:
    table = Table(box=box.SIMPLE)
    for name in ("stream", "messages", "bytes", "sequences", "made", "sealed", "unread"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("messages", "bytes", "unread") else "left")
    for row in rows:
        made = "" if row.made_at is None else f"{row.made_at:%Y-%m-%d %H:%M:%S}"
        state = "archived" if row.archived else "yes" if row.sealed else "no"
        sequences = f"{row.first_sequence} to {row.last_sequence}" if row.messages else ""
        cells = (row.stream, f"{row.messages:,}", f"{row.bytes:,}", sequences, made, state)
        table.add_row(*cells, f"{row.unread:,}")
    return table


async def _roll() -> tuple[StreamInfo, StreamInfo | None]:
    settings = load(Settings, "nats", 4_222, os.environ)
    async with stream(os.environ) as (nc, js, *_):
        newest = (await find_generations(nc, js))[-1]
        return newest, await roll_over(nc, js, settings, "asked for by an operator")
