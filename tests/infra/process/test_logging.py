"""Log lines: no local variables, no secrets, a date, nothing that a terminal obeys, and nobody ever waits for them."""

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path

import pytest

from infra.local.services import ROOT
from infra.process.log_rate import KINDS_A_WINDOW
from infra.process.logging import MAX_TRACEBACK, cleaned, info_lines, plain


class Colour(Enum):
    RED = "red"


RUN = """
import asyncio, logging, sys
import structlog
from infra.process import logging as logs
logs.configure("shop", "{level}", "{fmt}", ["0ther-secret"])
log = structlog.get_logger()
"""

PASSWORD = "s3cr3t"


def logged(code: str, fmt: str, level: str = "INFO", env: Mapping[str, str] | None = None) -> str:
    """What a process writes to standard error that runs this code with `log` configured."""
    source = RUN.replace("{fmt}", fmt).replace("{level}", level) + code
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, env=env, capture_output=True, encoding="utf-8", check=True, timeout=60
    )
    return done.stderr


FAILING = f"""
def connect(password):
    basket = "a local variable " * 3
    raise OSError("cannot reach nats://ann:{PASSWORD}@127.0.0.1:4222 with 0ther-secret \\x1b[2J")
try:
    connect("{PASSWORD}")
except OSError as error:
    headers = {{"Authorization": "Bearer {PASSWORD}"}}
    log.error("it failed", exc_info=error, url="tls://{PASSWORD}@broker", headers=headers,
              password="{PASSWORD}", subject="product.\\x1b]0;x\\x07\\u202e\\r\\nforged line")
    logging.getLogger("library").error("a library says nats://u:{PASSWORD}@host \\x9b31m", exc_info=error)
"""


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_a_line_has_no_local_variables_no_secrets_and_nothing_that_a_terminal_obeys(fmt: str) -> None:
    text = logged(FAILING, fmt)

    assert "it failed" in text
    assert "a library says" in text
    assert text.count("OSError") >= 2
    assert "in connect" in text, "the traceback names the place"
    assert "a local variable a local" not in text
    assert PASSWORD not in text.replace(f'connect("{PASSWORD}")', "").replace(f'connect(\\"{PASSWORD}\\")', "")
    assert "0ther-secret" not in text
    assert all(one.isprintable() or one == "\n" for one in text)
    assert not any(line.startswith("forged line") for line in text.splitlines())


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_no_part_of_a_secret_is_shown_where_a_traceback_is_cut(fmt: str) -> None:
    failing = f"""
try:
    raise OSError("0ther-secret" + "x" * {MAX_TRACEBACK - len("secret")})
except OSError as error:
    log.error("it failed", exc_info=error)
"""
    text = logged(failing, fmt)

    assert "***xxx" in text
    assert "secretx" not in text


def test_a_line_of_text_has_date_and_zone() -> None:
    (line,) = logged('log.info("hello", orders=7)', "text").splitlines()

    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}Z \[info +\] hello +orders=7 service=shop$", line)


