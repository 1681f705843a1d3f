"""Routes of one order: place it, show it, cancel it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, assert_never

from litestar import get, post
from litestar.params import HeaderParameter, JSONBody
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct, field

from contracts import (
    REASONS,
    Fact,
    Line,
    Order,
    OrderCanceled,
    OrderConfirmed,
    OrderCreatedPending,
    Reason,
    SagaFact,
)
from contracts.ids import MEANING, PATTERN, is_id
from contracts.wire import NAMES, said_by
from infra.broker.errors import HistoryUnavailable
from infra.broker.lookup import archived_facts, latest_facts
from infra.core.errors import Busy, StoreUnavailable
from infra.http.access import ACCESS, ANY_CALLER, reads_all
from infra.http.answers import answer, problems
from infra.http.examples import example, example_of
from infra.http.fast_path import FAST_PATH
from infra.http.idempotency_key import REPLAYED, IdempotencyKey, read_key, replayable
from infra.http.parameters import AnyRequest, HeaderCheck, Id, PathId, Time
from infra.http.problems import Problem, ProblemBody, invalid, unavailable
from infra.process.runtime import Runtime
from infra.request_span import request_is_about
from order_svc import domain
from order_svc.admission import AdmissionControl
from order_svc.compensation import compensated
from order_svc.domain import Status
from order_svc.ends import End, Ends
from order_svc.ids import new_key, order_id
from order_svc.measures import OrderMeasures
from order_svc.progress import Progress
from order_svc.repeats import Repeats


def check_caller(user: str | None) -> None:
    """Raise a Problem, 401, unless `user` is a valid id. `user`: the value of the header X-User-Id, None if missing.

    The header is trusted: whether such a user exists is not checked.
    """
    if user is None or not is_id(user):
        raise unauthorized()


def unauthorized() -> Problem:
    detail = f"the header X-User-Id has to name the caller: {MEANING}"
    return Problem(401, "unauthorized", detail, {"WWW-Authenticate": "X-User-Id"})


caller_required: Final = HeaderCheck("X-User-Id", check_caller)
"""The `before_request` of every route that takes a UserId: a caller without a valid id gets 401, whatever parameters
and body are."""

UserId = Annotated[
    str, HeaderParameter(name="X-User-Id", description=f"Who is asking: {MEANING}.", schema_extra={"pattern": PATTERN})
]


class OrderProblemBody(ProblemBody, kw_only=True, omit_defaults=True):
    """The body of a 409: the order was accepted and then canceled. `type` gives the reason."""

    order_id: str
    order_status: Status


@example(product_id="mug", quantity=2)
class OrderLine(Struct, frozen=True, forbid_unknown_fields=True):
    product_id: Id
    quantity: Annotated[int, Meta(ge=1, le=1_000)]


ONE_LINE_EACH: Final = {"uniqueItems": True, "description": "Each product may be in one line only."}


@example(lines=(example_of(OrderLine),), points=500, coupon_id="c1")
class PlaceOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /orders`. `points`: how many to use, 0 for none. `coupon_id`: null without a coupon.

    Each product may be in one line only.
    """

    lines: Annotated[tuple[OrderLine, ...], Meta(min_length=1, max_length=100, extra_json_schema=ONE_LINE_EACH)]
    points: Annotated[int, Meta(ge=0, le=10**12)] = 0
    coupon_id: Id | None = None


@example(product_id="mug", quantity=2, unit_price=12_000)
class LineView(Struct, omit_defaults=True):
    """A line of an order. `unit_price` in won; absent until the order has ended, and if its first end has no prices."""

    product_id: str
    quantity: int
    unit_price: int | None = None


class StepView(Struct):
    """The name of a fact of the order's saga, the service (without `_svc`) that says it, and when it was decided."""

    fact: str
    service: str
    at: Time


CONFIRMED: Final[dict[str, Any]] = {
    "order_id": "2e86ac2065f70ff4b21b2634a80468d3",
    "status": "CONFIRMED",
    "lines": [example_of(LineView)],
    "total": 24_000,
    "points": 500,
    "coupon_id": "c1",
    "discount": 3_000,
    "amount_due": 20_500,
    "placed_at": datetime(2026, 1, 31, 6, 15, tzinfo=UTC),
    "deadline": datetime(2026, 1, 31, 6, 15, 30, tzinfo=UTC),
}
"""The fields of a confirmed order, for examples."""


@example(**CONFIRMED)
class OrderView(Struct, kw_only=True):
    """An order as it is now; in the 200 of `POST /orders`, as it was when it was confirmed.

    Amounts in won; null if they are not known, and `amount_due` null unless the order was confirmed. `reason`: null
    unless the order is canceled. `points`: how many the order asks for.
    """

    order_id: str
    status: Status
    reason: Reason | None = None
    lines: list[LineView] = field(default_factory=list)
    total: int | None = None
    points: int = 0
    coupon_id: str | None = None
    discount: int | None = None
    amount_due: int | None = None
    placed_at: Time
    deadline: Time


