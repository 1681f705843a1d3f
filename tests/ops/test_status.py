"""`orders status`: one sentence, what is wrong, since when, and the next step; with services and broker away, too."""

import asyncio
import json
import os
import shutil
import signal
import sys
from math import inf
from pathlib import Path

import pytest

from infra.local.services import ROOT
from infra.timestamps import now
from ops.client import ServiceAddress
from ops.errors import Unreachable
from ops.status.command import as_json, concern_lines, rate_lines, screen
from ops.status.figures import figures, quantile, service_figures
from ops.status.health import Health, duration, judge
from ops.status.seen import Look, Samples, SeenService
from ops.status.seen import look as seen_at
from tests.ops.asking import orders, told
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import PATIENCE_S, Shop, attempts

NAMES = ("order", "product", "point", "coupon")
BUCKETS = "saga_order_end_duration_seconds_bucket"


def seen(name: str, text: str = "", **told: object) -> SeenService:
    lines = "".join(f"{line}\n" for line in ("saga_broker_connected 1", *text.splitlines()))
    found: dict[str, object] = {"samples": Samples(lines), **told}
    return SeenService(ServiceAddress(name, f"http://{name}"), **found)  # type: ignore[arg-type]


def look(at: float, **changed: SeenService) -> Look:
    return Look(at, tuple(changed.get(name) or seen(name) for name in NAMES))


def health(before: Look, after: Look) -> Health:
    return judge(before, after, figures(before, after))


def well(**changed: SeenService) -> Health:
    return health(look(0), look(2, **changed))


# The sentence ---------------------------------------------------------------------------------------------------------


def test_all_is_well() -> None:
    before = seen("order", f'saga_orders_accepted_total 10\n{BUCKETS}{{le="0.05"}} 3\n{BUCKETS}{{le="+Inf"}} 3')
    after = seen("order", f'saga_orders_accepted_total 30\n{BUCKETS}{{le="0.05"}} 23\n{BUCKETS}{{le="+Inf"}} 23')

    found = health(look(0, order=before), look(2, order=after))

    assert found == Health("All is well: 10.0 orders/s, 99 % end within 50 ms, nothing waits.", ())
    assert concern_lines(found) == ["needs attention: nothing"]


def test_the_cause_comes_first_and_what_waits_because_of_it() -> None:
    order = seen(
        "order", "saga_orders_pending 3\nsaga_oldest_pending_order_age_seconds 41", warnings=("point is slow",)
    )

    found = well(order=order, point=seen("point", trouble="point_svc cannot be reached", samples=Samples()))

    assert found.sentence == (
        "point_svc cannot be reached; meanwhile 3 orders are in flight, the oldest for 41 s; and 1 more."
    )
    assert [one.what for one in found.concerns][1:2] == ["point is slow"]
    assert "just service point" in "\n".join(concern_lines(found))


CAUSES = {
    "dead letters": ("point", "", ("point has 1 dead letters",)),
    "no answers": ("order", "", ("point_svc has not answered since 12:03:05 UTC",)),
    "relay": ("point", "saga_relay_lag_seconds 6", ()),
    "consumer": ("point", 'saga_consumer_lag_seconds{consumer="point-hears-x"} 11', ()),
}


@pytest.mark.parametrize(("name", "text", "warnings"), CAUSES.values(), ids=CAUSES)
def test_what_holds_orders_up_comes_before_the_orders_that_wait(
    name: str, text: str, warnings: tuple[str, ...]
) -> None:
    late = "saga_orders_pending 3\nsaga_oldest_pending_order_age_seconds 41"
    (cause,) = well(**{name: seen(name, text, warnings=warnings)}).concerns

    found = well(**{"order": seen("order", late), name: seen(name, f"{text}\n{late}", warnings=warnings)})

    assert found.sentence == f"{cause.what}; meanwhile 3 orders are in flight, the oldest for 41 s."


def test_a_dead_letter_comes_before_what_order_svc_says_of_its_service() -> None:
    order, point = (seen(name, warnings=(text,)) for name, text in (("order", "point is silent"), ("point", "dead")))

    assert [one.what for one in well(order=order, point=point).concerns] == ["dead", "point is silent"]


def test_what_all_services_warn_of_is_one_concern() -> None:
    found = well(**{name: seen(name, warnings=("the archive's bucket is away", f"{name} lags")) for name in NAMES})

    assert [one.what for one in found.concerns] == [
        *("the archive's bucket is away", "product lags", "point lags", "coupon lags", "order lags"),
    ]


