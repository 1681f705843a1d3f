"""What every aggregate promises: it folds all its events, decides without touching anything, and answers once.

Each aggregate's commands are decided over each of its histories; what comes of it is the business of the other tests.
"""

import copy
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, get_args

import msgspec
import pytest

import coupon_svc.reactions
import order_svc.domain
import order_svc.reactions
import point_svc.reactions
import product_svc.reactions
from contracts import Fact, ProductStockAdded
from contracts.wire import FACTS, NAMES, said_by
from coupon_svc.domain import coupon
from coupon_svc.domain import use as coupon_use
from infra.core.decider import AnyState, Command, StreamState, category
from order_svc.domain import Cancel, Expire, Place
from point_svc.domain import account, charge
from point_svc.domain import use as point_use
from product_svc.domain import addition, product, reservation
from tests import examples as e
from tests.domain.spec import AGGREGATES, fold, heard_by

STEPS_CANCEL: list[Fact] = [
    e.order_canceled("deadline-exceeded"),
    e.order_canceled("customer-canceled"),
    e.order_canceled("coupon-expired"),
]
order_hears = heard_by(order_svc.reactions.REACTIONS)
product_hears = heard_by(product_svc.reactions.REACTIONS)
point_hears = heard_by(point_svc.reactions.REACTIONS)
coupon_hears = heard_by(coupon_svc.reactions.REACTIONS)

HISTORIES: dict[str, list[Sequence[Fact]]] = {
    "order": [
        (),
        (e.order_created(),),
        (e.order_created(), e.order_confirmed()),
        (e.order_created(), e.order_canceled("deadline-exceeded")),
        (e.order_created(), e.order_confirmed(), e.order_canceled("customer-canceled")),
    ],
    "product": [(), (e.product_registered(),), e.in_stock(10), (*e.in_stock(10), *e.adding(5, "delivery-1"))],
    "addition": [(), e.in_stock(10), (*e.in_stock(10), *e.adding(5, "delivery-1"))],
    "reservation": [
        (),
        e.in_stock(1),
        e.in_stock(10),
        (e.reserve_failed("product-unknown"),),
        (e.reserve_voided(),),
        (*e.in_stock(10), e.stock_held(), e.product_reserved()),
        (*e.in_stock(10), e.stock_held(), e.product_reserved(), e.stock_returned(), e.product_released()),
    ],
    "account": [(), e.charging(5_000), (*e.charging(5_000), *e.using(), *e.refunding())],
    "charge": [(), e.charging(5_000), e.charging(4_999)],
    "pointuse": [
        (),
        e.charging(5_000),
        (e.use_of_points_failed("points-insufficient"),),
        (e.use_of_points_voided(),),
        (*e.charging(5_000), *e.using()),
        (*e.charging(5_000), *e.using(), *e.refunding()),
    ],
    "coupon": [(), (e.coupon_issued(),), (e.coupon_issued(), *e.taking(), *e.restoring())],
    "couponuse": [
        (),
        (e.coupon_issued(),),
        (e.use_of_coupon_failed("coupon-unknown"),),
        (e.use_of_coupon_voided(),),
        (e.coupon_issued(), *e.taking()),
        (e.coupon_issued(), *e.taking(order_id=e.OTHER_ID)),
        (e.coupon_issued(), *e.taking(), *e.restoring()),
    ],
}
COMMANDS: dict[str, list[Command]] = {
    "order": [
        Place(e.ORDER_ID, e.ORDER, e.DEADLINE, at=e.NOW),
        order_hears(e.coupon_used()),
        order_hears(e.reserve_failed("product-unknown")),
        order_hears(e.use_of_points_failed("points-insufficient")),
        order_hears(e.use_of_coupon_failed("coupon-expired")),
        Expire(e.ORDER_ID, at=e.DEADLINE, cause=e.CAUSE),
        Cancel(e.ORDER_ID, e.CUSTOMER, at=e.NOW),
    ],
    "product": [product.Register(e.MUG, "Mug", 10_000, 10, at=e.NOW)],
    "addition": [addition.AddStock(e.MUG, 5, "delivery-1", at=e.NOW)],
    "reservation": [
        product_hears(e.order_created()),
        product_hears(e.use_of_points_failed("points-insufficient")),
        product_hears(e.use_of_coupon_failed("coupon-expired")),
        *map(product_hears, STEPS_CANCEL),
    ],
    "charge": [charge.Charge(e.CUSTOMER, 5_000, "first", at=e.NOW)],
    "pointuse": [
        point_hears(e.product_reserved()),
        point_hears(e.use_of_coupon_failed("coupon-expired")),
        *map(point_hears, STEPS_CANCEL),
    ],
    "coupon": [coupon.Issue(e.COUPON, e.CUSTOMER, e.DISCOUNT, e.EXPIRES_AT, at=e.NOW)],
    "couponuse": [
        coupon_hears(e.points_used()),
        *map(coupon_hears, STEPS_CANCEL),
    ],
}
EVENTS: dict[str, tuple[type[Fact], ...]] = {
    "order": get_args(order_svc.domain.Event),
    "product": get_args(product.Event),
    "reservation": get_args(reservation.Event),
    "addition": (addition.Event,),
    "account": get_args(account.Event),
    "charge": (charge.Event,),
    "pointuse": get_args(point_use.Event),
    "coupon": get_args(coupon.Event),
    "couponuse": get_args(coupon_use.Event),
}
FIRST_STOCK = ("product", ProductStockAdded)
REFUSALS = (
    *(order_svc.domain.NoSuchOrder, product.RegisteredDifferently),
    *(addition.NoSuchProduct, charge.ChargedDifferently, coupon.IssuedDifferently),
)
LEDGER = (*e.in_stock(10), e.stock_held(), e.stock_returned())
"""What a reservation says about products, folded where it belongs."""


