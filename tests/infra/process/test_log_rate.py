"""A complaint is shown at once, then counted; others are never hidden by it."""

import logging
import random

from infra.process.log_rate import FIRST_WINDOW_S, KINDS_A_WINDOW, LONGEST_WINDOW_S, LogRate, Suppressed

WARNING = logging.WARNING


def test_the_first_is_shown_and_the_others_are_counted() -> None:
    rate = LogRate()

    assert [rate.shows("poison", "o1", WARNING, 0.0) for _ in range(30)] == [True] + 29 * [False]
    assert rate.due(FIRST_WINDOW_S - 0.1) == []
    assert rate.due(FIRST_WINDOW_S) == [Suppressed("poison", WARNING, 29, FIRST_WINDOW_S)]
    assert rate.due(FIRST_WINDOW_S) == []


def test_other_complaints_are_shown() -> None:
    rate = LogRate()
    rate.shows("poison", "o1", WARNING, 0.0)

    assert rate.shows("disk full", "", WARNING, 0.0)
    assert rate.shows("poison", "o2", WARNING, 0.0)


def test_many_kinds_of_one_event_are_bounded() -> None:
    rate = LogRate()

    shown = [rate.shows("poison", f"o{number}", WARNING, 0.0) for number in range(5_000)]

    assert sum(shown) == KINDS_A_WINDOW
    assert rate.due(FIRST_WINDOW_S)[0].lines == 5_000 - KINDS_A_WINDOW


def test_a_complaint_that_goes_on_is_told_ever_more_seldom_and_one_that_stops_begins_anew() -> None:
    rate, told = LogRate(), []
    for second in range(1_000):
        told += [found.seconds for found in rate.due(second)]
        rate.shows("poison", "o1", WARNING, second)

    assert told[:5] == [10, 20, 40, 80, 160]
    assert set(told[5:]) == {LONGEST_WINDOW_S}
    rate.due(2_000)
    rate.due(3_000)
    assert rate.shows("poison", "o1", WARNING, 3_000)
    assert rate.due(3_000 + FIRST_WINDOW_S) == []


def test_every_line_is_shown_or_counted_once() -> None:
    chance = random.Random(7)
    for _ in range(50):
        rate, now, shown, counted, lines = LogRate(), 0.0, 0, 0, 0
        for _ in range(500):
            now += chance.choice([0.0, 0.5, 30.0])
            counted += sum(found.lines for found in rate.due(now))
            shown += rate.shows(chance.choice("abc"), chance.randrange(20), WARNING, now)
            lines += 1
        counted += sum(found.lines for found in rate.due(now + LONGEST_WINDOW_S))
        assert shown + counted == lines
