"""The command `orders replay`: its options, its progress, and its summary."""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import IO, Any, NamedTuple

import msgspec
import rich_click as click
from rich.progress import Progress, SpinnerColumn, TextColumn

from infra.broker.numbering import EVENTS
from infra.broker_url import parse_broker_url
from ops.cli import EXIT_INTERRUPTED, ID, INSTANT, SEQUENCE, TIMES, end, ending_well
from ops.errors import Found, Unreachable
from ops.newer import FoundNewer
from ops.output import console, print_json, print_line, print_out
from ops.replay import target as targets
from ops.replay.lines import BadLine, ReplayedMessage, bounded, is_filter, line, parsed
from ops.replay.publishing import Publisher
from ops.replay.run import Replayed, Selection, begun, from_lines, from_stream, replay
from ops.replay.target import PREFIX, REPLAY, Target


class Speed(click.ParamType[float]):
    """Reads `original` as 1.0, or a factor of the original speed above 0: 10 is ten times as fast."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if value == "original":
            return 1.0
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail("`original`, or a number above 0: 10 is ten times as fast", param, ctx)
        return speed


@click.command("replay")
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    metavar="FILTER",
    help="A subject filter such as 'point.>'; may be repeated.",
)
@click.option("--first", type=SEQUENCE, help="From this sequence of the stream on.")
@click.option("--last", type=SEQUENCE, help="Up to this sequence.")
@click.option("--since", type=INSTANT, help=f"Facts said at this time or later: {TIMES}.")
@click.option("--until", type=INSTANT, help="Facts said at this time or before.")
@click.option(
    "--from",
    "file",
    type=click.File("rb"),
    help="Read lines that this command printed instead of the stream; -: stdin.",
)
@click.option("--to", "url", default="", metavar="URL", help="Into a stream of this broker.")
@click.option("--stream", type=ID, help=f"Into this stream, made if it is missing. Default with --to: {REPLAY}.")
@click.option("--prefix", help=f"Put before each subject, so that no service hears it. Default: {PREFIX}.")
@click.option("--aloud", is_flag=True, help=f"With --to: into {EVENTS}, under the subjects that services hear.")
@click.option("--fresh-ids", is_flag=True, help="With --aloud: with new ids, which the stream does not know.")
@click.option("--speed", type=Speed(), help="`original`, or 10 for ten times that. Default: without pauses.")
@click.option("--json", "as_json", is_flag=True, help="For machines: the summary, if the target is a stream.")
@ending_well
def command(
    *,
    subjects: tuple[str, ...],
    first: int | None,
    last: int | None,
    since: datetime | None,
    until: datetime | None,
    file: IO[bytes] | None,
    url: str,
    stream: str | None,
    prefix: str | None,
    aloud: bool,
    fresh_ids: bool,
    speed: float | None,
    as_json: bool,
) -> None:
    """Replay the messages of the stream: as lines of JSON, or into another stream.

    Without --to and --stream each message is a line on standard output, with its body byte for byte or in base64. Into
    a stream it is muted: each subject begins with `replay.` (--prefix), which no service hears, so nothing is done a
    second time. With --aloud a broker without history gets a copy; services that know a message already do not answer
    it twice.
    """
    selection = Selection(subjects, first, last, since, until)
    _check(selection)
    target = _target(url, stream, prefix, aloud=aloud, fresh_ids=fresh_ids)
    if aloud and target is not None:
        _warn(target, fresh_ids=fresh_ids)
    work, began = _Replay(selection, target, speed), time.monotonic()
    try:
        with _readable(file) as lines:
            work.rises = lines is None or lines.rise
            asyncio.run(work.run(lines and lines.file))
    except BadLine as error:
        raise click.BadParameter(str(error), param_hint="--from") from error
    except KeyboardInterrupt:
        end(f"stopped: {work.how_far()}", EXIT_INTERRUPTED)
    except Unreachable as error:
        raise Unreachable(f"{error}; {work.how_far()}") from error
    if work.done.messages == 0:
        raise Found("the selection contains no message")
    if work.done.newer:
        print_out(f"replayed byte for byte: {FoundNewer(work.done.newer, work.done.first_newer)}", error=True)
    if work.target is not None:
        work.summarise(work.target, time.monotonic() - began, as_json=as_json)


def _warn(target: Target, *, fresh_ids: bool) -> None:
    """Warn on standard error that all consumers of the target get the messages.

    With fresh ids, warn also that the messages are foreign and stay for good.
    """
    print_out(f"aloud: every consumer of {target.where} gets these messages", error=True)
    if fresh_ids:
        print_out(
            f"with fresh ids these messages are foreign and stay in {EVENTS} for good: `just audit` will report them "
            "until they are acknowledged (--foreign all)",
            error=True,
        )


def _check(selection: Selection) -> None:
    for pattern in selection.subjects:
        if not is_filter(pattern):
            raise click.BadParameter(f"{pattern!r} is not a subject filter such as 'point.>'", param_hint="--subject")
    if selection.last is not None and selection.until is not None:
        raise click.UsageError("either --last or --until")
    if selection.first is not None and selection.last is not None and selection.first > selection.last:
        raise click.UsageError("--first is behind --last")
    if selection.since is not None and selection.until is not None and selection.since > selection.until:
        raise click.UsageError("--since is behind --until")


def _target(url: str, stream: str | None, prefix: str | None, *, aloud: bool, fresh_ids: bool) -> Target | None:
    """Make the target of these options; None: print lines.

    Raises UsageError if options contradict each other, SettingsError if services would hear a muted replay.
    """
    if url:
        try:
            for one in url.split(","):
                parse_broker_url(one.strip())
        except ValueError as error:
            raise click.BadParameter(
                f"this is not a broker's address, such as nats://127.0.0.1:4222: {error}", param_hint="--to"
            ) from None
    if fresh_ids and not aloud:
        raise click.UsageError("--fresh-ids goes with --aloud")
    if aloud and not url:
        raise click.UsageError("--aloud needs --to: name the broker whose services are to hear it")
    if aloud and stream is not None:
        raise click.UsageError(f"--aloud goes into {EVENTS}, --stream into another stream")
    if prefix is not None and (aloud or not (url or stream)):
        raise click.UsageError("--prefix goes with --to or --stream, and not with --aloud")
    if aloud:
        return Target(url, EVENTS, None, fresh_ids)
    if not url and stream is None:
        return None
    target = Target(url, stream or REPLAY, PREFIX if prefix is None else prefix)
    targets.check(target)
    return target


class _Lines(NamedTuple):
    """The lines to replay, and whether their sequences rise from line to line, as in one output of this command."""

    file: IO[bytes]
    rise: bool


@contextlib.contextmanager
def _readable(file: IO[bytes] | None) -> Iterator[_Lines | None]:
    """Yield a temporary copy of the file, all of whose lines were checked; without a file, None. Raises BadLine.

    So a bad line is found before the first message is replayed.
    """
    if file is None:
        yield None
        return
    with tempfile.TemporaryFile() as kept:
        kept.writelines(bounded(file))
        kept.seek(0)
        last, rise = 0, True
        for _, told in parsed(kept):
            last, rise = told.sequence, rise and told.sequence > last
        kept.seek(0)
        yield _Lines(kept, rise)


class _Replay:
    """Runs one replay, and says how far it has come."""

    def __init__(self, selection: Selection, target: Target | None, speed: float | None) -> None:
        self.done = Replayed()
        self.rises = True
        """Whether the sequences of the messages rise: only then a sequence says which of them were replayed."""
        self._selection = selection
        self.target = target
        """Once it is opened, with the name of the stream that takes the messages: of a generation, if it is aloud."""
        self._speed = speed
        self._publisher: Publisher | None = None

    async def run(self, lines: IO[bytes] | None) -> None:
        """Replay the selected messages of these lines (None: of EVENTS). If there are none, no stream is made.

        Raises BadLine, Unreachable, SettingsError.
        """
        selection = self._selection
        messages = from_stream(os.environ, selection) if lines is None else from_lines(lines, selection)
        async with contextlib.aclosing(messages):
            found = await begun(messages)  # before the target is opened: without messages no stream is made
            if found is None:
                return
            if self.target is None:
                await replay(found, self._print, self.done, self._speed)
                return
            async with _watched(self.done), targets.opened(os.environ, self.target) as (opened, publisher):
                self.target, self._publisher = opened.target, publisher
                try:
                    await replay(found, opened.say, self.done, self._speed, rest=publisher.rest)
                except asyncio.CancelledError:
                    await publisher.drain()
                    raise
                await publisher.finish()

    async def _print(self, message: ReplayedMessage) -> None:
        print_line(line(message), flush=self._speed is not None)

    def how_far(self) -> str:
        """Return a text for people: how many messages were replayed, and with which option to continue, if one can."""
        published = self._publisher
        if published is None and self.done.last is None:
            return "nothing was replayed"
        if not self.rises:
            count = self.done.messages if published is None else published.acknowledged
            return (
                f"{count:,} messages are {'replayed' if published is None else 'acknowledged'}; the sequences of the "
                "lines do not rise, so no --first goes on: order the lines by their sequences, or begin again"
            )
        if published is None:
            return (
                f"{self.done.messages:,} messages were replayed, up to sequence {self.done.last}: "
                f"--first {int(self.done.last or 0) + 1} goes on"
            )
        if not published.until:
            return f"{published.acknowledged:,} messages are acknowledged"
        return (
            f"{published.acknowledged:,} messages are acknowledged, all of them up to sequence {published.until}: "
            f"--first {published.until + 1} goes on"
        )

    def summarise(self, target: Target, took_s: float, *, as_json: bool) -> None:
        duplicates = self._publisher.duplicates if self._publisher else 0
        muted = target.prefix is not None
        if as_json:
            counts = {**msgspec.to_builtins(self.done), "duplicates": duplicates, "took_s": round(took_s, 3)}
            print_json({**counts, "stream": target.stream, "muted": muted})
            return
        print_out(
            f"replayed {self.done.messages:,} messages {'muted' if muted else 'aloud'} into {target.where}, "
            f"{duplicates:,} of which it had already, in {took_s:.1f} s",
            error=True,
        )


@contextlib.asynccontextmanager
async def _watched(done: Replayed) -> AsyncIterator[None]:
    """Show the number of replayed messages while the block runs, if standard error is a terminal."""
    errors = console(error=True)
    columns = (SpinnerColumn(), TextColumn("replaying"), TextColumn("{task.fields[done].messages:,}"))
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        progress.add_task("", done=done)
        yield