@example(**CONFIRMED, steps=[StepView("order.created.pending", "order", datetime(2026, 1, 31, 6, 15, tzinfo=UTC))])
class OrderHistory(OrderView, kw_only=True):
    """An order as it is now, with its history.

    `steps`: the facts of the order's saga, oldest first. `compensated`: whether everything that a canceled order took
    was given back; null unless the order is canceled. Both are made from published facts. While these cannot be
    read, both are null and `unavailable` gives the reason; otherwise `unavailable` is null.
    """

    compensated: bool | None = None
    steps: list[StepView] | None = None
    unavailable: str | None = None


class Orders:
    """Handles the requests about an order; the function `routes` maps paths to these methods.

    Making one also has `runtime` tell `admission` and its own Ends what is recorded, and run `Ends.run` as a task.
    """

    def __init__(
        self,
        runtime: Runtime,
        admission: AdmissionControl,
        progress: Progress,
        repeats: Repeats,
        measures: OrderMeasures,
    ) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._writer = runtime.writer
        self._closing = runtime.closing
        self._deadline_after = timedelta(seconds=settings.order_deadline_s)
        self._ends = Ends(runtime.closing, settings.order_wait_s)
        self._admission = admission
        self._progress = progress
        self._repeats = repeats
        self._measures = measures
        runtime.on_recorded += [self._ends.recorded, self._admission.recorded]
        runtime.tasks.append(self._ends.run)

    async def place(
        self, data: JSONBody[PlaceOrder], user: UserId, idempotency_key: IdempotencyKey = None
    ) -> Response[OrderView]:
        if len({line.product_id for line in data.lines}) < len(data.lines):
            raise invalid("lines", "body", "each product may be in one line only")
        sent = idempotency_key or new_key()

        async def is_recorded(key: str) -> bool:
            return await self._repeats.accepted(f"order-{order_id(user, key)}")

        key = await read_key(sent, is_recorded)
        command = self._command(data, user, key)
        request_is_about(command.order_id)
        trouble = self._trouble()
        rejection = trouble or self._admission.rejection(command.order_id, self._writer.waiting)
        # Only a request with a key of the client's can repeat an earlier one.
        if rejection and (idempotency_key is None or not await self._repeats.accepted(command.streams[0])):
            self._measures.refused("draining" if self._closing.is_set() else "not_ready" if trouble else "overload")
            raise unavailable(trouble or self._progress.refused(rejection))
        watched = self._ends.watch(command.order_id)
        try:
            answer = await self._writer.execute(command)
            state: domain.State = answer.states[0]
            end = state.first_end or await watched
        except domain.PlacedDifferently:
            raise _placed_differently() from None
        except (Busy, StoreUnavailable) as error:
            self._measures.refused("overload" if isinstance(error, Busy) else "not_ready")
            raise
        finally:
            self._ends.forget(command.order_id, watched)
        return _answer(command.order_id, state, end, replayable(sent)(answer))

    def _command(self, data: PlaceOrder, user: str, key: str) -> domain.Place:
        now = self._runtime.clock()
        lines = tuple(Line(line.product_id, line.quantity) for line in data.lines)
        order = Order(user, lines, data.points, data.coupon_id, now)
        return domain.Place(order_id(user, key), order, now + self._deadline_after, at=now)

    def _trouble(self) -> str | None:
        """Return why no new order at all can be accepted now, and what to do; None if AdmissionControl decides."""
        trouble = self._runtime.broker.trouble or ("the service is shutting down" if self._closing.is_set() else None)
        return None if trouble is None else f"no new order can be accepted ({trouble}); retry after the given delay"

    async def show(self, order_id: PathId, user: UserId, request: AnyRequest) -> OrderHistory:
        (state,) = await self._writer.read([f"order-{order_id}"])
        if state.order is None or (state.order.user_id != user and not reads_all(request)):
            raise _unknown()
        return await self._history(order_id, state)

    async def _history(self, order_id: str, state: domain.State) -> OrderHistory:
        view = _view(order_id, state)
        fields = {name: getattr(view, name) for name in OrderView.__struct_fields__}
        broker = self._runtime.broker
        try:
            if broker.connection is None:
                raise HistoryUnavailable(broker.trouble or "no broker")
            found = await latest_facts(broker.connection, "order_id", order_id, broker.supervisor.streams)
            if not any(isinstance(fact, OrderCreatedPending) for fact in found):  # it began in an archived generation
                later = {type(fact) for fact in found}
                earlier = await archived_facts(self._runtime.settings, "order_id", order_id)
                found = [*(fact for fact in earlier if type(fact) not in later), *found]
            facts = [fact for fact in found if _is_about(fact, order_id)]
        except HistoryUnavailable as error:
            return OrderHistory(**fields, unavailable=f"steps and compensated: {error}")
        names = {NAMES[type(fact)] for fact in facts}
        return OrderHistory(
            **fields,
            steps=[StepView(NAMES[type(fact)], said_by(NAMES[type(fact)]), fact.at) for fact in facts],
            compensated=None if state.reason is None else compensated(state.reason, names),
        )

    async def cancel(self, order_id: PathId, user: UserId) -> OrderView:
        request_is_about(order_id, apart=True)
        try:
            answer = await self._writer.execute(domain.Cancel(order_id, user, at=self._runtime.clock()))
        except domain.NoSuchOrder:
            raise _unknown() from None
        return _view(order_id, answer.states[0])


