"""What is measured of a batch: commands, deliveries and the facts that answer them; no time is negative."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from contracts import Fact, PointUsed, ProductReserved
from contracts.wire import NAMES
from infra.broker.consumers import consumer_name
from infra.core.messages import Delivery, StreamPosition
from infra.core.unit_of_work import Delivered, Requested
from infra.metrics import Metrics
from infra.process.measures import Measures
from infra.store.errors import Conflict
from infra.timestamps import microseconds
from point_svc.reactions import REACTIONS
from tests.contracts.examples import WRITTEN
from tests.infra.purse import NOON
from tests.metrics import exposed, value

HEARD, ANSWER = (next(one for one in WRITTEN if type(one) is kind) for kind in (ProductReserved, PointUsed))
CONSUMER = consumer_name("point", NAMES[ProductReserved])
STORED = NOON - timedelta(milliseconds=3)


class Acknowledging:
    """That of a consumer of a later generation: it is measured together with the earlier ones."""

    name, durable = f"{CONSUMER}@3", CONSUMER


def measured(
    heard_at: datetime, stored_at: datetime, outcome: Sequence[Fact] | Exception, retried: int | None = None
) -> str:
    """What is exported after one delivery, whose fact was decided and stored then, is decided at noon.

    `retried`: it has this number, and is tried again.
    """
    metrics = Metrics()
    measures = Measures("point", [NAMES[kind] for kind in REACTIONS], REACTIONS, lambda: NOON, metrics)
    heard: Any = replace(HEARD, at=heard_at)
    command = REACTIONS[ProductReserved](heard, NOON, "cause@1")
    acknowledger: Any = Acknowledging()
    delivery = Delivery("id@1", b"", "", StreamPosition(1, microseconds(stored_at)), "product.reserved.key")
    nobody: Any = None
    source = (
        Delivered(delivery, acknowledger)
        if retried is None
        else Requested(command, nobody, delivery._replace(number=retried))
    )
    measures.settled([(command, source)], [outcome])
    return exposed(metrics)


def test_a_delivery_is_timed_from_the_stream_and_its_answer_from_the_cause() -> None:
    text = measured(NOON - timedelta(milliseconds=20), STORED, [replace(ANSWER, at=NOON)])

    assert value(text, "saga_hear_delay_seconds_sum", consumer=CONSUMER) == 0.003
    assert value(text, "saga_step_duration_seconds_sum", fact="point.used") == 0.02
    assert value(text, "saga_commit_batch_size_count") == 1
    assert value(text, "saga_clock_backward_total") == 0


def test_a_message_that_was_tried_again_is_measured_as_the_slow_one_that_it_is() -> None:
    text = measured(NOON - timedelta(seconds=4), NOON - timedelta(seconds=3), [replace(ANSWER, at=NOON)], retried=7)

    assert value(text, "saga_hear_delay_seconds_sum", consumer=CONSUMER) == 3
    assert value(text, "saga_step_duration_seconds_sum", fact="point.used") == 4


def test_a_redriven_dead_letter_is_not_measured_as_a_slow_step() -> None:
    text = measured(NOON - timedelta(days=4), NOON - timedelta(days=3), [replace(ANSWER, at=NOON)], retried=0)

    assert value(text, "saga_hear_delay_seconds_count") == value(text, "saga_step_duration_seconds_count") == 0


def test_a_time_that_would_be_negative_is_none_and_counted() -> None:
    later = NOON + timedelta(hours=1)

    text = measured(later, later, [replace(ANSWER, at=NOON)])

    assert value(text, "saga_hear_delay_seconds_sum") == value(text, "saga_step_duration_seconds_sum") == 0
    assert value(text, "saga_hear_delay_seconds_count") == value(text, "saga_step_duration_seconds_count") == 1
    assert value(text, "saga_clock_backward_total") == 2


def test_clocks_of_two_machines_that_keep_the_time_are_no_clock_that_was_set_back() -> None:
    later = NOON + timedelta(milliseconds=99)

    text = measured(later, later, [replace(ANSWER, at=NOON)])

    assert value(text, "saga_hear_delay_seconds_sum") == value(text, "saga_step_duration_seconds_sum") == 0
    assert value(text, "saga_clock_backward_total") == 0


def test_a_delivery_that_needs_no_answer_is_heard_and_no_step() -> None:
    text = measured(STORED, STORED, ())

    assert value(text, "saga_hear_delay_seconds_count") == 1
    assert value(text, "saga_step_duration_seconds_count") == 0


def test_a_refused_request_is_a_command_of_the_batch_alone() -> None:
    metrics = Metrics()
    measures = Measures("point", [], REACTIONS, lambda: datetime.now(UTC), metrics)
    nobody: Any = None
    measures.settled([(nobody, Requested(nobody, nobody))] * 3, [ValueError(), (), ()])
    measures.settled([], [])

    text = exposed(metrics)
    assert (value(text, "saga_commit_batch_size_sum"), value(text, "saga_commit_batch_size_count")) == (3, 1)
    assert value(text, "saga_hear_delay_seconds_count") == 0


async def test_appends_are_timed_and_conflicts_counted() -> None:
    metrics = Metrics()

    class Store:
        conflict = False

        def __getattr__(self, name: str) -> None:
            return None

        async def insert_events(self, records: object) -> None:
            if self.conflict:
                raise Conflict

    inner: Any = Store()
    store = Measures("point", [], REACTIONS, lambda: NOON, metrics).measured(inner)
    await store.insert_events([])
    inner.conflict = True
    try:
        await store.insert_events([])
    except Conflict:
        conflicts = 1

    text = exposed(metrics)
    assert value(text, "saga_commit_duration_seconds_count") == 1
    assert value(text, "saga_commit_conflicts_total") == conflicts


def test_a_clock_that_lags_is_warned_of_until_no_effect_shows_it_any_more() -> None:
    now_s = 0.0
    hears = [NAMES[kind] for kind in REACTIONS]
    measures = Measures("point", hears, REACTIONS, lambda: NOON, Metrics(), monotonic=lambda: now_s)

    def lags(by: timedelta) -> None:
        later: Any = replace(HEARD, at=NOON + by)
        delivery = Delivery("id@1", b"", "", StreamPosition(1, microseconds(NOON + by)), "product.reserved.key")
        acknowledger: Any = Acknowledging()
        command = REACTIONS[ProductReserved](later, NOON, "cause@1")
        measures.settled([(command, Delivered(delivery, acknowledger))], [[replace(ANSWER, at=NOON)]])

    lags(timedelta(seconds=0.9))
    assert measures.warnings() == []
    lags(timedelta(seconds=300))
    (warning,) = measures.warnings()
    assert warning.startswith("the clock of point_svc lags that of others by 300 s, or was set back")
    now_s = 60.0
    assert measures.warnings() == [warning]
    now_s = 61.0
    assert measures.warnings() == []

    lags(timedelta(seconds=5))
    now_s = 100.0
    lags(timedelta(seconds=0.5))  # of an effect that came late after its cause
    (warning,) = measures.warnings()
    assert warning.startswith("the clock of point_svc lags that of others by 5 s")
    lags(timedelta(seconds=3))
    now_s = 130.0
    assert measures.warnings() == [warning]
    now_s = 161.0
    lags(timedelta(seconds=4))
    (warning,) = measures.warnings()
    assert warning.startswith("the clock of point_svc lags that of others by 4 s")
