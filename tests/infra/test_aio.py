"""Waiting with a limit, the first of several coroutines, and pauses with jitter."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from itertools import repeat

import pytest

from infra import aio
from infra.aio import Alarm, Backoff, first_of, in_thread, wait


async def test_an_event_that_is_set_in_time_is_true() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)

    assert await wait(event, 5)


async def test_an_event_that_is_not_set_in_time_is_false() -> None:
    assert not await wait(asyncio.Event(), 0.01)


async def test_without_a_limit_the_wait_lasts_until_the_event() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, event.set)

    assert await wait(event, None)


async def test_a_call_in_a_thread_returns_and_raises_what_the_call_does() -> None:
    assert await in_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_canceled_waits_for_the_call_in_the_thread_however_often(fails: bool) -> None:
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        go.wait()
        ended.set()
        assert not fails

    caller = asyncio.create_task(in_thread(call))
    await asyncio.to_thread(began.wait)
    for _ in range(3):
        caller.cancel()
        await asyncio.wait([caller], timeout=0.01)
    waited = not caller.done()
    go.set()

    assert waited
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_an_alarm_sets_the_event_at_the_earliest_of_its_times_and_can_be_set_again() -> None:
    event = asyncio.Event()
    alarm, now = Alarm(event), asyncio.get_running_loop().time()

    for _ in range(2):
        event.clear()
        alarm.at(now + 3600)
        alarm.at(now)
        alarm.at(now + 7200)

        assert await wait(event, 5)


async def test_an_alarm_that_is_put_off_takes_no_second_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    alarm, call_at, timers = Alarm(asyncio.Event()), loop.call_at, 0

    def counted(when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        nonlocal timers
        timers += 1
        return call_at(when, callback)

    monkeypatch.setattr(loop, "call_at", counted)
    for later in range(5):
        alarm.at(1e9 + later)

    assert timers == 1


async def test_the_first_to_end_ends_the_others() -> None:
    ended: list[str] = []

    async def other() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)  # its end is awaited
            ended.append("other")

    await first_of(asyncio.sleep(0.01), other(), other())

    assert ended == ["other", "other"]


async def test_the_error_of_the_first_is_raised() -> None:
    async def failing() -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await first_of(asyncio.sleep(60), failing())


async def test_of_errors_at_the_same_time_the_earliest_argument_counts() -> None:
    async def failing(text: str) -> None:
        raise ValueError(text)

    for _ in range(20):
        with pytest.raises(ValueError, match="a"):
            await first_of(failing("a"), failing("b"))


async def test_an_error_after_the_first_end_is_not_raised() -> None:
    async def failing_late() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("late")

    await first_of(asyncio.sleep(0.01), failing_late())


async def test_cancelling_cancels_all() -> None:
    cancelled: list[int] = []

    async def waiting(number: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    race = asyncio.create_task(first_of(waiting(1), waiting(2)))
    await asyncio.sleep(0.01)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race

    assert sorted(cancelled) == [1, 2]


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 0.5, chance=repeat(1.0).__next__)

    assert [backoff.next_s() for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_the_jitter_takes_away_at_most_its_share() -> None:
    backoff = Backoff(0.1, 0.5, 0.8, chance=repeat(0.0).__next__)

    assert [backoff.next_s() for _ in range(2)] == pytest.approx([0.08, 0.16])
    drawn = [Backoff(1.0, 1.0).next_s() for _ in range(200)]
    assert 0.5 <= min(drawn) < 0.6
    assert 0.9 < max(drawn) <= 1.0


def test_after_a_success_the_first_pause_comes_again() -> None:
    backoff = Backoff(0.1, 0.5, chance=repeat(1.0).__next__)
    for _ in range(3):
        backoff.next_s()

    backoff.reset()

    assert backoff.next_s() == pytest.approx(0.1)


def test_the_longest_pause_can_be_asked_for_at_once() -> None:
    backoff = Backoff(0.1, 0.5, chance=repeat(1.0).__next__)

    backoff.longest()

    assert backoff.next_s() == pytest.approx(0.5)


async def test_a_task_that_drops_its_first_cancellation_is_canceled_again() -> None:
    dropped = 0

    async def stubborn() -> None:
        nonlocal dropped
        while dropped < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                dropped += 1
        await asyncio.Event().wait()

    async def ends() -> None:
        await asyncio.sleep(0)

    await first_of(ends(), stubborn())

    assert dropped == 2


async def test_one_within_another_ends_only_when_its_own_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outer one cancels the inner one again while that waits for a task which dropped a cancellation."""
    monkeypatch.setattr(aio, "CANCEL_AGAIN_S", 0.01)
    dropped, ended = 0, False

    async def stubborn() -> None:
        nonlocal dropped, ended
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            dropped += 1
            await asyncio.Event().wait()
        finally:
            ended = True

    await first_of(asyncio.sleep(0), first_of(stubborn(), asyncio.Event().wait()))

    assert (dropped, ended) == (1, True)


async def test_who_is_canceled_while_the_others_end_is_canceled_once_they_have_ended() -> None:
    begun, ended = asyncio.Event(), False

    async def slow() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            ended = True

    race = asyncio.create_task(first_of(asyncio.sleep(0), slow()))
    await begun.wait()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race

    assert ended
