"""Tells the sources of work, deliveries and requests, its result."""

from collections.abc import Iterable

from infra.core.errors import StoreUnavailable
from infra.core.unit_of_work import Delivered, Work
from infra.store.errors import StoreError


def defers(source: Work) -> bool:
    """Let the acknowledger take a delivery back if it has to wait; return whether it did, or its session is closed."""
    return isinstance(source, Delivered) and (source.acknowledger.closed or source.acknowledger.defers(source.delivery))


def refuse(source: Work, error: Exception) -> None:
    """Tell it that nothing was recorded because of `error`."""
    if isinstance(source, Delivered):
        source.acknowledger.rejected(source.delivery, error)
    elif not source.answer.done():
        source.answer.set_exception(error)


def fail(batch: Iterable[Work], error: StoreError) -> None:
    """Tell all of a batch that the store failed: it may have been recorded."""
    for source in batch:
        if isinstance(source, Delivered):
            source.acknowledger.failed(error)
        elif not source.answer.done():
            source.answer.set_exception(StoreUnavailable(str(error)))


def acknowledge(batch: Iterable[Work]) -> None:
    """Report the deliveries of a batch that is recorded, except those that wait, to their acknowledgers.

    One acknowledgement covers all of a consumer's deliveries before it.
    """
    last = {source.acknowledger: source.delivery for source in batch if isinstance(source, Delivered)}
    for acknowledger, delivery in last.items():
        if not acknowledger.closed:  # a closed session needs none
            acknowledger.handled(delivery)