def test_a_broker_that_is_gone_is_one_concern_of_all_services() -> None:
    away = {
        name: seen(name, not_ready="no session with the broker", samples=Samples('saga_ready{reason="broker"} 0\n'))
        for name in NAMES
    }

    assert well(**away).sentence == "all services: no session with the broker."
    assert well(point=away["point"]).sentence == "point_svc: no session with the broker."


NOT_WELL = {
    "not ready": (seen("point", not_ready="the store cannot record: disk full"), "point_svc is not ready: the store"),
    "another store": (
        seen("point", 'saga_ready{reason="broker"} 0\nsaga_ready{reason="log_lost"} 0', not_ready="another store"),
        "point_svc is not ready: another store",
    ),
    "warning": (seen("point", warnings=("point has 2 dead letters",)), "point has 2 dead letters"),
    "dead letters": (
        seen("point", 'saga_dead_letters{consumer="point"} 2', not_ready="full"),
        "point_svc has 2 dead letters",
    ),
    "relay": (seen("point", "saga_relay_lag_seconds 6"), "point_svc has not published a fact for 6 s"),
    "consumer": (seen("point", 'saga_consumer_lag_seconds{consumer="point-hears-x"} 11'), "point-hears-x lags by 11 s"),
    "compensation": (
        seen("order", "saga_orders_uncompensated 1\nsaga_oldest_uncompensated_order_age_seconds 3600"),
        "1 order is canceled and not compensated, the oldest for 60 min",
    ),
    "stream": (
        seen("order", 'saga_stream_bytes{stream="EVENTS"} 81\nsaga_stream_limit_bytes{stream="EVENTS"} 100'),
        "the stream's newest generation is full by 81%",
    ),
    "audit": (seen("order", "saga_audit_good 0"), "the last audit has findings"),
}


@pytest.mark.parametrize(("bad", "told"), NOT_WELL.values(), ids=NOT_WELL)
def test_each_trouble_is_a_concern_with_a_next_step(bad: SeenService, told: str) -> None:
    found = well(**{bad.service.name: bad})

    concern = next(one for one in found.concerns if one.what.startswith(told))
    assert concern.next_step
    assert concern.commands


def test_just_under_their_limits_nothing_needs_attention() -> None:
    order = seen(
        "order",
        "saga_oldest_pending_order_age_seconds 5\nsaga_oldest_uncompensated_order_age_seconds 10\n"
        "saga_relay_lag_seconds 5\nsaga_consumer_lag_seconds 10\nsaga_audit_good 1\n"
        "saga_stream_bytes 80\nsaga_stream_limit_bytes 100\nsaga_clock_backward_total 7",
    )

    assert health(look(0, order=order), look(2, order=order)).well


def test_a_clock_that_was_set_back_is_named() -> None:
    before, after = (seen("point", f"saga_clock_backward_total {count}") for count in (3, 4))

    assert health(look(0, point=before), look(2, point=after)).sentence.startswith("the clock of point_svc lags")
    assert well(point=after).well, "a service that was seen for the first time"


def test_the_services_own_words_about_its_clock_are_a_cause_and_come_once() -> None:
    told = "the clock of point_svc lags that of others by 300 s, or was set back"
    before, after = (seen("point", f"saga_clock_backward_total {count}", warnings=(told,)) for count in (3, 4))
    order = seen("order", "saga_orders_pending 1\nsaga_oldest_pending_order_age_seconds 9")

    found = health(look(0, point=before), look(2, point=after, order=order))

    assert found.sentence == f"{told}; meanwhile 1 order is in flight, the oldest for 9 s."
    assert [one.what for one in found.concerns].count(told) == 1
    assert found.concerns[0].commands == ("date -u",)


# Figures --------------------------------------------------------------------------------------------------------------


def test_rates_are_those_between_the_looks_also_over_a_restart() -> None:
    before = seen("order", 'saga_orders_accepted_total 100\nsaga_orders_ended_total{end="confirmed"} 90')
    after = seen("order", 'saga_orders_accepted_total 8\nsaga_orders_ended_total{end="confirmed"} 94')

    found = figures(look(10, order=before), look(14, order=after))

    assert (found.window_s, found.accepted, found.confirmed) == (4, 2, 1)
    assert found.end_p50_s is None
    assert "no order ended" in rate_lines(found)[0]


