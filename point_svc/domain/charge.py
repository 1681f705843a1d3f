"""A charge puts points into an account, once per idempotency key. One decision covers the charge and the account."""

from typing import ClassVar, assert_never

from msgspec import Struct

from contracts.command import Request
from contracts.fact import MOST
from contracts.ids import keyed_id
from contracts.point import PointCharged, PointDeposited
from point_svc.domain import account

# Events ---------------------------------------------------------------------------------------------------------------
# Stored and published under these names: a name never changes, and a field is only ever added, with a default.
Event = PointCharged


# Commands -------------------------------------------------------------------------------------------------------------
class Charge(Request, frozen=True):
    """Put `amount` points into a customer's account, once per idempotency key."""

    says: ClassVar = (PointDeposited, PointCharged)
    user_id: str
    amount: int
    idempotency_key: str

    @property
    def streams(self) -> tuple[str, ...]:
        return (charge_stream(self.user_id, self.idempotency_key), f"account-{self.user_id}")


Command = Charge


def charge_stream(user_id: str, key: str) -> str:
    return f"charge-{keyed_id(user_id, key)}"


class ChargedDifferently(Exception):
    """This idempotency key was used before, to charge this account with another amount."""


class ChargedTooMuch(Exception):
    """With this charge, all points that charges ever put into the account would exceed MOST."""


# State ----------------------------------------------------------------------------------------------------------------
class State(Struct):
    """What was charged with one customer's idempotency key: `amount` in points, None until there is a charge."""

    amount: int | None = None


# Decide ---------------------------------------------------------------------------------------------------------------
def decide(command: Command, state: State, of_user: account.State) -> tuple[Event | account.Event, ...]:
    match command:
        case Charge(user_id, amount, key):
            if state.amount is not None:
                if state.amount != amount:
                    raise ChargedDifferently(key)
                return ()  # charged already
            if of_user.charged + amount > MOST:
                raise ChargedTooMuch(user_id)
            return (
                PointDeposited(user_id=user_id, points=amount, idempotency_key=key, **command.stamp()),
                PointCharged(user_id=user_id, amount=amount, idempotency_key=key, **command.stamp()),
            )
        case _:
            assert_never(command)


# Evolve ---------------------------------------------------------------------------------------------------------------
def evolve(state: State, event: Event) -> None:
    match event:
        case PointCharged():
            state.amount = event.amount
        case _:
            assert_never(event)
