"""When a sink that failed is tried again."""

import pytest

from infra.export.errors import Unavailable
from infra.export.retry_policy import FIRST_S, LONGEST_ASKED_S, RetryPolicy

TROUBLE = Unavailable("it answered 500")
LASTING = Unavailable("it answered 400", lasting=True)


def test_waits_grow_up_to_the_longest_and_are_never_all_the_same() -> None:
    retry = RetryPolicy(most_failures=100, longest_s=2.0, pause_s=60.0)
    waits = [retry.failed(TROUBLE) for _ in range(50)]

    for number, wait_s in enumerate(waits):
        whole = min(2.0, FIRST_S * 2**number)
        assert whole / 2 <= wait_s <= whole
    assert len(set(waits[10:])) > 1


def test_after_too_many_failures_it_pauses_then_probes_once_and_pauses_again() -> None:
    retry = RetryPolicy(most_failures=3, longest_s=2.0, pause_s=60.0)

    assert [retry.failed(TROUBLE) == 60.0 for _ in range(5)] == [False, False, True, True, True]
    assert retry.is_paused


def test_a_success_closes_it_and_forgets_the_failures() -> None:
    retry = RetryPolicy(most_failures=2, longest_s=2.0, pause_s=60.0)
    retry.failed(TROUBLE)
    retry.failed(TROUBLE)
    retry.succeeded()

    assert not retry.is_paused
    assert retry.failed(TROUBLE) < 60.0


def test_what_no_repetition_helps_pauses_it_at_once() -> None:
    retry = RetryPolicy(most_failures=100, longest_s=2.0, pause_s=60.0)

    assert retry.failed(LASTING) == 60.0
    assert retry.is_paused


def test_a_pause_ends_with_a_success_and_not_with_another_failure() -> None:
    retry = RetryPolicy(most_failures=100, longest_s=2.0, pause_s=60.0)
    retry.failed(LASTING)

    assert retry.failed(TROUBLE) == 60.0


@pytest.mark.parametrize(("asked_s", "waits_s"), [(30.0, 30.0), (1e9, LONGEST_ASKED_S)])
def test_what_the_sink_asks_for_is_waited_but_not_for_ever(asked_s: float, waits_s: float) -> None:
    retry = RetryPolicy(most_failures=100, longest_s=2.0, pause_s=10.0)

    assert retry.failed(Unavailable("it answered 429", retry_after_s=asked_s)) == waits_s
    assert not retry.is_paused


def test_what_the_sink_asks_for_makes_no_pause_shorter() -> None:
    retry = RetryPolicy(most_failures=1, longest_s=2.0, pause_s=60.0)

    assert retry.failed(Unavailable("it answered 503", retry_after_s=1.0)) == 60.0
