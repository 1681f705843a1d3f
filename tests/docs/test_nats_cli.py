"""Every command of docs/nats-cli.md does what the page says, in the page's order, on a real shop with real orders."""

import asyncio
import contextlib
import json
import os
import pty
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from infra.broker.consumers import consumer_names
from infra.local.services import ROOT, service_names
from product_svc.popular import Popular
from tests.docs.pages import blocks, section
from tests.domain.spec import SERVICES
from tests.shop import PATIENCE_S, Event, Shop, open_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = ROOT / "docs" / "nats-cli.md"
OPERATING = ROOT / "docs" / "operating.md"
CONFIRMED = "2e86ac2065f70ff4b21b2634a80468d3"
"""The order of the page: customer u1, key basket-17."""


class Told(NamedTuple):
    """What the commands said, and the stream at the times that matter."""

    outputs: dict[str, str]
    operating: dict[str, str]
    before: list[Event]
    restored: list[Event]
    healed: list[Event]

    def by(self, beginning: str) -> str:
        """The output of the only command of the page that begins like this."""
        (found,) = (output for command, output in self.outputs.items() if command.startswith(beginning))
        return found


class Operator:
    """Somebody at a shell of their own: a home, a folder, the CLI on PATH."""

    def __init__(self, shop: Shop, second: Shop, home: Path) -> None:
        """`second`: a broker that is nobody's."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}
        config = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
        self.env = {**own, **config, "DATA_DIR": shop.env["DATA_DIR"], "COLUMNS": "160"}
        self._home = home
        self._ports = {"4222": shop.env["NATS_PORT"], "4322": second.env["NATS_PORT"]}

    async def does(self, line: str) -> str:
        """Run a line of the page; its output. `# refused: why` behind it is what it must fail with."""
        command, _, refusal = (part.strip() for part in line.partition("# refused: "))
        for written, meant in self._ports.items():
            command = command.replace(written, meant)
        run = self._on_a_terminal if " stream view " in command else self._piped
        exit_code, output = await asyncio.to_thread(run, command)
        assert (exit_code != 0) == bool(refusal), f"{command} ended with {exit_code}:\n{output}"
        assert refusal in output
        assert "deprecated" not in output, f"{command}:\n{output}"
        return output

    def _piped(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=ROOT if " just " in command else self._home,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout

    def _on_a_terminal(self, command: str) -> tuple[int, str]:
        keyboard, screen = pty.openpty()
        process = subprocess.Popen(
            ["sh", "-c", command], cwd=self._home, env=self.env, stdin=screen, stdout=screen, stderr=screen
        )
        os.close(screen)
        seen = b""
        with suppress(OSError):  # the last one has closed the terminal
            while data := os.read(keyboard, 65_536):
                seen += data
        os.close(keyboard)
        return process.wait(PATIENCE_S), seen.decode()


def lines() -> Iterator[str]:
    """Every command of the page, in its order."""
    for block in blocks(PAGE.read_text(encoding="utf-8")):
        if block.language == "sh":
            yield from block.text.splitlines()


def lines_of_the_operating_page() -> Iterator[str]:
    """The commands of its section, ending where the stream does; there they go on listening."""
    for block in blocks(section(OPERATING, "## Replay")):
        for line in block.text.splitlines():
            command = line.partition("  #")[0]
            if command.startswith("nats "):
                yield command.replace("nats sub ", "nats sub --terminate-at-end --wait 2s ")


async def trade(shop: Shop) -> None:
    """One order that succeeds, one for each service that refuses, and a customer whose name begins like another's."""
    await shop.register("mug", price=12_000, stock=10)
    await shop.charge("u1", 5_000)
    await shop.charge("u10", 5_000)
    await shop.issue("c1", "u1", discount=3_000)
    placed = [
        await shop.place([("mug", 2)], points=500, coupon="c1", key="basket-17"),
        await shop.place([("mug", 99)]),
        await shop.place([("mug", 1)], points=9_000),
        await shop.place([("mug", 1)], coupon="no-such-coupon"),
    ]
    for answer in placed:
        await shop.until_ended(answer.json()["order_id"])
    assert placed[0].json()["order_id"] == CONFIRMED
    await shop.until_quiet()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    folder = tmp_path_factory.mktemp("shop")
    second = Shop(tmp_path_factory.mktemp("second"))
    async with open_shop(folder) as shop, contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(second.close)
        await second.start_nats()
        operator = Operator(shop, second, tmp_path_factory.mktemp("operator"))
        await trade(shop)
        before = await shop.events()
        outputs: dict[str, str] = {}
        operating: dict[str, str] = {}
        restored: list[Event] = []
        for line in lines():
            if line.startswith("nats backup restore "):
                operating = {command: await operator.does(command) for command in lines_of_the_operating_page()}
                await operator.does(
                    "NATS_URL=nats://127.0.0.1:1 nats --server nats://127.0.0.1:4222 server check connection"
                )
                await operator.does("NATS_URL=nats://127.0.0.1:1 nats server check connection # refused: CRITICAL")
                # Said after the backup, so the stores have it and the backup does not.
                await shop.charge("u1", 70, key="after-the-backup")
                await shop.until_quiet()
                await operator.does(f"{line} # refused: already")
                for name in [*service_names(), "nats"]:
                    await shop.stop(name)
                shop.lose_stream()
                await shop.start_nats()
                outputs[line] = await operator.does(line)
                restored = await shop.events()
                await shop.start()
                await shop.until_quiet()
            else:
                outputs[line] = await operator.does(line)
        yield Told(outputs, operating, before, restored, await shop.events())