def heads_of(facts: Sequence[Fact], command: Command) -> dict[str, StreamState]:
    heads = fold(*facts)
    for stream in command.streams:
        heads.setdefault(stream, StreamState(0, AGGREGATES[category(stream)].state()))
    return heads


def cases() -> Iterator[Any]:
    """Every command over every history of its aggregate."""
    for name, commands in COMMANDS.items():
        for command in commands:
            for facts in HISTORIES[name]:
                told = "-".join(type(fact).__name__ for fact in facts) or "nothing"
                fact = type(getattr(command, "fact", None)).__name__.replace("NoneType", "")
                yield pytest.param(facts, command, id=f"{told}-{type(command).__name__}{fact}")


every_case = pytest.mark.parametrize(("facts", "command"), list(cases()))


def decide(command: Command, heads: dict[str, StreamState]) -> Sequence[Fact] | Exception:
    try:
        states: list[AnyState] = [heads[stream].state for stream in command.streams]
        return AGGREGATES[category(command.streams[0])].decide(command, *states)
    except REFUSALS as refusal:
        return refusal  # a request that should not have been made


def _facts(answer: Sequence[Fact] | Exception) -> Sequence[Fact]:
    return () if isinstance(answer, Exception) else answer


# Decide ---------------------------------------------------------------------------------------------------------------


def test_every_command_of_every_aggregate_is_tried_here() -> None:
    tried = {type(command) for commands in COMMANDS.values() for command in commands}
    modules = (order_svc.domain, product, addition, reservation, charge, point_use, coupon, coupon_use)
    assert tried == {command for module in modules for command in get_args(module.Command) or (module.Command,)}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_just_the_facts_it_names(name: str) -> None:
    said = {
        (type(command), type(fact))
        for command in COMMANDS[name]
        for facts in HISTORIES[name]
        for fact in _facts(decide(command, heads_of(facts, command)))
    }
    assert said == {(type(command), fact) for command in COMMANDS[name] for fact in command.says}


@every_case
def test_deciding_changes_nothing(facts: Sequence[Fact], command: Command) -> None:
    heads = heads_of(facts, command)
    before = {stream: (copy.deepcopy(head.state), msgspec.json.encode(head.state)) for stream, head in heads.items()}
    decide(command, heads)
    assert {stream: (head.state, msgspec.json.encode(head.state)) for stream, head in heads.items()} == before


@every_case
def test_the_same_question_has_the_same_answer(facts: Sequence[Fact], command: Command) -> None:
    heads = heads_of(facts, command)
    first, second = decide(command, heads), decide(command, heads)
    assert type(first) is type(second)
    assert isinstance(first, Exception) or first == second


@every_case
def test_asked_twice_nothing_new_is_said(facts: Sequence[Fact], command: Command) -> None:
    heads = heads_of(facts, command)
    answer = _facts(decide(command, heads))
    again = decide(command, heads_of((*facts, *answer), command))
    assert isinstance(again, Exception) or again == ()


@every_case
def test_what_is_said_carries_when_and_why_and_stands_where_the_command_said(
    facts: Sequence[Fact], command: Command
) -> None:
    for fact in _facts(decide(command, heads_of(facts, command))):
        assert (fact.at, fact.cause) == (command.at, command.cause)
        assert fact.stream in command.streams


def test_a_decision_takes_its_instant_from_the_command_alone() -> None:
    for years in (-100, 0, 100):
        at = e.NOW + timedelta(days=365 * years)
        command = Cancel(e.ORDER_ID, e.CUSTOMER, at=at)
        assert decide(command, fold(e.order_created())) == (e.order_canceled("customer-canceled", at=at, cause=None),)


# Evolve ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_of_an_aggregate_is_folded_by_it(name: str) -> None:
    histories = [*HISTORIES[name], LEDGER] if name == "product" else HISTORIES[name]
    folded = {type(fact) for facts in histories for fact in facts if category(fact.stream) == name}
    assert folded == set(EVENTS[name])
    for facts in histories:
        fold(*facts)


@pytest.mark.parametrize("name", EVENTS)
def test_a_stranger_among_the_events_is_not_folded_in_silence(name: str) -> None:
    aggregate = AGGREGATES[name]
    stranger = e.order_created() if name != "order" else e.charged(1)
    with pytest.raises(AssertionError):
        aggregate.evolve(aggregate.state(), stranger)


def test_every_fact_of_these_services_belongs_to_one_aggregate() -> None:
    # An answer about added stock is an event of its own aggregate, the stock at registration one of the product.
    homes = [event for name, events in EVENTS.items() for event in events if (name, event) != FIRST_STOCK]
    services = {said_by(NAMES[event]) for event in homes}
    assert len(homes) == len(set(homes))
    assert set(homes) == {fact for name, fact in FACTS.items() if said_by(name) in services}
