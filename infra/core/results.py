"""Tells the result of each piece of work to its source: a request's caller, or a delivery's acknowledger."""

from collections.abc import Iterable

from infra.core.errors import StoreUnavailable
from infra.core.unit_of_work import Delivered, Work
from infra.store.errors import StoreError


def defers(source: Work) -> bool:
    """Let the acknowledger take a delivery back if the delivery has to wait for an earlier one of its key.

    Returns whether the work must not be handled: the delivery was taken back, or its session is closed. A request never
    has to wait: False.
    """
    return isinstance(source, Delivered) and (source.acknowledger.closed or source.acknowledger.defers(source.delivery))


def refuse(source: Work, error: Exception) -> None:
    """Tell the source of one piece of work that nothing of it was recorded because of `error`."""
    if isinstance(source, Delivered):
        source.acknowledger.rejected(source.delivery, error)
    elif not source.answer.done():
        source.answer.set_exception(error)


def fail(batch: Iterable[Work], error: StoreError) -> None:
    """Tell all sources of a batch that the store failed: the batch may have been recorded, or not.

    An acknowledger then ends its session; a request's caller gets StoreUnavailable.
    """
    for source in batch:
        if isinstance(source, Delivered):
            source.acknowledger.failed(error)
        elif not source.answer.done():
            source.answer.set_exception(StoreUnavailable(str(error)))


def acknowledge(batch: Iterable[Work]) -> None:
    """Report to each acknowledger that its deliveries in this recorded batch are handled.

    One report, of the last delivery, covers all of a consumer's deliveries before it; the acknowledger itself leaves
    out those that wait. An acknowledger whose session is closed gets no report.
    """
    last = {source.acknowledger: source.delivery for source in batch if isinstance(source, Delivered)}
    for acknowledger, delivery in last.items():
        if not acknowledger.closed:  # a closed session needs none
            acknowledger.handled(delivery)
