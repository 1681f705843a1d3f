"""`orders status`: one sentence, what is wrong, since when, and the next step; with services and broker away, too."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import AsyncMock

import pytest
from nats.js.api import StreamInfo

from infra.broker.forecast import forecast
from infra.broker.resume import _lost
from infra.broker.troubles import denied
from infra.local.control import controlled
from infra.local.ports import free_ports
from infra.local.services import ROOT
from infra.process.audit_report import DUE_AFTER, AuditGauges
from infra.process.startup import lock
from infra.settings import Settings
from infra.timestamps import now
from ops.client import ServiceAddress
from ops.dashboard.overview import links
from ops.errors import Unreachable
from ops.status.command import as_json, concern_lines, rate_lines, room_lines, screen
from ops.status.concern import duration
from ops.status.figures import Room, figures, quantile, service_figures
from ops.status.health import Health, judge
from ops.status.machine import Machine
from ops.status.seen import Look, Samples, SeenService
from ops.status.seen import look as seen_at
from tests.infra.broker.test_forecast import at as made_at
from tests.infra.broker.test_forecast import generation
from tests.metrics.test_alerts import NAMES as NAMED_ALERTS
from tests.metrics.test_alerts import RULES, Rule
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


def test_while_just_up_runs_it_starts_again_who_does_not_answer() -> None:
    away = look(2, point=seen("point", trouble="point_svc cannot be reached", samples=Samples()))

    (concern,) = health(look(0), away._replace(machine=Machine(up=True))).concerns

    assert concern.commands == ("just roll",)
    assert "start point_svc again, as the running `just up` does at `just roll`" in concern.next_step


@pytest.mark.parametrize(("up", "start"), [(True, "just roll"), (False, "just service point")])
def test_a_process_that_hangs_is_named_before_a_start_that_could_not_succeed(up: bool, start: str) -> None:
    away = look(2, point=seen("point", trouble="point_svc has not answered", samples=Samples()))

    (concern,) = health(look(0), away._replace(machine=Machine(up, {"point": 17}))).concerns

    assert concern.commands == ("kill -CONT 17", "kill -TERM 17", start)
    assert concern.next_step.startswith("process 17 is there and does not answer: ")


async def test_the_process_of_a_service_that_does_not_answer_is_the_one_that_has_its_lock(tmp_path: Path) -> None:
    env = {"DATA_DIR": str(tmp_path)}
    addresses = {name: ServiceAddress(name, f"http://127.0.0.1:{free_ports(1)[0]}") for name in ("point", "coupon")}
    (tmp_path / "coupon").mkdir()
    (tmp_path / "coupon" / "lock").write_text("4711\n")

    with lock(tmp_path / "point"):
        assert (await seen_at(addresses, 5, env)).machine.processes == {"point": os.getpid()}


async def test_just_up_is_looked_for_in_the_data_folder(tmp_path: Path) -> None:
    env = {"DATA_DIR": str(tmp_path)}
    addresses = {"point": ServiceAddress("point", f"http://127.0.0.1:{free_ports(1)[0]}")}

    assert not (await seen_at(addresses, 5, env)).machine.up
    with controlled(env, lambda _: None):
        assert (await seen_at(addresses, 5, env)).machine.up
        assert not (await seen_at(addresses, 5)).machine.up


CAUSES = {
    "dead letters": ("point", "", ("point has 1 dead letter,",)),
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


def test_what_a_service_says_leads_to_its_own_step() -> None:
    silent = "point_svc has not answered since 12:03:05 UTC; 66 orders wait for it"
    lost = seen("coupon", 'saga_ready{reason="log_lost"} 0', not_ready="this store is another one")

    warned = well(order=seen("order", warnings=(silent,))).concerns[0]
    stored = well(coupon=lost).concerns[0]

    assert warned.next_step.startswith("see why point_svc is silent")
    assert warned.commands[0] == "curl -s http://point/readyz"
    assert stored.commands == ("just rebuild coupon",)


async def test_the_sentence_says_the_cause_and_the_command_and_leaves_all_else_to_the_list() -> None:
    store: Any = SimpleNamespace(
        place="/data/coupon/events.sqlite", select_notifications=AsyncMock(return_value=[object()])
    )
    lost = await _lost("coupon", store, "4f" * 16 + "@12", 11_283, 43_586)
    old = seen("coupon", 'saga_ready{reason="log_lost"} 0', not_ready=f"no session with the broker: {lost}")
    late = seen("order", "saga_orders_pending 3\nsaga_oldest_pending_order_age_seconds 41")

    found = well(coupon=old, order=late)

    cause, more, waits = found.sentence.partition(" (just rebuild coupon); meanwhile ")
    assert cause.endswith("but the log has not: this store is another one, or lost its newest records")
    assert more
    assert waits == "3 orders are in flight, the oldest for 41 s."
    assert found.concerns[0].what.endswith(str(lost)), "whole"


def test_no_cause_makes_the_sentence_long() -> None:
    endless = "the broker cannot be reached, " * 50
    found = well(coupon=seen("coupon", not_ready=endless))

    assert len(found.sentence) < 400
    assert found.sentence.startswith("coupon_svc is not ready: the broker cannot be reached, the broker")
    assert "… (curl -s http://coupon/readyz)" in found.sentence
    assert found.concerns[0].what.endswith(endless)


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


def test_the_disk_that_is_looked_at_is_that_of_the_data() -> None:
    for name in ("SagaDiskFillsSoon", "SagaCommitSlow"):
        alerted = CONCERNS[name]
        (concern,) = health(look(0, point=alerted.before), look(2, point=alerted.after)).concerns
        assert concern.commands == ("df -h ${DATA_DIR:-.data}",), name


BROKERS = {
    "the bundled one, ended": (Machine(bundled=True), ("just nats",), "start the bundled broker"),
    "the bundled one, running": (Machine(bundled=True, broker="process 17"), ("just nats-cli-stream",), "process 17"),
    "that of NATS_URL": (Machine(), ("just nats-cli-stream",), "start the broker"),
}


@pytest.mark.parametrize(("machine", "commands", "told"), BROKERS.values(), ids=BROKERS)
def test_a_bundled_broker_that_is_gone_comes_with_what_starts_it(
    machine: Machine, commands: tuple[str, ...], told: str
) -> None:
    away = seen("point", not_ready="no session with the broker", samples=Samples('saga_ready{reason="broker"} 0\n'))

    (concern,) = health(look(0), look(2, point=away)._replace(machine=machine)).concerns

    assert concern.commands == commands
    assert told in concern.next_step


async def test_the_bundled_broker_is_looked_for_by_the_lock_of_its_folder(tmp_path: Path) -> None:
    env = {"DATA_DIR": str(tmp_path)}

    assert (await seen_at({}, 5, env)).machine == Machine(bundled=True)
    with lock(tmp_path / "nats"):
        found = (await seen_at({}, 5, env)).machine
        assert found == Machine(bundled=True, broker=f"process {os.getpid()}")
        assert (await seen_at({}, 5, env | {"NATS_URL": "nats://127.0.0.1:4222"})).machine == Machine()


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


# As the alerts say it -------------------------------------------------------------------------------------------------


def counted(bucket: str, within: float, late: int, of: int) -> str:
    """A histogram of so many values, of which so many are above a bound."""
    return f'{bucket}{{le="{within}"}} {of - late}\n{bucket}{{le="+Inf"}} {of}\n'


COMPENSATIONS = "saga_order_compensation_duration_seconds_bucket"
COMMITS = "saga_commit_duration_seconds_bucket"
HEARS = '{consumer="point-hears-x"}'


def requests(failed: int, good: int = 1_000, refused: int = 500) -> str:
    return "\n".join(
        f'http_server_request_duration_seconds_count{{http_response_status_code="{code}"}} {count}'
        for code, count in (("200", good), ("503", refused), ("500", failed))
    )


def again(count: int, heard: int) -> str:
    return f"saga_consumer_redelivered_total{HEARS} {count}\nsaga_hear_delay_seconds_count{HEARS} {heard}"


def behind(messages: int, lag_s: float) -> str:
    return f"saga_consumer_pending_messages{HEARS} {messages}\nsaga_consumer_lag_seconds{HEARS} {lag_s}"


def refused(count: int, accepted: int) -> str:
    return f'saga_orders_accepted_total {accepted}\nsaga_orders_refused_total{{cause="overload"}} {count}'


def stream_of(size: int, growth: float = 0) -> str:
    return (
        f"saga_orders_accepted_total 0\nsaga_stream_bytes {size}\nsaga_stream_limit_bytes 10000\n"
        f"saga_stream_growth_bytes_per_second {growth}"
    )


def disk_of(free: int, fills: float) -> str:
    return f"saga_data_free_bytes {free}\nsaga_data_fill_bytes_per_second {fills}"


def warning_of_the_stream(infos: Sequence[StreamInfo], days: float) -> SeenService:
    return seen("order", warnings=tuple(forecast(infos, Settings(port=1), made_at(days))))


GENERATIONS = [generation(0, 0, 1), generation(1, 1, 0.01)]
LETTERS = ("point has 1 dead letter, the oldest for 901 s; list them with `just dlq ls`",)
DENIED = (f"point: {denied(['publish to dead.point.o1'])}",)
NOT_READY = "the store cannot record: disk full"


def never_audited() -> tuple[str, ...]:
    none: Any = SimpleNamespace(gauges_by=lambda *_: None)
    settings = SimpleNamespace(data_dir=Path("none"))
    runtime: Any = SimpleNamespace(metrics=none, settings=settings, clock=now, warnings=[], tasks=[])
    gauges = AuditGauges(runtime)
    gauges._began_at = now() - DUE_AFTER
    return tuple(gauges.warnings())


class Alerted(NamedTuple):
    """A service at two looks between which the expression of an alert came true, and the same just under it."""

    before: SeenService
    after: SeenService
    under: SeenService


def gauged(name: str, bad: str, under: str) -> Alerted:
    return Alerted(seen(name), seen(name, bad), seen(name, under))


def rising(name: str, before: str, bad: str, under: str) -> Alerted:
    return Alerted(seen(name, before), seen(name, bad), seen(name, under))


CONCERNS = {
    "SagaOrdersLate": rising(
        "order", counted(BUCKETS, 5, 0, 0), counted(BUCKETS, 5, 2, 1_000), counted(BUCKETS, 5, 1, 1_000)
    ),
    "SagaCompensationsLate": rising(
        "order",
        counted(COMPENSATIONS, 10, 0, 0),
        counted(COMPENSATIONS, 10, 2, 1_000),
        counted(COMPENSATIONS, 10, 1, 1_000),
    ),
    "SagaRequestsFail": rising("point", requests(0, 0, 0), requests(2), requests(1)),
    "SagaOrdersRefused": rising("order", refused(0, 0), refused(11, 989), refused(10, 990)),
    "SagaOrderStuck": gauged(
        "order",
        "saga_orders_pending 3\nsaga_oldest_pending_order_age_seconds 46",
        "saga_orders_pending 3\nsaga_oldest_pending_order_age_seconds 5",
    ),
    "SagaCompensationStuck": gauged(
        "order",
        "saga_orders_uncompensated 3\nsaga_oldest_uncompensated_order_age_seconds 61",
        "saga_orders_uncompensated 3\nsaga_oldest_uncompensated_order_age_seconds 10",
    ),
    "SagaDeadLetters": Alerted(seen("point"), seen("point", warnings=LETTERS), seen("point")),
    "SagaDeadLettersOld": Alerted(seen("point"), seen("point", warnings=LETTERS), seen("point")),
    "SagaRelayBehind": gauged("point", "saga_relay_lag_seconds 5.1", "saga_relay_lag_seconds 5"),
    "SagaConsumerBehind": gauged("point", behind(0, 10.1), behind(0, 10)),
    "SagaConsumerFallsBack": rising("point", behind(5, 3), behind(6, 3), behind(5, 3)),
    "SagaStreamFilling": gauged("order", stream_of(8_001), stream_of(8_000)),
    "SagaStreamFillsSoon": gauged("order", stream_of(5_001, 0.1), stream_of(5_000, 0.1)),
    "SagaDiskFillsSoon": gauged("point", disk_of(86_399, 1), disk_of(86_400, 1)),
    "SagaRollOverOverdue": Alerted(
        seen("order"),
        warning_of_the_stream([generation(0, 0, 1, messages=750_000)], 7),
        warning_of_the_stream([generation(0, 0, 1, messages=749_999)], 7),
    ),
    "SagaGenerationUnsealed": Alerted(
        seen("order"), warning_of_the_stream(GENERATIONS, 1.02), warning_of_the_stream(GENERATIONS, 1.01)
    ),
    "SagaNotReady": Alerted(seen("point"), seen("point", not_ready=NOT_READY), seen("point")),
    "SagaBrokerGone": Alerted(
        seen("point"),
        seen("point", 'saga_ready{reason="broker"} 0', not_ready="no session with the broker: refused"),
        seen("point"),
    ),
    "SagaRedeliveries": rising("point", again(0, 0), again(11, 1_099), again(11, 1_101)),
    "SagaCommitSlow": rising(
        "point", counted(COMMITS, 0.25, 0, 0), counted(COMMITS, 0.25, 2, 100), counted(COMMITS, 0.25, 1, 2)
    ),
    "SagaClockBackward": rising(
        "point", "saga_clock_backward_total 3", "saga_clock_backward_total 4", "saga_clock_backward_total 3"
    ),
    "SagaPermissionDenied": Alerted(seen("point"), seen("point", warnings=DENIED), seen("point")),
    "SagaTargetDown": Alerted(
        seen("point"),
        seen("point", trouble="point_svc at http://127.0.0.1:8003 has not answered GET /readyz within 2 s"),
        seen("point"),
    ),
    "SagaAuditFailed": gauged("order", "saga_audit_good 0", "saga_audit_good 1"),
    "SagaNeverAudited": Alerted(seen("order"), seen("order", warnings=never_audited()), seen("order")),
    "SagaAuditOld": gauged("order", "saga_audit_age_seconds 90001", "saga_audit_age_seconds 90000"),
}
"""What two looks have to find, by the alert that says it, too."""

PROMETHEUS_ALONE = {
    "SagaAuthRejections": "needs a week: what is usual is the median of the last seven days",
    "SagaServiceMissing": "is of Prometheus: its configuration lacks a service",
    "Watchdog": "is of Prometheus: it says that alerts arrive",
}


def test_each_alert_is_a_concern_or_needs_more_than_two_looks() -> None:
    assert not CONCERNS.keys() & PROMETHEUS_ALONE.keys()
    assert {*CONCERNS, *PROMETHEUS_ALONE} == set(NAMED_ALERTS)


@pytest.mark.parametrize("alert", CONCERNS)
def test_what_an_alert_says_is_a_concern_at_the_second_look(alert: str) -> None:
    before, after, under = CONCERNS[alert]
    name = before.service.name

    concerns = health(look(0, **{name: before}), look(2, **{name: after})).concerns

    assert len(concerns) == 1
    assert concerns[0].next_step
    assert concerns[0].commands
    assert health(look(0, **{name: before}), look(2, **{name: under})).well


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.alert)
def test_an_alert_says_what_the_concern_says_and_leads_to_its_page(rule: Rule) -> None:
    if rule.alert in PROMETHEUS_ALONE:
        assert rule.annotations.page.endswith("}}/")
        return
    before, after, _ = CONCERNS[rule.alert]
    name = before.service.name

    found = health(look(0, **{name: before}), look(2, **{name: after}))

    words = re.sub(r"\\{\\{.*?\\}\\}", ".*", re.escape(rule.annotations.summary.partition(";")[0]))
    assert re.fullmatch(f"{words}.*", found.concerns[0].what)
    assert rule.annotations.page.endswith("}}" + (links(found)[0] or "/"))


def test_what_came_before_the_first_look_is_no_concern() -> None:
    for name, (before, after, _) in CONCERNS.items():
        if before.samples.of(BUCKETS) or name in ("SagaRequestsFail", "SagaRedeliveries", "SagaCommitSlow"):
            service = before.service.name
            assert health(look(0, **{service: after}), look(2, **{service: after})).well
            missed = seen(service, trouble="away", samples=Samples())
            assert health(look(0, **{service: missed}), look(2, **{service: after})).well


def test_what_every_service_warns_of_is_one_concern() -> None:
    full = {name: seen(name, warnings=("the broker takes no more facts in about 7 days",)) for name in NAMES}

    assert len(well(**full).concerns) == 1


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


def test_when_the_stream_is_full_at_the_rate_at_which_facts_come() -> None:
    order = seen("order", f"{stream_of(9_200, 10)}\nsaga_broker_free_bytes 11500")

    found = figures(look(0, order=order), look(10, order=order))

    assert found.full_in_s == 80
    assert "full in 80 s at this rate unless it rolls over" in rate_lines(found)[2]
    assert rate_lines(found)[3] == (
        "room     0.0 MB free for the broker, none for another generation in 100 s unless older ones are archived"
    )


def test_of_the_disks_the_one_that_is_full_first_is_told() -> None:
    order, point = seen("order", disk_of(10**9, 0)), seen("point", disk_of(5 * 10**9, 10_000))

    found = figures(look(0), look(2, order=order, point=point))

    assert found.rooms == (Room("the disk of order_svc", 10**9, None), Room("the disk of point_svc", 5 * 10**9, 5e5))
    assert room_lines(found.rooms) == [
        "room     5.0 GB free for the disk of point_svc, full in 6 d at the rate of the last hour"
    ]
    assert room_lines(found.rooms[:1]) == ["room     1.0 GB free for the disk of order_svc, not full at this rate"]
    assert room_lines([]) == []


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
    assert "point has 1 dead letter," in done.stdout
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