def routes(
    runtime: Runtime, admission: AdmissionControl, progress: Progress, repeats: Repeats, measures: OrderMeasures
) -> Sequence[ControllerRouterHandler]:
    orders = Orders(runtime, admission, progress, repeats, measures)
    place = post(
        "/orders",
        tags=["orders"],
        summary="Place an order and wait for its end",
        description=(
            "200 when it is confirmed; 409 with the reason when it is canceled; 202 with Location when it has not "
            "ended within ORDER_WAIT_S. A repeated request with the same Idempotency-Key gets the first answer again."
        ),
        status_code=200,
        responses=answer(202, OrderView, "It has not ended yet.", "Location", *REPLAYED, bodies={"pending": PENDING})
        | problems(400, unauthorized(), *CANCELED, _placed_differently(), 503),
        before_request=caller_required,
        opt={ACCESS: ANY_CALLER, FAST_PATH: True},
    )
    show = get(
        "/orders/{order_id:str}",
        tags=["orders"],
        summary="An order as it is now, and its facts",
        opt={ACCESS: ANY_CALLER},
        responses=problems(400, unauthorized(), _unknown(), 503),
        before_request=caller_required,
    )
    cancel = post(
        "/orders/{order_id:str}/cancel",
        tags=["orders"],
        summary="Cancel a pending or confirmed order; everything it took is given back",
        opt={ACCESS: ANY_CALLER},
        status_code=200,
        responses=problems(400, unauthorized(), _unknown(), 503),
        before_request=caller_required,
    )
    return [place(orders.place), show(orders.show), cancel(orders.cancel)]


def _canceled(order_id: str, reason: Reason, headers: dict[str, str]) -> Problem:
    about = {"order_id": order_id, "order_status": "CANCELED"}
    return Problem(409, reason, in_words(reason), headers, OrderProblemBody, **about)


def in_words(reason: Reason) -> str:
    """Return why an order is canceled, in words. mypy refuses this module as long as a Reason is missing."""
    match reason:
        case "product-out-of-stock":
            return "a product of the order is out of stock"
        case "product-unknown":
            return "the order names a product that does not exist"
        case "points-insufficient":
            return "the customer has fewer points than the order wants to use"
        case "points-exceed-total":
            return "the order wants to use more points than it costs"
        case "coupon-unknown":
            return "the coupon does not exist"
        case "coupon-already-used":
            return "the coupon is used by another order"
        case "coupon-expired":
            return "the coupon had expired when the order was accepted"
        case "coupon-not-yours":
            return "the coupon belongs to another customer"
        case "deadline-exceeded":
            return "the order could not be completed in time"
        case "customer-canceled":
            return "the customer canceled the order"
        case _:
            assert_never(reason)


def _placed_differently() -> Problem:
    return Problem(422, "idempotency-key-reused", "this Idempotency-Key was used for a different order")


def _unknown() -> Problem:
    return Problem(404, "order-not-found", "you have no such order")


def _is_about(fact: Fact, order_id: str) -> bool:
    return isinstance(fact, SagaFact) and fact.order_id == order_id


def _view(order_id: str, state: domain.State, end: End | None = None) -> OrderView:
    """Make the view of an accepted order. `end`: the confirmation, to show the order as it was then; None: as it is."""
    order = state.order
    assert order is not None
    assert state.deadline is not None
    first = end or state.first_end
    prices: Sequence[int | None] = (first and first.unit_prices) or [None] * len(order.lines)
    return OrderView(
        order_id=order_id,
        status=(state.status or "PENDING") if end is None else "CONFIRMED",
        reason=state.reason if end is None else None,
        lines=[
            LineView(line.product_id, line.quantity, price) for line, price in zip(order.lines, prices, strict=True)
        ],
        total=first.total if first else None,
        points=order.points,
        coupon_id=order.coupon_id,
        discount=first.discount if first else None,
        amount_due=first.amount_due if isinstance(first, OrderConfirmed) else None,
        placed_at=order.placed_at,
        deadline=state.deadline,
    )


def _answer(order_id: str, state: domain.State, end: End | None, headers: dict[str, str]) -> Response[OrderView]:
    if isinstance(end, OrderCanceled):
        raise _canceled(order_id, end.reason, headers)
    if end is None:
        return Response(_view(order_id, state), status_code=202, headers={**headers, "Location": f"/orders/{order_id}"})
    return Response(_view(order_id, state, end), headers=headers)


CANCELED: Final = [_canceled(CONFIRMED["order_id"], reason, dict.fromkeys(REPLAYED, "")) for reason in REASONS]
PENDING: Final = OrderView(
    **{name: CONFIRMED[name] for name in ("order_id", "lines", "points", "coupon_id", "placed_at", "deadline")},
    status="PENDING",
)
"""Examples of answers to `POST /orders`."""
