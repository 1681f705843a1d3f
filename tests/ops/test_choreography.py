"""What is found in broken flows, each in a sentence: cycles, facts no service says, failures no service undoes."""

from ops.flow.choreography import Part, Rules, StepFacts, findings
from tests.ops.flows import (
    CANCEL,
    CONFIRM,
    FREE,
    GOOD,
    HOLD,
    PLACE,
    REFUND,
    REFUSE,
    STEPS,
    TAKE,
    UNDONE,
    act,
    shop,
    without,
)


def found(parts: list[Part], *more: str, steps: list[StepFacts] | None = None) -> list[str]:
    """The findings, when all facts that are said, and these, are facts of contracts.

    Whatever answers no fact is a client's. `steps`: those that are declared.
    """
    acts = [act for part in parts for act in part.acts]
    facts = {fact for act in acts for fact in act.says}
    by_client = {fact for act in acts if not act.hears for fact in act.says}
    declared = [step for step in STEPS if step.done in facts] if steps is None else steps
    return findings(parts, Rules([*sorted(facts), *more], declared, UNDONE, by_client=by_client))


def test_a_flow_in_which_all_is_said_heard_and_undone_has_nothing_to_be_found() -> None:
    assert found(shop()) == []


def test_a_step_that_has_nothing_to_take_back_need_not_hear_of_the_end() -> None:
    assert found(shop(mail=(act("Thank", "mail.sent", hears=("order.confirmed", "order.placed")),))) == []


# Cycles ---------------------------------------------------------------------------------------------------------------


def test_a_step_that_is_tried_again_whenever_the_next_one_fails_is_a_cycle() -> None:
    again = shop(
        stock=(HOLD._replace(hears=("order.placed", "pay.take.failed")), FREE._replace(hears=("order.canceled",)))
    )

    assert "a cycle that need not end: `stock.held` → `pay.take.failed` → `stock.held`" in found(again)


def test_a_fact_that_leads_to_itself_is_a_cycle() -> None:
    echo = act("Repeat", "order.canceled", hears=("order.canceled",))

    assert found(shop(order=(*GOOD["order"], echo))) == [
        "a cycle that need not end: `order.canceled` → `order.canceled`"
    ]


def test_each_cycle_is_told_once() -> None:
    ring = [act(name, f"ring.{to}", hears=(f"ring.{name}",)) for name, to in [("a", "b"), ("b", "c"), ("c", "a")]]
    pair = [act(name, f"pair.{to}", hears=(f"pair.{name}",)) for name, to in [("x", "y"), ("y", "x")]]

    assert found(shop(ring=tuple(ring), pair=tuple(pair))) == [
        "a cycle that need not end: `ring.b` → `ring.c` → `ring.a` → `ring.b`",
        "a cycle that need not end: `pair.y` → `pair.x` → `pair.y`",
    ]


def test_two_ways_to_one_fact_are_no_cycle() -> None:
    tell = act("Tell", "mail.sent", hears=("order.confirmed", "pay.taken", "order.placed"))

    assert found(shop(mail=(tell,))) == []


# Facts ----------------------------------------------------------------------------------------------------------------


def test_a_fact_of_contracts_that_no_command_says_is_found() -> None:
    assert found(shop(), "stock.counted") == ["no service says `stock.counted`"]


def test_a_fact_that_is_heard_and_that_nobody_says_is_found() -> None:
    wishful = shop(mail=(act("Thank", "mail.sent", hears=("order.shipped",)),))

    assert found(wishful) == ["no service says `order.shipped`, but mail_svc would hear it"]
    assert found(wishful, "order.shipped") == ["no service says `order.shipped`, but mail_svc would hear it"]


def test_a_fact_that_no_aggregate_of_its_sayer_folds_is_found() -> None:
    order, stock, pay = shop()

    assert found([order, stock._replace(folds=stock.folds - {"stock.freed"}), pay]) == [
        "stock_svc.Free says `stock.freed`, which no aggregate of stock_svc folds"
    ]


