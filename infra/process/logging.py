"""Configures a process's log lines, which go to standard error as text or as JSON.

A line never makes the process wait. A traceback shows no values of local variables. Secrets are hidden as `redacted`
does, but not in the lines of `put_lines`. Most repeated lines are counted, not shown.
"""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Final, Literal, TextIO

import msgspec
import structlog

from infra.line_output import LineOutput, writing_to
from infra.printable import printable
from infra.process.log_rate import LogRate, Suppressed
from infra.redaction import HIDDEN, names_secret, redacted
from infra.timestamps import in_utc

MAX_VALUE: Final = 2_000
"""The most characters that a line shows of one value; of a longer one it tells how many are left out."""
MAX_TRACEBACK: Final = 8_000
"""The most characters that a line shows of a traceback: its last ones."""
UNLIMITED: Final = "unlimited"
"""A true field of this name, which is not shown, lets a line pass the rate: of what a person asked for, each counts."""
FLUSH_S: Final = 1.0
"""How long a flush waits for the lines that are not written yet."""
TICK_S: Final = 1.0

QUIET: Final = {
    # Lines about a lost connection that add nothing to ours.
    "nats": logging.CRITICAL,
    "aiosqlite": logging.WARNING,
    # A line for each request; our own lines have its result.
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    # A warning for each request that is no HTTP: a client could fill the log. Its answer says what is wrong.
    "uvicorn.error": logging.ERROR,
}

Fields = structlog.typing.EventDict

_json: Final = msgspec.json.Encoder().encode