def subjects(output: str) -> list[str]:
    return re.findall(r"subject: (\S+) /", output)


def contents(events: list[Event]) -> set[tuple[str, bytes]]:
    return {(event.fact_id, event.raw) for event in events}


async def test_the_connection_is_checked(told: Told) -> None:
    assert re.search(r"nats://127\.0\.0\.1:\d+: [\d.]+(µ|m)s\n", told.by("nats --server nats://127.0.0.1:4222 rtt"))
    assert told.by("nats server check connection").startswith("OK Connection")
    assert 'NATS Configuration Context "shop"' in told.by("nats context add ")


async def test_the_stream_is_shown(told: Told) -> None:
    report = " ".join(told.by("nats stream report").split())
    heard = sum(len(consumer_names(name, SERVICES[name].hears)) for name in service_names())
    views = len(consumer_names("product-popular", Popular("UTC").topics))
    assert re.search(rf"EVENTS │ File │ │ {heard + views} │ {len(told.before)} │", report)

    info = told.by("nats stream info ")
    assert "coupon.>, order.>, point.>, product.>" in info
    assert re.search(r"Allows Purge: false", info)
    assert re.search(rf"Messages: {len(told.before)}\n", info)

    canceled = re.findall(r"│ (order\.canceled\.\w+) +│ 1 ", told.by("nats stream subjects "))
    assert sorted(canceled) == sorted(event.subject for event in told.before if event.fact == "order.canceled")
    assert len(canceled) == 3


async def test_a_products_ledger_is_shown_both_ways(told: Told) -> None:
    ledger = [event for event in told.before if re.fullmatch(r"product\.stock\.\w+\.mug", event.subject)]
    assert [event.fact.rpartition(".")[2] for event in ledger].count("held") == 3

    heard = told.by("nats sub --stream EVENTS --all --terminate-at-end --wait 2s '*.*.*.mug'")
    assert subjects(heard) == [event.subject for event in ledger]
    viewed = re.findall(r"\[(\d+)\] Subject: (\S+)", told.by("nats stream view "))
    assert viewed == [(str(event.sequence), event.subject) for event in ledger]


async def test_two_filters_find_everything_about_an_order(told: Told) -> None:
    longer = told.by("nats sub --stream EVENTS --all --terminate-at-end --wait 2s '*.*.*.2e86")
    shorter = told.by("nats sub --stream EVENTS --all --terminate-at-end --wait 2s '*.*.2e86")

    assert subjects(longer) == [f"order.created.pending.{CONFIRMED}"]
    assert subjects(shorter) == [
        f"{fact}.{CONFIRMED}" for fact in ("product.reserved", "point.used", "coupon.used", "order.confirmed")
    ]
    assert '"cause":null' in longer
    causes = re.findall(r'"cause":"([^"]+)"', shorter)
    ids = re.findall(r"Nats-Msg-Id: (\S+)", longer + shorter)
    assert causes == ids[:-1]


async def test_the_operating_pages_commands_show_the_same(told: Told) -> None:
    two_words, three_words, raw, ledger, confirmed = told.operating.values()

    assert [name.rpartition(".")[0] for name in subjects(two_words)] == [
        "product.reserved",
        "point.used",
        "coupon.used",
        "order.confirmed",
    ]
    assert subjects(three_words) == [f"order.created.pending.{CONFIRMED}"]
    assert raw.count('{"type":"point.') == len([event for event in told.before if event.fact.startswith("point.")])
    assert ledger.count("Subject: product.stock.held.mug") == 3
    assert f"on Subject order.confirmed.{CONFIRMED}" in confirmed


async def test_raw_shows_bodies_alone(told: Told) -> None:
    raw = told.by("nats sub --stream EVENTS --all --terminate-at-end --wait 2s --raw ")
    bodies = [line for line in raw.splitlines() if line.startswith("{")]
    assert bodies == [event.raw.decode() for event in told.before if event.fact.startswith("point.")]


