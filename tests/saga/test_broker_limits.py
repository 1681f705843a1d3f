"""A broker that cannot be used as it is configured: not ready, with the cause and the next step, until it is mended."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from infra.consuming.supervisor import PROBE_EVERY
from infra.local.readiness import UNREACHABLE, why_not_ready
from infra.timestamps import now
from tests.infra.broker.configured import JETSTREAM, ConfiguredBroker, configured
from tests.metrics import value
from tests.shop import PATIENCE_S, Shop, attempts

FINE = JETSTREAM
USERS = f"""{JETSTREAM}
authorization {{ users: [{{ user: ann, password: "p@ss", permissions: {{ %s }} }}] }}"""


@contextlib.asynccontextmanager
async def point_svc(folder: Path, broker: ConfiguredBroker) -> AsyncIterator[Shop]:
    """The service alone at this broker, not ready yet."""
    shop = Shop(folder, NATS_URL=f"nats://ann:p%40ss@127.0.0.1:{broker.port}")
    try:
        await shop.start("point", ready=False)
        yield shop
    finally:
        await shop.close()


async def until_not_ready(shop: Shop, *causes: str) -> None:
    """Returns once the service says all of this. It must not have been ready before."""
    async for _ in attempts(f"the cause {causes}"):
        told = await asyncio.to_thread(why_not_ready, shop.url("point", ""))
        assert told is not None
        if told != UNREACHABLE and all(cause in told for cause in causes):
            return


@pytest.mark.parametrize(
    ("configuration", "causes"),
    [
        pytest.param(USERS % 'publish: { deny: "$JS.ACK.>" }', ["publish to $JS.ACK.EVENTS.point-hears-"], id="acks"),
        pytest.param(USERS % 'publish: { deny: "point.>" }', ["publish to point.deposited.", "Grant"], id="facts"),
        pytest.param(USERS % 'publish: { deny: "dead.>" }', ["publish to dead.point.", "Grant"], id="dead letters"),
        pytest.param(
            USERS % 'publish: { deny: "$JS.API.CONSUMER.MSG.NEXT.>" }',
            ["CONSUMER.MSG.NEXT.EVENTS.point"],
            id="pulls",
        ),
        pytest.param(
            USERS % 'publish: { deny: "$JS.API.STREAM.INFO.>" }',
            ["STREAM.INFO.EVENTS", "Grant"],
            id="API",
        ),
        pytest.param(USERS % 'subscribe: { deny: "_INBOX.>" }', ["subscribe to _INBOX.", "Grant"], id="inboxes"),
        pytest.param(f"{FINE}\nmax_payload: 8192", ["max_payload is 8192", "131072"], id="payload"),
        pytest.param("", ["nobody answers for JetStream", "-js"], id="no JetStream"),
        pytest.param(
            "jetstream { store_dir: $STORE, max_file_store: 20MB }",
            ["insufficient storage", "EVENTS_MAX_BYTES", "max_file_store"],
            id="a smaller disk",
        ),
        pytest.param(
            f"""{JETSTREAM}
            accounts {{ A {{ jetstream {{ max_store: 20MB }}, users: [{{ user: ann, password: "p@ss" }}] }} }}""",
            ["insufficient storage", "EVENTS_MAX_BYTES"],
            id="a smaller account",
        ),
        pytest.param(
            f"""{JETSTREAM}
            accounts {{ A {{ users: [{{ user: ann, password: "p@ss" }}] }} }}""",
            ["JetStream not enabled for account"],
            id="an account without JetStream",
        ),
        pytest.param(
            f"""{JETSTREAM}
            accounts {{ A {{ jetstream {{ max_streams: 1 }}, users: [{{ user: ann, password: "p@ss" }}] }} }}""",
            ["maximum number of streams reached", "max_streams"],
            id="one stream",
        ),
        pytest.param(
            f"{FINE}\nauthorization {{ user: ann, password: other }}", ["refuses the user and password"], id="password"
        ),
    ],
)
async def test_it_is_named_and_the_service_is_not_ready_until_it_is_mended(
    tmp_path: Path, configuration: str, causes: list[str]
) -> None:
    async with configured(tmp_path, configuration) as broker, point_svc(tmp_path, broker) as shop:
        await until_not_ready(shop, *causes)
        async for _ in attempts("the log to say it"):  # a line of the log may come later than an answer
            if "the broker cannot be used" in (log := shop.log("point").read_text()):
                break
        assert causes[0] in log
        assert "p@ss" not in log

        await broker.stop()
        broker.configuration = FINE
        await broker.start_nats()
        await shop.ready("point")


@pytest.mark.parametrize(
    ("configuration", "cause"),
    [
        pytest.param(USERS % 'publish: { deny: "$JS.ACK.>" }', "publish to $JS.ACK.EVENTS.point-hears-", id="acks"),
        pytest.param(USERS % 'publish: { deny: "point.>" }', "publish to point.deposited.", id="facts"),
    ],
)
async def test_what_changes_while_it_runs_is_noticed(tmp_path: Path, configuration: str, cause: str) -> None:
    fine = USERS % ""
    async with configured(tmp_path, fine) as broker, point_svc(tmp_path, broker) as shop:
        await shop.ready("point")

        broker.reload(configuration)
        async for _ in attempts(cause):
            if cause in (await asyncio.to_thread(why_not_ready, shop.url("point", "")) or ""):
                break

        broker.reload(fine)
        await shop.ready("point")


async def test_live_subscribers_get_few_probes_of_facts(shop: Shop) -> None:
    looks, probes = 0, 0
    enough = asyncio.Event()

    async def note(message: Msg) -> None:
        nonlocal looks, probes
        looks += message.subject.startswith("$JS.ACK.")
        probes += message.subject == "point.used.0"
        if looks == PROBE_EVERY:
            enough.set()

    async with shop.broker() as nc:
        for subject in ("$JS.ACK.EVENTS.point-hears-product-reserved.1.0.0.0.0", "point.used.>"):
            await nc.subscribe(subject, cb=note)
        await asyncio.wait_for(enough.wait(), PATIENCE_S)

    assert probes <= 1


@pytest.mark.parametrize(
    ("stream", "setting", "value", "causes"),
    [
        ("EVENTS", "max_age", 3_600, ["EVENTS exists with settings that the guarantees exclude: max_age is 3600"]),
        ("EVENTS", "max_msg_size", 2_000, ["EVENTS takes messages of up to 2000 bytes", "--max-msg-size=65536"]),
        ("DEAD", "max_age", 3_600, ["DEAD exists with settings that the guarantees exclude: max_age is 3600"]),
    ],
)
async def test_a_stream_that_is_edited_while_it_runs_is_noticed(
    shop: Shop, stream: str, setting: str, value: int, causes: list[str]
) -> None:
    async with shop.broker() as nc:
        js = nc.jetstream()
        config = (await js.stream_info(stream)).config
        before = getattr(config, setting)
        setattr(config, setting, value)
        await js.update_stream(config)
        async for _ in attempts(f"{causes}"):
            told = await asyncio.to_thread(why_not_ready, shop.url("point", "")) or ""
            if all(cause in told for cause in (*causes, f"nats stream edit {stream}")):
                break

        setattr(config, setting, before)
        await js.update_stream(config)
        await shop.ready()


async def test_a_paused_consumer_is_not_ready_also_after_a_restart(shop: Shop) -> None:
    until = (now() + timedelta(hours=1)).astimezone(UTC).isoformat().replace("+00:00", "Z")
    async with shop.broker() as nc:
        await nc.jetstream().pause_consumer("EVENTS", "point-hears-product-reserved", until)
        await until_paused(shop)
        await shop.kill("point")
        await shop.start("point", ready=False)
        await until_not_ready(
            shop,
            "the consumer point-hears-product-reserved is paused until",
            "nats consumer resume EVENTS point-hears-product-reserved",
        )
        assert "consumer paused" in shop.log("point").read_text()
        metrics = (await shop.get("point", "/metrics")).text
        assert (value(metrics, "saga_ready", reason="consumer"), value(metrics, "saga_ready", reason="broker")) == (
            0,
            1,
        )

        await nc.jetstream().resume_consumer("EVENTS", "point-hears-product-reserved")
        await shop.ready("point")


async def test_a_read_model_that_gets_nothing_is_a_warning(shop: Shop) -> None:
    until = (now() + timedelta(hours=1)).astimezone(UTC).isoformat().replace("+00:00", "Z")
    async with shop.broker() as nc:
        await nc.jetstream().pause_consumer("EVENTS", "product-popular-hears-order-confirmed", until)

    async for _ in attempts("the warning"):
        ready = (await shop.get("product", "/readyz")).json()
        assert ready["ready"]
        if any(
            "product-popular consumes nothing: the consumer product-popular-hears-order-confirmed is paused" in one
            for one in ready["warnings"]
        ):
            return


async def test_a_look_up_that_is_denied_is_a_warning(tmp_path: Path) -> None:
    async with (
        configured(tmp_path, USERS % 'publish: { deny: "$JS.API.DIRECT.GET.EVENTS" }') as broker,
        point_svc(tmp_path, broker) as shop,
    ):
        await shop.start("order")
        await shop.ready("point")
        placed = await shop.place([("mug", 1)])
        view = await shop.order(placed.json()["order_id"])
        assert (view["status"], view["steps"]) == ("PENDING", None)

        ready = (await shop.get("order", "/readyz")).json()
        assert "denies its user what is needed: publish to $JS.API.DIRECT.GET.EVENTS" in ready["warnings"][0]
        assert ready["ready"]
        assert value((await shop.get("order", "/metrics")).text, "saga_permission_denied_total", kind="publish") == 1


async def until_paused(shop: Shop) -> None:
    async for _ in attempts("the pause to be noticed"):
        if "is paused until" in ((await asyncio.to_thread(why_not_ready, shop.url("point", ""))) or ""):
            return
