"""POST /orders and what a customer asks about an order afterwards."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from litestar import Request, get, post
from litestar.params import HeaderParameter, JSONBody
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct, field

from contracts import Fact, Line, Order, OrderCanceled, OrderConfirmed, Reason, SagaFact
from contracts.ids import MEANING, is_id
from contracts.wire import NAMES, said_by
from infra.broker.lookup import HistoryUnavailable, facts_about
from infra.http.fast_path import FAST_PATH
from infra.http.parameters import Id, IdempotencyKey, PathId
from infra.http.problems import Problem, invalid, problems, unavailable
from infra.process.service import Runtime
from order_svc import domain
from order_svc.admission import AdmissionControl
from order_svc.compensation import compensated
from order_svc.domain import Status
from order_svc.ends import End, Ends
from order_svc.ids import new_key, order_id

SOON_AT_LEAST_S: Final = 1.0
"""However short customers wait: orders end in batches, and how fast they do shows in a few of these."""


async def caller_required(request: Request[Any, Any, Any]) -> None:
    """Who does not say who he is, is told so before anything else that may be wrong."""
    caller(request.headers.get("X-User-Id"))


UserId = Annotated[str | None, HeaderParameter(name="X-User-Id", required=False, description="Who is asking.")]


class OrderLine(Struct, frozen=True, forbid_unknown_fields=True):
    product_id: Id
    quantity: Annotated[int, Meta(ge=1, le=1_000)]


class PlaceOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """`points` to use; `coupon_id` null for none. Each product stands in one line."""

    lines: Annotated[tuple[OrderLine, ...], Meta(min_length=1, max_length=100)]
    points: Annotated[int, Meta(ge=0, le=10**12)] = 0
    coupon_id: Id | None = None


class LineView(Struct, omit_defaults=True):
    """`unit_price` in won, once it is known."""

    product_id: str
    quantity: int
    unit_price: int | None = None


class StepView(Struct):
    """A fact of the order, the service that said it, and when."""

    fact: str
    service: str
    at: datetime


class OrderView(Struct, kw_only=True):
    """An order as it is now. Amounts in won; null until they are known."""

    order_id: str
    status: Status
    reason: Reason | None = None
    lines: list[LineView] = field(default_factory=list)
    total: int | None = None
    points: int = 0
    coupon_id: str | None = None
    discount: int | None = None
    amount_due: int | None = None
    placed_at: datetime
    deadline: datetime


class OrderHistory(OrderView, kw_only=True):
    """`steps`: the order's facts; `compensated`: whether all that a canceled order took is back (null unless canceled).

    Both are read from the stream: without a broker they are null, and `unavailable` says so.
    """

    compensated: bool | None = None
    steps: list[StepView] | None = None
    unavailable: str | None = None


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    settings, writer, broker = runtime.settings, runtime.writer, runtime.broker
    deadline_after = timedelta(seconds=settings.order_deadline_s)
    ends = Ends(runtime.closing, settings.order_wait_s)
    admission = AdmissionControl(settings.orders_in_flight, soon_s=max(SOON_AT_LEAST_S, settings.order_wait_s / 2))
    runtime.on_recorded += [ends.recorded, admission.recorded]
    runtime.tasks.append(ends.run)

    @post(
        "/orders",
        tags=["orders"],
        summary="Place an order and wait for its end",
        description=(
            "200 once it is confirmed, 409 with the reason when it was canceled, 202 with Location when it has not "
            "ended within ORDER_WAIT_S. Repeating a request with its Idempotency-Key gives the first answer again."
        ),
        status_code=200,
        responses=problems(400, 401, 409, 413, 422, 503),
        before_request=caller_required,
        opt={FAST_PATH: True},
    )
    async def place(
        data: JSONBody[PlaceOrder], user: UserId = None, idempotency_key: IdempotencyKey = None
    ) -> Response[OrderView]:
        user_id = caller(user)
        if len({line.product_id for line in data.lines}) < len(data.lines):
            raise invalid("lines", "body", "each product may stand in one line only")
        key = idempotency_key or new_key()
        now = runtime.clock()
        command = domain.Place(
            order_id(user_id, key),
            Order(
                user_id,
                tuple(Line(line.product_id, line.quantity) for line in data.lines),
                data.points,
                data.coupon_id,
                now,
            ),
            now + deadline_after,
            now,
        )
        if rejection := admission.rejection(command.order_id, writer.waiting):
            raise unavailable(rejection)
        if broker.trouble is not None or runtime.closing.is_set():
            await _must_exist(command)
        watched = ends.watch(command.order_id)
        try:
            answer = await writer.execute(command)
            state: domain.State = answer.states[0]
            end = state.first_end or await watched
        except domain.PlacedDifferently:
            raise Problem(
                422, "idempotency-key-reused", "this Idempotency-Key was used for a different order"
            ) from None
        finally:
            ends.forget(command.order_id, watched)
        headers = {"Idempotency-Key": key}
        if not answer.facts:
            headers["Idempotent-Replayed"] = "true"
        return _answer(command.order_id, state, end, headers)

    async def _must_exist(command: domain.Place) -> None:
        """Nothing new can be accepted; but what was accepted before may still be asked for."""
        (state,) = await writer.read(command.streams)
        if state.order is None:
            raise unavailable(f"orders cannot be accepted right now: {broker.trouble or 'shutting down'}")

    @get(
        "/orders/{order_id:str}",
        tags=["orders"],
        summary="An order as it is now, and its facts",
        responses=problems(400, 401, 404, 503),
        before_request=caller_required,
    )
    async def show(order_id: PathId, user: UserId = None) -> OrderHistory:
        user_id = caller(user)
        (state,) = await writer.read([f"order-{order_id}"])

        if state.order is None or state.order.user_id != user_id:
            raise _unknown()
        return await _history(order_id, state)

    @post(
        "/orders/{order_id:str}/cancel",
        tags=["orders"],
        summary="Cancel an order, pending or confirmed; everything it took is given back",
        status_code=200,
        responses=problems(400, 401, 404, 503),
        before_request=caller_required,
    )
    async def cancel(order_id: PathId, user: UserId = None) -> OrderView:
        try:
            answer = await writer.execute(domain.Cancel(order_id, caller(user), runtime.clock()))
        except domain.NoSuchOrder:
            raise _unknown() from None
        return _view(order_id, answer.states[0])

    async def _history(order_id: str, state: domain.State) -> OrderHistory:
        view = _view(order_id, state)
        fields = {name: getattr(view, name) for name in OrderView.__struct_fields__}
        connection = broker.connection
        try:
            if connection is None:
                raise HistoryUnavailable(broker.trouble or "no broker")
            facts = [fact for fact in await facts_about(connection, order_id) if _is_about(fact, order_id)]
        except HistoryUnavailable as error:
            return OrderHistory(**fields, unavailable=f"steps and compensated: {error}")
        names = {NAMES[type(fact)] for fact in facts}
        return OrderHistory(
            **fields,
            steps=[StepView(NAMES[type(fact)], said_by(NAMES[type(fact)]), fact.at) for fact in facts],
            compensated=None if state.reason is None else compensated(state.reason, names),
        )

    return [place, show, cancel]


def caller(user: str | None) -> str:
    if user is None or not is_id(user):
        raise Problem(
            401,
            "unauthorized",
            f"the header X-User-Id has to name the caller: {MEANING}",
            {"WWW-Authenticate": "X-User-Id"},
        )
    return user


def _unknown() -> Problem:
    return Problem(404, "order-not-found", "you have no such order")


def _is_about(fact: Fact, order_id: str) -> bool:
    return isinstance(fact, SagaFact) and fact.order_id == order_id


def _view(order_id: str, state: domain.State, end: End | None = None) -> OrderView:
    """The order as `state` has it; as it first ended, if `end` is given."""
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
        raise Problem(
            409,
            end.reason,
            REASONS[end.reason],
            headers,
            order_id=order_id,
            order_status="CANCELED",
        )
    if end is None:
        return Response(_view(order_id, state), status_code=202, headers={**headers, "Location": f"/orders/{order_id}"})
    return Response(_view(order_id, state, end), headers=headers)


REASONS: dict[Reason, str] = {
    "product-out-of-stock": "a product of the order is out of stock",
    "product-unknown": "the order names a product that does not exist",
    "points-insufficient": "the customer has fewer points than the order wants to use",
    "points-exceed-total": "the order wants to use more points than it costs",
    "coupon-unknown": "the coupon does not exist",
    "coupon-already-used": "the coupon is used by another order",
    "coupon-expired": "the coupon had expired when the order was accepted",
    "coupon-not-yours": "the coupon belongs to another customer",
    "deadline-exceeded": "the order could not be completed in time",
    "customer-canceled": "the customer canceled the order",
}