class LogHandler(logging.Handler):
    """Formats lines and hands them to a thread that writes them. LogRate says which repeated ones are left out."""

    def __init__(
        self, write: Callable[[bytes], int], clock: Callable[[], float] = time.monotonic, tick_s: float | None = TICK_S
    ) -> None:
        """`write` writes bytes, as os.write; `clock` counts seconds for the rate; see LineOutput for `tick_s`."""
        super().__init__()
        self.common: dict[str, str] = {}
        """Fields that each line of `put_lines` has as well."""
        self.as_text = False
        self._clock = clock
        self._rate = LogRate()
        self._output = LineOutput(write, self._dropped, tick=self._report, tick_s=tick_s)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line, or, above DEBUG, only count it if the rate hides it. Called with the handler's lock held."""
        try:
            if record.levelno > logging.DEBUG:
                self._report_due()
                event, fields = complaint(record)
                unlimited = isinstance(record.msg, dict) and record.msg.get(UNLIMITED)
                if not unlimited and not self._rate.shows(event, fields, record.levelno, self._clock()):
                    return
            self._output.put(self.format(record))
        except Exception as error:  # a line that cannot be formatted must not stop the work that it is about
            self._output.put(f"a log line of {record.name} cannot be formatted: {type(error).__name__}")

    def put_lines(self, event: str, lines: Sequence[Mapping[str, str | float]]) -> None:
        """Queue a line at INFO for each mapping of fields in `lines`, at a tenth of the usual cost.

        They are not limited in their rate and not searched for secrets: their texts have to be ids and words of ours.
        """
        at = datetime.now(UTC)
        if self.as_text:
            head = f"{at:%Y-%m-%d %H:%M:%S.%f}Z [info     ] {event:<24} "
            made = [
                head + " ".join(f"{name}={value}" for name, value in sorted({**fields, **self.common}.items()))
                for fields in lines
            ]
        else:
            shown = {"event": event, "level": "info", "timestamp": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", **self.common}
            made = [_json({**fields, **shown}).decode() for fields in lines]
        self._output.put("\n".join(made), len(made))

    def flush(self) -> None:
        """Wait until the lines are written, but no longer than FLUSH_S."""
        self._output.flush(FLUSH_S)

    def _report(self) -> None:
        """Write the counts that are due. Not while another thread uses the handler: that one may wait for this."""
        if self.lock is not None and self.lock.acquire(blocking=False):
            try:
                self._report_due()
            finally:
                self.lock.release()

    def _report_due(self) -> None:
        for suppressed in self._rate.due(self._clock()):
            self._output.put(self.format(_count_of(suppressed)))

    def _dropped(self, lines: int, why: str) -> str:
        text = f"{lines} log lines are missing here: {why}"
        return self.format(logging.LogRecord("log", logging.WARNING, "", 0, text, None, None))


def complaint(record: logging.LogRecord) -> tuple[str, Hashable]:
    """Return `event` and `fields` for `LogRate.shows`: a line with the same two as an earlier one is a repeat.

    Of a line of ours: its event, and its fields that are text, without timestamp and traceback. Of a library's line:
    its logger with its message before arguments are put in, and all arguments as one text.
    """
    if isinstance(record.msg, dict):  # structlog's
        fields = sorted((name, value) for name, value in record.msg.items() if isinstance(value, str))
        shown = tuple((name, value) for name, value in fields if name not in {"event", "timestamp", "exception"})
        return str(record.msg.get("event")), shown
    return f"{record.name}: {record.msg}", str(record.args)


def configure(
    service: str, level: str, fmt: Literal["auto", "text", "json"], secrets: Sequence[str] = ()
) -> LogHandler:
    """Send the log lines of this process, and of its libraries, to standard error, with the name `service`.

    `level` is the lowest that is shown; some libraries show less (QUIET). `fmt` "auto" is text on a terminal, JSON
    otherwise. `secrets` are hidden as `redacted` does. Returns the handler; the end of the process flushes it
    (logging.shutdown).
    """
    as_text = fmt == "text" or (fmt == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S.%fZ" if as_text else "iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        lambda _, __, fields: {**fields, "service": service},
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = LogHandler(writing_to(sys.stderr))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(secrets, as_text=as_text),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    handler.common, handler.as_text = {"service": service}, as_text
    for library, least in QUIET.items():
        logging.getLogger(library).setLevel(max(least, getattr(logging, level)))
    return handler


def info_lines(event: str) -> Callable[[Sequence[Mapping[str, str | float]]], None] | None:
    """Return a function that logs this event once for each mapping of fields it is given; see `LogHandler.put_lines`.

    None: this process shows no lines at INFO, or `configure` was not called.
    """
    root = logging.getLogger()
    if not root.isEnabledFor(logging.INFO):
        return None
    return next((partial(one.put_lines, event) for one in root.handlers if isinstance(one, LogHandler)), None)


def _rendering(secrets: Sequence[str], *, as_text: bool) -> list[structlog.typing.Processor]:
    """Return structlog's processors that make a line's text, with these secrets hidden."""

    def clean(_: Any, __: str, fields: Fields) -> Fields:
        shown = {name: value for name, value in fields.items() if name != UNLIMITED}
        return {name: cleaned(name, value, secrets, as_text=as_text) for name, value in shown.items()}

    def print_traceback(output: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
        text = redacted("".join(traceback.format_exception(*exc_info)).rstrip(), secrets)[-MAX_TRACEBACK:]
        output.write("\n" + printable(text, keep="\n"))

    if not as_text:
        return [structlog.processors.format_exc_info, clean, structlog.processors.JSONRenderer()]
    colours = sys.stderr.isatty()
    return [
        clean,
        structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=24, exception_formatter=print_traceback),
    ]


def cleaned(name: str, value: Any, secrets: Sequence[str], *, as_text: bool) -> Any:
    """Return the value of the field `name` as it may be shown: a text without secrets, cut after MAX_VALUE characters.

    A note says how many were cut. A field named as secret gives HIDDEN. With `as_text` the text is printable. The field
    `exception`, a traceback, is only freed of secrets and cut to its last MAX_TRACEBACK characters. None, the field
    `exc_info`, and numbers of fields not named as secret are returned unchanged.
    """
    if value is None or name == "exc_info":
        return value
    if names_secret(name):
        return HIDDEN
    if isinstance(value, int | float):
        return value
    text = redacted(plain(value), secrets)
    if name == "exception":
        return text[-MAX_TRACEBACK:]
    text = text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}... ({len(text) - MAX_VALUE} more characters)"
    return printable(text) if as_text else text


def plain(value: object) -> str:
    """Return a field's value as people write it, not as Python does: an instant in UTC, a list with commas."""
    match value:
        case datetime():
            return f"{in_utc(value):%Y-%m-%d %H:%M:%S}Z" if value.tzinfo else value.isoformat(" ")
        case timedelta():
            return f"{value.total_seconds():g} s"
        case Enum():
            return plain(value.value)
        case bytes():
            return value.decode(errors="backslashreplace")
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case Mapping():
            pairs = ((plain(name), of) for name, of in value.items())
            return ", ".join(f"{name}: {HIDDEN if names_secret(name) else plain(of)}" for name, of in pairs)
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(plain, value))
    return str(value)


def _count_of(suppressed: Suppressed) -> logging.LogRecord:
    event, level, lines, seconds = suppressed
    text = f"{event}: {lines} more lines like it in the {seconds:.0f} s before"
    return logging.LogRecord("log", level, "", 0, text, None, None)