async def test_an_accounts_history_is_found_by_its_header(told: Told) -> None:
    own = [event for event in told.before if event.fact_id.startswith("account-u1@")]
    found = next(output for command, output in told.outputs.items() if "awk" in command)

    assert re.findall(r"Nats-Msg-Id: (\S+)", found) == [event.fact_id for event in own]
    assert [line for line in found.splitlines() if line.startswith("{")] == [event.raw.decode() for event in own]
    assert {event.fact for event in own} == {"point.deposited", "point.debited"}


async def test_one_message_is_got(told: Told) -> None:
    first, last = told.before[0], next(event for event in told.before if event.fact == "order.confirmed")
    assert f"Item: EVENTS#{first.sequence} " in told.by("nats stream get EVENTS 1")
    assert first.raw.decode() in told.by("nats stream get EVENTS 1")
    assert f"Item: EVENTS#{last.sequence} " in told.by("nats stream get EVENTS --last-for ")
    assert last.raw.decode() in told.by("nats stream get EVENTS --last-for ")


async def test_a_scratch_consumer_tells_an_order_in_the_streams_order(told: Told) -> None:
    facts = [event for event in told.before if event.subject.endswith(f".{CONFIRMED}")]
    rest = told.outputs["nats consumer next EVENTS scratch --no-ack --raw --count 4"]

    assert f"subj: order.created.pending.{CONFIRMED} /" in told.outputs["nats consumer next EVENTS scratch --no-ack"]
    assert [line for line in rest.splitlines() if line.startswith("{")] == [e.raw.decode() for e in facts[1:]]
    assert "scratch" not in told.by("nats consumer report ")


async def test_the_report_has_every_service_with_nothing_unprocessed(told: Told) -> None:
    report = told.by("nats consumer report ")
    (titles,) = ([cell.strip() for cell in line.split("│")] for line in report.splitlines() if "Unprocessed" in line)
    for name in service_names():
        rows = [[c.strip() for c in line.split("│")] for line in report.splitlines() if f"│ {name}-hears-" in line]
        assert len(rows) == len(SERVICES[name].hears)
        for cells in rows:
            row = dict(zip(titles, cells, strict=True))
            assert (row["Ack Pending"], row["Redelivered"], row["Unprocessed"]) == ("0", "0", "0")


async def test_a_backup_restored_into_an_empty_broker_has_the_same_messages(told: Told) -> None:
    assert contents(told.restored) == contents(told.before)
    assert [event.sequence for event in told.restored] == [event.sequence for event in told.before]


async def test_a_backup_is_audited_on_a_broker_that_is_nobodys(told: Told) -> None:
    report = " ".join(told.by("nats --server nats://127.0.0.1:4322 stream report").split())
    assert re.search(rf"EVENTS │ File │ │ \d+ │ {len(told.before)} │", report)
    audited = told.by("NATS_URL=nats://127.0.0.1:4322 just audit ")
    assert "good: nothing was found" in audited
    assert f"{len(told.before)} messages" in audited
    replayed = told.by("NATS_URL=nats://127.0.0.1:4322 just replay ").splitlines()
    ledger = [event for event in told.before if re.fullmatch(r"product\.stock\.\w+\.mug", event.subject)]
    assert [json.loads(line)["subject"] for line in replayed] == [event.subject for event in ledger]


async def test_what_is_newer_than_the_backup_is_written_by_the_services(told: Told) -> None:
    newer = contents(told.healed) - contents(told.before)
    assert contents(told.before) < contents(told.healed)
    assert sorted(fact_id.partition("-")[0] for fact_id, _ in newer) == ["account", "charge"]


async def test_the_recipes_show_the_same(told: Told, open_all_day: Shop) -> None:
    shop = open_all_day
    await trade(shop)
    env = {name: value for name, value in os.environ.items() if not name.startswith("NATS_")}
    at_port, at_url = {"NATS_PORT": shop.env["NATS_PORT"]}, f"nats://127.0.0.1:{shop.env['NATS_PORT']}"

    async def just(*arguments: str, **where: str) -> str:
        done = await asyncio.to_thread(
            subprocess.run, ["just", *arguments], cwd=ROOT, env=env | where, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return f"{done.stdout}{done.stderr}"

    assert "Every fact of every service" in await just("nats-cli-stream", **at_port)
    assert "│ product-popular-hears-order-confirmed │" in await just(
        "nats-cli-consumers", NATS_URL=at_url, NATS_PORT="1"
    )
    assert subjects(await just("nats-cli-order", CONFIRMED, **at_port)) == [
        f"{fact}.{CONFIRMED}"
        for fact in ("order.created.pending", "product.reserved", "point.used", "coupon.used", "order.confirmed")
    ]
    nothing = await just("nats-cli-order", "no-such-order", **at_port)
    assert "the stream has no message of the order no-such-order" in nothing
    assert subjects(nothing) == []
