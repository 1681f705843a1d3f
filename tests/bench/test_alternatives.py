"""What users would pick instead, as good engineers write it: what comes twice counts once, what failed is undone."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import nats
import pytest
from click.testing import CliRunner
from nats.js import JetStreamContext

from bench import load, systems
from bench.__main__ import main
from bench.client import Answer, closed_loop
from bench.load import Job
from bench.phases import Phase, Row
from bench.systems import HOW_TO_INSTALL, DurableWorkflow, HandWritten, System, WentWrong
from bench.wares import Wares
from infra.local.processes import StartFailed
from tests.shop import attempts

WARES = Wares(40, products=10, users=20, refusals=True)


def send(running: System, numbers: list[int]) -> list[Answer]:
    requests = [REQUESTS[number] for number in numbers]
    return asyncio.run(closed_loop(running.urls["order"], requests, clients=len(requests))).answers


REQUESTS = [WARES.placing(number).encode() for number in range(WARES.orders)]


@pytest.mark.parametrize("system", [HandWritten, DurableWorkflow])
def test_a_repeated_request_gets_the_first_ones_answer(
    system: type[HandWritten | DurableWorkflow], tmp_path: Path
) -> None:
    numbers = list(range(WARES.orders))
    with system(tmp_path) as running:
        load.run(Job("open", running.urls, WARES))
        first = send(running, numbers)
        again = send(running, numbers * 2)

        assert Counter(answer.status for answer in first) == {200: 32, 409: 8}
        assert [answer[:2] for answer in again] == [answer[:2] for answer in first * 2]
        load.run(Job("check", running.urls, WARES))
        running.prove()


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a choreography whose services heard each message twice, the second time without its id."""
    folder = tmp_path_factory.mktemp("choreography")
    with HandWritten(folder) as running:
        load.run(Job("open", running.urls, WARES))
        load.run(Job("place", running.urls, WARES, last=WARES.orders))
        asyncio.run(publish_again(running.env["NATS_PORT"]))
        load.run(Job("check", running.urls, WARES))
    return folder


async def publish_again(port: str) -> None:
    nc = await nats.connect(f"nats://127.0.0.1:{port}")
    js = nc.jetstream()
    await until_handled(js)
    count = (await js.stream_info("SHOP")).state.messages
    messages = [await js.get_msg("SHOP", sequence) for sequence in range(1, count + 1)]
    for message in messages:
        assert message.subject is not None
        assert message.data is not None
        await js.publish(message.subject, message.data, headers={"content-type": "application/json"})
    await until_handled(js)
    assert (await js.stream_info("SHOP")).state.messages == 2 * count, "the stream knows the answers, given again"
    await nc.close()


async def until_handled(js: JetStreamContext) -> None:
    """Returns when each service has handled all messages."""
    async for _ in attempts("all messages to be handled"):
        if not any(found.num_pending or found.num_ack_pending for found in await js.consumers_info("SHOP")):
            return


def test_a_message_that_is_delivered_twice_changes_nothing(ended: Path) -> None:
    HandWritten(ended).prove()


@pytest.mark.parametrize(
    ("service", "statement", "why"),
    [
        ("order", "UPDATE orders SET ended = 2 WHERE status = 'CANCELED'", "how often orders ended"),
        ("product", "DELETE FROM reservations WHERE rowid = 1", "product did something"),
        ("point", "INSERT INTO uses VALUES ('forged', 'u1', 10)", "point did something"),
        ("coupon", "UPDATE coupons SET order_id = 'forged' WHERE coupon_id = 'c0'", "a coupon is used"),
    ],
)
def test_what_does_not_fit_an_orders_end_is_found(
    ended: Path, tmp_path: Path, service: str, statement: str, why: str
) -> None:
    for path in ended.glob("*.sqlite*"):
        shutil.copy(path, tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / f"{service}.sqlite")) as store, store:
        assert store.execute(statement).rowcount > 0

    with pytest.raises(WentWrong, match=why):
        HandWritten(tmp_path).prove()


@pytest.mark.parametrize("system", [HandWritten, DurableWorkflow])
def test_without_its_package_a_system_says_how_to_install_it(
    system: type[HandWritten | DurableWorkflow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "find_spec", lambda _: None)

    with pytest.raises(StartFailed, match=f"is missing: {HOW_TO_INSTALL}"):
        system(tmp_path)


def test_without_its_packages_the_bench_measures_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def run(phase: Phase, system: str, *_: object) -> Row:
        measured.append(system)
        return Row(phase.name, system, 1, 1.0, 1.0, 1.0, 1.0, {}, 1.0, {})

    monkeypatch.setattr(systems, "find_spec", lambda _: None)
    monkeypatch.setattr("bench.__main__.run", run)

    done = CliRunner().invoke(main, ["--quick", "--only", "c64", "--out", str(tmp_path)])

    assert done.exit_code == 0
    assert measured == ["saga", "one-process", "monolith"]
    assert f"without faststream and dbos, which are not installed: {HOW_TO_INSTALL}" in done.stderr
