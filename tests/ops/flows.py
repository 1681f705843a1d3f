"""A small shop's flow as data, to be broken: an order holds stock, then takes money."""

from ops.flow.choreography import Act, Part, StepFacts

UNDONE = {"stock.freed", "pay.refunded", "gift.unwrapped"}
STEPS = [
    StepFacts("stock", "order.placed", "stock.held", "stock.freed", "stock.voided", "stock.hold.failed"),
    StepFacts("pay", "stock.held", "pay.taken", "pay.refunded", "pay.voided", "pay.take.failed"),
]


def act(command: str, *says: str, hears: tuple[str, ...] = (), takes: tuple[str, ...] | None = None) -> Act:
    return Act(command, hears, hears if takes is None else takes, says)


PLACE = act("Place", "order.placed")
CONFIRM = act("Confirm", "order.confirmed", hears=("pay.taken",))
REFUSE = act("Refuse", "order.canceled", hears=("stock.hold.failed", "pay.take.failed"))
CANCEL = act("Cancel", "order.canceled")
HOLD = act("Hold", "stock.held", "stock.hold.failed", hears=("order.placed",))
FREE = act("Free", "stock.freed", "stock.voided", hears=("pay.take.failed", "order.canceled"))
TAKE = act("Take", "pay.taken", "pay.take.failed", hears=("stock.held",))
REFUND = act("Refund", "pay.refunded", hears=("order.canceled",))
GOOD = {"order": (PLACE, CONFIRM, REFUSE, CANCEL), "stock": (HOLD, FREE), "pay": (TAKE, REFUND)}


def shop(**changed: tuple[Act, ...]) -> list[Part]:
    """This shop with other services in it, or with services that do something else."""
    return [
        Part(service, acts, frozenset(fact for act in acts for fact in act.says))
        for service, acts in {**GOOD, **changed}.items()
    ]


def without(act: Act, *facts: str) -> Act:
    """The command, neither given these facts nor made for them."""
    left = tuple(fact for fact in act.hears if fact not in facts)
    return act._replace(hears=left, takes=left)