def test_a_line_of_json_has_its_fields() -> None:
    line = json.loads(logged('log.info("hello", orders=7, at=None)', "json"))

    assert line["timestamp"].endswith("Z")
    assert {name: line[name] for name in ("event", "orders", "at", "service", "level")} == {
        "event": "hello", "orders": 7, "at": None, "service": "shop", "level": "info",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 3, 2, 21, 3, 5, 7, tzinfo=timezone(timedelta(hours=9))), "2026-03-02 12:03:05Z"),
        (datetime(2026, 3, 2, 21, 3, 5), "2026-03-02 21:03:05"),  # noqa: DTZ001 - of a library
        (date(2026, 3, 2), "2026-03-02"),
        (timedelta(minutes=1.5), "90 s"),
        (Path("/data/x"), "/data/x"),
        (signal.SIGTERM, "15"),
        (Colour.RED, "red"),
        (b"a\xff", "a\\xff"),
        (OSError("no disk"), "OSError: no disk"),
        (["point.>", "order.>"], "point.>, order.>"),
        ({"at": date(2026, 3, 2), "password": "s3cr3t"}, "at: 2026-03-02, password: ***"),
        (None, "None"),
    ],
)
def test_a_value_is_written_as_people_write_it(value: object, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_a_line_has_no_representation_of_python(fmt: str) -> None:
    code = "from datetime import UTC, datetime\nlog.info('again', since=datetime(2026, 3, 2, 12, tzinfo=UTC), of=['a'])"

    text = logged(code, fmt)

    assert "2026-03-02 12:00:00Z" in text
    assert "datetime" not in text
    assert "[" not in text.replace("[info", "")


def test_a_value_is_bounded() -> None:
    assert len(logged('log.error("x" * 100_000, why="y" * 100_000)', "text")) < 10_000


def test_one_complaint_a_thousand_times_is_a_few_lines_and_a_count_and_others_are_shown() -> None:
    text = logged(
        """
for number in range(1_000):
    log.warning("poison", key=f"order-{number}", n=number)
    log.warning("no broker", reason="refused", again_in_s=number / 7)
    logging.getLogger("library").warning("lost %s", number)
log.info("and yet this")
log.debug("not this")
""",
        "text",
    )

    lines = text.splitlines()
    assert len([line for line in lines if "poison" in line]) == KINDS_A_WINDOW
    assert len([line for line in lines if "no broker" in line]) == 1
    assert len([line for line in lines if "lost" in line]) == KINDS_A_WINDOW
    assert "and yet this" in lines[-1]


def test_the_count_is_written_when_its_time_has_come_without_another_line() -> None:
    text = logged(
        """
clock = [0.0]
handler = logs.LogHandler(logs.writing_to(sys.stderr), clock=lambda: clock[0], tick_s=0.01)
handler.setFormatter(logging.getLogger().handlers[0].formatter)
logging.getLogger().handlers[:] = [handler]
for number in range(30):
    log.error("poison", key="o1")
clock[0] = 11.0
import time
until = time.monotonic() + 30
while handler._rate._windows["poison"].suppressed and time.monotonic() < until:
    time.sleep(0.01)
""",
        "text",
    )

    first, counted = text.splitlines()
    assert "poison" in first
    assert "poison: 29 more lines like it in the 11 s before" in counted
    assert "[error" in counted


ONE_BY_ONE = """
for number in range(12_000):
    log.debug("y" * 100, number=number)
"""
TOGETHER = """
put = logs.info_lines("it ended")
for number in range(120):
    put([{"n": "y" * 100}] * 100)
"""


@pytest.mark.parametrize(
    ("level", "lines"), [("DEBUG", ONE_BY_ONE), ("INFO", TOGETHER)], ids=["one by one", "together"]
)
def test_a_standard_error_that_nobody_reads_makes_nobody_wait(level: str, lines: str) -> None:
    said = 'print("done", flush=True)\nsys.stdin.read()'
    code = RUN.replace("{fmt}", "json").replace("{level}", level) + lines + said
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"  # though the pipe of standard error is full
        _, rest = process.communicate(timeout=60)

    events = [json.loads(line)["event"] for line in rest.splitlines()]
    missing = [int(event.split()[0]) for event in events if "missing here: nobody read them in time" in event]
    assert process.returncode == 0
    assert missing
    assert len(events) - len(missing) + sum(missing) == 12_000


def test_what_clients_cause_in_uvicorn_is_not_logged() -> None:
    text = logged(
        """
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
logging.getLogger("uvicorn.error").error("Exception in ASGI application")
""",
        "text",
    )

    assert "Invalid" not in text
    assert "Exception in ASGI application" in text


def test_a_number_that_is_a_secret_is_hidden_too() -> None:
    assert cleaned("password", 1_234, [], as_text=False) == "***"
    assert cleaned("orders", 1_234, [], as_text=False) == 1_234
    assert cleaned("token", None, [], as_text=False) is None


LEVEL = """
import logging
from infra.process.logging import configure
configure("point", "ERROR", "text")
logging.getLogger("httpx").warning("a warning")
logging.getLogger("httpx").error("an error")
"""


def test_a_library_shows_nothing_below_the_level() -> None:
    shown = subprocess.run([sys.executable, "-c", LEVEL], cwd=ROOT, capture_output=True, text=True, check=True).stderr

    assert "an error" in shown
    assert "a warning" not in shown


LINES = """
lines = [{"order_id": f"o{n}", "after_ms": 1.5} for n in range(30)]
put = logs.info_lines("it ended")
"""


def test_lines_of_which_there_are_thousands_look_as_others_do_and_are_all_shown() -> None:
    """Thirty lines of one event in one window: LogRate would show ten."""
    told = logged(LINES + 'put(lines)\nlog.info("it ended", order_id="o0", after_ms=1.5)', "json").splitlines()

    *quick, usual = [json.loads(line) for line in told]
    assert [line["order_id"] for line in quick] == [f"o{n}" for n in range(30)]
    assert quick[0].keys() == usual.keys()
    assert {name: value for name, value in quick[0].items() if name != "timestamp"} == {
        name: value for name, value in usual.items() if name != "timestamp"
    }
    assert len(quick[0]["timestamp"]) == len(usual["timestamp"])


def test_as_text_they_look_as_others_do_too() -> None:
    told = logged(LINES + 'put(lines[:1])\nlog.info("it ended", order_id="o0", after_ms=1.5)', "text")
    *_, quick, usual = told.splitlines()

    assert re.sub(r"\d{6}Z", "", quick) == re.sub(r"\d{6}Z", "", usual)


def test_above_their_level_there_are_none() -> None:
    assert logged(LINES + "assert put is None", "json", "WARNING") == ""


def test_without_our_handler_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.INFO)

    assert info_lines("it ended") is None