def test_ends_are_told_by_reason_refusals_by_cause_and_compensations_by_time() -> None:
    name = "saga_order_compensation_duration_seconds_bucket"
    counted = (
        'saga_orders_ended_total{{end="canceled",reason="points-insufficient"}} {0}\n'
        'saga_orders_ended_total{{end="canceled",reason="coupon-expired"}} 7\n'
        'saga_orders_ended_total{{end="confirmed",reason="none"}} {0}\n'
        'saga_orders_refused_total{{cause="overload"}} {0}\nsaga_orders_refused_total{{cause="invalid"}} 3\n'
        f'{name}{{{{le="1"}}}} {{0}}\n{name}{{{{le="+Inf"}}}} {{0}}'
    )
    before, after = (seen("order", counted.format(count)) for count in (10, 30))

    found = figures(look(0, order=before), look(10, order=after))

    assert found.reasons == {"points-insufficient": 2}
    assert found.refusals == {"overload": 2}
    assert (found.compensated_p50_s, found.compensated_p99_s) == (0.5, 0.99)


def test_when_the_stream_is_full_at_this_rate() -> None:
    told = "saga_orders_accepted_total 0\nsaga_stream_limit_bytes 1000\nsaga_stream_bytes"
    before, after = (seen("order", f"{told} {n}") for n in (100, 200))

    found = figures(look(0, order=before), look(10, order=after))

    assert found.full_in_s == 80
    assert "full in 80 s at this rate unless it rolls over" in rate_lines(found)[2]


def test_a_quantile_is_within_its_bucket() -> None:
    buckets = [(1.0, 10.0), (2.0, 20.0), (inf, 20.0)]

    assert quantile(buckets, 0.5) == 1
    assert quantile(buckets, 0.75) == 1.5
    assert quantile([(1.0, 0.0), (inf, 5.0)], 0.5) == 1, "above the last bound"
    assert quantile([(1.0, 0.0), (inf, 0.0)], 0.5) is quantile([], 0.5) is None


def test_a_service_that_is_away_has_no_figures() -> None:
    away = seen("point", trouble="gone", samples=Samples())

    states = {one.service: one.state for one in service_figures(look(0), look(2, point=away))}

    assert states == {"order_svc": "ready", "product_svc": "ready", "point_svc": "away", "coupon_svc": "ready"}


def test_without_order_svc_nothing_is_said_of_orders_and_the_stream() -> None:
    away = seen("order", trouble="gone", samples=Samples())

    shown = screen(look(0), look(2, order=away), now())

    assert rate_lines(shown.figures) == [
        "orders   unknown, and so is what waits and the stream: order_svc does not say"
    ]
    assert as_json(shown)["figures"] is None


def test_a_look_that_a_service_missed_makes_no_rate_of_what_it_counted_since_its_start() -> None:
    counted = "saga_orders_accepted_total 1e6\n" + "".join(
        f'saga_commit_duration_seconds_bucket{{le="{bound}"}} 1e6\n' for bound in ("0.1", "+Inf")
    )
    missed, answered = look(0.0, order=seen("order", samples=Samples())), look(2.0, order=seen("order", counted))

    assert figures(answered, answered).known
    assert not figures(missed, answered).known
    assert health(missed, answered).sentence == "All is well: how many orders come is not known yet, nothing waits."
    assert service_figures(missed, answered)[0].commit_p99_s is None


GAUGES = ("saga_dead_letters", "saga_stream_bytes", "saga_relay_lag_seconds", "saga_broker_connected")
NO_NUMBERS = ("NaN", "+Inf", "-Inf", "1e308")
NO_BOUNDS = ("", 'le="soon"', 'le="NaN"', 'le="-Inf"')