def test_a_fact_that_contracts_does_not_have_is_found() -> None:
    parts = shop(mail=(act("Thank", "mail.sent"),))
    known = {fact for acts in GOOD.values() for act in acts for fact in act.says}

    rules = Rules(known, STEPS, UNDONE, by_client=[*known, "mail.sent"])
    assert findings(parts, rules) == ["mail_svc.Thank says `mail.sent`, which contracts/ does not declare"]


def test_a_fact_that_bears_the_name_of_another_service_is_found() -> None:
    forger = act("Forge", "pay.taken")

    assert found(shop(mail=(forger,))) == ["mail_svc.Forge says `pay.taken`, which by its name only pay_svc may say"]


def test_a_command_that_says_nothing_is_found() -> None:
    assert found(shop(mail=(act("Thank", hears=("order.confirmed",)),))) == [
        "mail_svc.Thank says nothing: list in its `says` the facts that it may lead to"
    ]


# Reactions ------------------------------------------------------------------------------------------------------------


def test_a_command_whose_fact_is_not_heard_is_found() -> None:
    assert found(shop(order=(PLACE, CONFIRM._replace(hears=()), REFUSE, CANCEL))) == [
        "order_svc.Confirm takes `pay.taken`, but REACTIONS has no entry for it"
    ]


def test_a_command_that_is_made_of_a_fact_it_is_not_for_is_found() -> None:
    assert found(shop(order=(PLACE, CONFIRM._replace(takes=()), REFUSE, CANCEL))) == [
        "order_svc.Confirm does not take `pay.taken`, but REACTIONS maps it to this command"
    ]


def test_a_reaction_that_is_no_command_of_the_service_is_found() -> None:
    order, stock, pay = shop()

    assert found([order, stock, pay._replace(unmatched=("order.confirmed",))]) == [
        "pay_svc hears `order.confirmed`, but REACTIONS maps it to no command of its aggregates"
    ]


# Compensations --------------------------------------------------------------------------------------------------------


def test_a_failure_that_a_step_before_it_does_not_hear_is_found() -> None:
    assert found(shop(stock=(HOLD, without(FREE, "pay.take.failed")))) == [
        "stock_svc may have said `stock.held` but does not react to `pay.take.failed`"
    ]


def test_a_failure_after_which_a_step_before_it_takes_nothing_back_is_found() -> None:
    note = act("Note", "stock.noted", hears=("pay.take.failed",))

    assert found(shop(stock=(HOLD, without(FREE, "pay.take.failed"), note))) == [
        "stock_svc may have said `stock.held` but takes nothing back after `pay.take.failed`: it only does Note"
    ]


def test_a_failure_that_does_not_come_back_to_who_began_is_found() -> None:
    assert found(shop(order=(PLACE, CONFIRM, without(REFUSE, "stock.hold.failed"), CANCEL))) == [
        "order_svc does not react to `stock.hold.failed`, so what it began with `order.placed` never ends"
    ]


def test_a_failure_of_a_service_that_had_acted_earlier_is_to_be_undone_by_itself() -> None:
    ship = act("Ship", "stock.shipped", "stock.ship.failed", hears=("pay.taken",))
    order = (PLACE, CONFIRM._replace(hears=("stock.shipped",), takes=("stock.shipped",)), CANCEL)
    refuse = act("Refuse", "order.canceled", hears=(*REFUSE.hears, "stock.ship.failed"))
    refund = act("Refund", "pay.refunded", hears=(*REFUND.hears, "stock.ship.failed"))

    longer = shop(order=(*order, refuse), stock=(HOLD, FREE, ship), pay=(TAKE, refund))
    steps = [
        *STEPS,
        StepFacts("stock", "pay.taken", "stock.shipped", "stock.freed", "stock.voided", "stock.ship.failed"),
    ]
    assert found(longer, steps=steps) == [
        "stock_svc may have said `stock.held` but takes nothing back after `stock.ship.failed`: it only does Ship"
    ]
    ship = ship._replace(says=(*ship.says, "stock.freed"))
    assert found(shop(order=(*order, refuse), stock=(HOLD, FREE, ship), pay=(TAKE, refund)), steps=steps) == []


