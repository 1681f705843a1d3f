"""An account has a balance of points. Its event stream is the ledger: what was deposited, debited and credited.

An account decides no command: a charge and an order's use of points are decided over its state (charge.py, use.py).
"""

from typing import assert_never

from msgspec import Struct

from contracts.point import (
    PointCharged,
    PointCredited,
    PointDebited,
    PointDeposited,
    PointRefunded,
    PointUsed,
    PointUseFailed,
    PointUseVoided,
)

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = PointDeposited | PointDebited | PointCredited
Earlier = PointCharged | PointUsed | PointUseFailed | PointRefunded | PointUseVoided
"""What older code recorded in this stream, with no fact of the ledger beside it."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """One customer's account, in points: the `balance`, and `charged`, what all charges put into it together.

    The size of the state does not grow: the answers to orders and charges are kept by their own aggregates.
    """

    balance: int = 0
    charged: int = 0


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event | Earlier) -> None:
    match event:
        case PointDebited() | PointUsed():
            state.balance -= event.points
        case PointCredited() | PointRefunded():
            state.balance += event.points
        case PointDeposited(points=amount) | PointCharged(amount=amount):
            state.balance += amount
            state.charged += amount
        case PointUseFailed() | PointUseVoided():
            pass
        case _:
            assert_never(event)
