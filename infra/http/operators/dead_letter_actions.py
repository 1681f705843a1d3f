"""Counts operators' requests about dead letters by what followed."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

from nats.errors import Error as NatsError

from infra.broker.troubles import describe
from infra.consuming.retry_queue import SessionOver
from infra.core.errors import StoreUnavailable
from infra.http.problems import Problem, unavailable
from infra.metrics import Counter, Labels, Metrics
from infra.store.errors import StoreError

ACTIONS: Final = ("preview", "redrive", "drop")
OUTCOMES: Final = ("done", "fails", "refused", "unavailable", "error")
"""By what is asked for, and what follows, requests are counted.

`fails`: a dead letter is rejected again. `error`: a bug ended it, or it was broken off.
"""


def actions(metrics: Metrics) -> dict[Labels, Counter]:
    return metrics.counters_by(
        "saga_dead_letter_actions_total",
        "Operators' requests about dead letters, by what was asked for and what followed.",
        ("action", "outcome"),
        [(action, outcome) for action in ACTIONS for outcome in OUTCOMES],
    )


@contextlib.contextmanager
def count_action(actions: Mapping[Labels, Counter], action: str) -> Iterator[list[str]]:
    """Count a request for `action` (of ACTIONS) by its outcome (of OUTCOMES), at the end of the context.

    The outcome is the first that the block adds to the yielded list, or that of the block's error, or else `done`.
    Errors of the broker or the store become Problem (503).
    """
    outcomes: list[str] = []
    try:
        with _or_unavailable():
            yield outcomes
    except Problem as problem:
        outcomes.append("unavailable" if problem.body.status == 503 else "refused")
        raise
    except BaseException:
        outcomes.append("error")
        raise
    finally:
        actions[action, next(iter(outcomes), "done")].value += 1


@contextlib.contextmanager
def _or_unavailable() -> Iterator[None]:
    """Raise Problem (503) in place of an error of the broker or the store that the context raises."""
    try:
        yield
    except (SessionOver, StoreUnavailable, StoreError, NatsError, OSError) as error:
        raise unavailable(
            f"dead letters cannot be handled now: {describe(error)}; retry after the given delay"
        ) from error