def test_a_failure_is_undone_by_a_step_that_goes_on_beside_it_too() -> None:
    take = act("Take", "pay.taken", "pay.take.failed", hears=("order.placed",))
    refund = act("Refund", "pay.refunded", hears=("order.canceled", "stock.hold.failed"))
    join = act("Join", "order.confirmed", hears=("pay.taken", "stock.held"))
    order = (PLACE, join, REFUSE, CANCEL)

    steps = [STEPS[0], STEPS[1]._replace(hears="order.placed")]
    assert found(shop(order=order, pay=(take, refund)), steps=steps) == []
    assert found(shop(order=order, pay=(take, without(refund, "stock.hold.failed"))), steps=steps) == [
        "pay_svc may say `pay.taken` at the same time but does not react to `stock.hold.failed`"
    ]


def test_a_failure_is_undone_by_the_last_step_of_a_branch_beside_it_too() -> None:
    choose = act("Choose", "card.chosen", hears=("stock.held",))
    wrap = act("Wrap", "gift.wrapped", hears=("card.chosen",))
    unwrap = act("Unwrap", "gift.unwrapped", hears=("order.canceled", "pay.take.failed"))

    assert found(shop(card=(choose,), gift=(wrap, unwrap))) == []
    assert found(shop(card=(choose,), gift=(wrap, without(unwrap, "pay.take.failed")))) == [
        "gift_svc may say `gift.wrapped` at the same time but does not react to `pay.take.failed`"
    ]


def test_what_was_begun_in_one_of_two_ways_is_missed_once() -> None:
    order = (PLACE, PLACE._replace(command="Import"), CONFIRM, without(REFUSE, "stock.hold.failed"), CANCEL)

    assert found(shop(order=order)) == [
        "order_svc does not react to `stock.hold.failed`, so what it began with `order.placed` never ends"
    ]


def test_a_step_that_nothing_brings_about_is_a_step_all_the_same() -> None:
    assert found(shop(stock=(HOLD._replace(hears=()), without(FREE, "pay.take.failed")))) == [
        "stock_svc.Hold takes `order.placed`, but REACTIONS has no entry for it",
        "stock_svc may have said `stock.held` but does not react to `pay.take.failed`",
    ]


def test_a_step_that_a_service_declares_and_does_not_take_is_found() -> None:
    wrap = StepFacts("gift", "order.confirmed", "gift.wrapped", "gift.unwrapped", "gift.voided")
    gift = (
        act("Wrap", "gift.wrapped", hears=("pay.taken",)),
        act("Unwrap", "gift.unwrapped", hears=("order.canceled",)),
    )

    assert found(shop(gift=gift), steps=[*STEPS, wrap]) == [
        "gift_svc declares that it says `gift.wrapped` after `order.confirmed`; no command of it does"
    ]
    assert found(shop(gift=gift), steps=[*STEPS, wrap._replace(hears="pay.taken")]) == []


def test_a_fact_of_a_client_that_contracts_gives_a_cause_is_found() -> None:
    rules = Rules([fact for acts in GOOD.values() for act in acts for fact in act.says], STEPS, UNDONE)

    assert findings(shop(), rules._replace(by_client=["order.placed"])) == [
        "order_svc.Cancel answers no fact, so `order.canceled` needs `by_client` in contracts/order.py"
    ]


def test_a_withdrawal_that_somebody_who_can_undo_does_not_hear_is_found() -> None:
    gift = (act("Wrap", "gift.wrapped", hears=("order.confirmed",)), act("Unwrap", "gift.unwrapped"))

    assert found(shop(gift=gift)) == ["gift_svc has a compensation (Unwrap) but does not react to `order.canceled`"]


def test_a_withdrawal_that_somebody_who_was_waited_for_does_not_hear_is_found() -> None:
    assert found(shop(pay=(TAKE,))) == [
        "pay_svc says `pay.taken`, which is waited for, but does not react to `order.canceled`"
    ]