@pytest.mark.parametrize(
    "metrics",
    [
        *("500 Oops\r\n\r\nno", "200 OK\r\n\r\n<html>", "200 OK\r\n\r\n"),
        "307 Elsewhere\r\nLocation: data:x\r\n\r\n",
        '200 OK\r\n\r\na{x="y",\t="z"} 1',
        *(f"200 OK\r\n\r\nsaga_broker_connected 1\n{name} {value}\n" for name in GAUGES for value in NO_NUMBERS),
        *(f"200 OK\r\n\r\nsaga_broker_connected 1\n{BUCKETS}{{{bound}}} 1\n" for bound in NO_BOUNDS),
    ],
)
async def test_a_service_whose_numbers_are_missing_is_not_well(metrics: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        ready = '200 OK\r\nConnection: close\r\n\r\n{"ready": true, "warnings": 5}'
        writer.write(f"HTTP/1.1 {ready if b'/readyz' in asked else metrics}".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await seen_at({"point": ServiceAddress("point", f"http://127.0.0.1:{port}")}, 5)

    health = judge(found, found, figures(found, found))
    assert health.sentence.startswith(f"point_svc at http://127.0.0.1:{port} ")
    assert "/metrics" in health.sentence
    assert [(one.state, one.known) for one in service_figures(found, found)] == [("ready", False)]


def test_times_are_short() -> None:
    assert [duration(s) for s in (0, 0.061, 41, 119.9, 720, 9_000, 200_000)] == [
        *("0 ms", "61 ms", "41 s", "120 s", "12 min", "2 h", "2 d")
    ]


def test_without_any_service_there_is_no_screen() -> None:
    nobody = Look(1, tuple(seen(name, trouble=f"{name} is away", samples=Samples()) for name in NAMES))

    with pytest.raises(Unreachable, match="no service answers: order is away"):
        screen(nobody, nobody, now())


# A running shop -------------------------------------------------------------------------------------------------------


async def test_a_running_shop_is_well(shop: Shop) -> None:
    await shop.register("mug")
    assert (await shop.place([("mug", 1)])).status_code == 200

    done = await orders(shop, "status")
    found = await told(shop, "status")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("All is well: ")
    assert found["well"]
    assert found["concerns"] == []
    assert found["figures"]["stream_bytes"] > 0
    assert [one["state"] for one in found["services"]] == ["ready"] * 4


async def test_a_service_that_is_stopped_and_a_dead_letter_are_named(shop: Shop) -> None:
    await say(shop, "product.reserved.o1", b"{}", "forged@1")
    await until_parked(shop, 1)

    async with shop.paused("coupon"):
        done = await orders(shop, "status", "--timeout", "0.5")

    assert done.returncode == 1
    assert done.stdout.startswith("coupon_svc at http://127.0.0.1:")
    assert "has not answered GET /readyz within 0.5 s" in done.stdout
    assert "point has 1 dead letters" in done.stdout
    assert "list them with `just dlq ls`" in done.stdout


async def test_a_broker_that_is_gone_is_named_and_so_are_services_that_are(shop: Shop) -> None:
    await shop.kill("nats")
    async for _ in attempts("the broker to be missed"):
        done = await orders(shop, "status", "--json")
        if done.returncode == 1 and "all services: no session with the broker" in json.loads(done.stdout)["sentence"]:
            break
    for name in NAMES:
        await shop.kill(name)

    done = await orders(shop, "status")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("no service answers: order_svc at http://127.0.0.1:")
    assert "Is the system running (`just up`)" in done.stderr


async def test_a_store_that_is_another_one_is_named(shop: Shop) -> None:
    store, older = Path(shop.env["DATA_DIR"]) / "point", shop.folder / "older"
    await shop.register("mug")
    await shop.charge("u1", 1_000)
    await shop.stop("point")
    shutil.copytree(store, older)
    await shop.start("point")
    assert (await shop.place([("mug", 1)], points=1)).status_code == 200
    await shop.until_quiet()
    await shop.stop("point")
    shutil.rmtree(store)
    shutil.copytree(older, store)
    await shop.start("point", ready=False)

    async for _ in attempts("the store to be named"):
        done = await orders(shop, "status")
        if "this store is another one" in done.stdout:
            break

    assert done.returncode == 1
    assert done.stdout.startswith("point_svc is not ready: no session with the broker: the stream has pointuse-")
    assert "just rebuild point" in done.stdout


async def test_it_can_be_watched_until_ctrl_c(shop: Shop) -> None:
    watching = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "ops.orders", "status", "--watch", "0.2", "--json"],
        cwd=ROOT,
        env={**os.environ, **shop.env, "PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert watching.stdout is not None

    async def sentence() -> str:
        assert watching.stdout is not None
        return str(json.loads(await watching.stdout.readline())["sentence"])

    try:
        async with asyncio.timeout(PATIENCE_S):
            assert (await sentence()).startswith("All is well")
            await shop.kill("coupon")
            while "coupon_svc" not in await sentence():
                pass
        watching.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(watching.wait(), PATIENCE_S) == 0
    finally:
        if watching.returncode is None:
            watching.kill()
            await watching.wait()
