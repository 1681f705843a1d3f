"""Routes of coupons: issue, show, list a customer's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from litestar import get, post
from litestar.params import JSONBody
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from coupon_svc.domain import coupon
from infra.core.unreadable import read_readable
from infra.http.access import ACCESS, ANY_CALLER, may_see
from infra.http.answers import answer, problems
from infra.http.examples import example, example_of
from infra.http.parameters import After, AnyRequest, Id, PageSize, PathId, Price, QueryId, Time
from infra.http.problems import Problem, customer_not_found, invalid
from infra.process.runtime import Runtime
from infra.timestamps import in_utc

ISSUE: Final = "coupons:issue"
"""The scope of who issues coupons."""


@example(coupon_id="c1", user_id="u1", discount=3_000, expires_at=datetime(2099, 12, 31, tzinfo=UTC))
class IssueCoupon(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /coupons`: a coupon for `user_id`, worth up to `discount` won.

    It is good for orders accepted before `expires_at` (RFC 3339, with an offset; kept and answered in UTC).
    """

    coupon_id: Id
    user_id: Id
    discount: Price
    expires_at: Time


@example(coupon_id="c1", user_id="u1", discount=3_000, expires_at=datetime(2099, 12, 31, tzinfo=UTC), order_id=None)
class CouponView(Struct):
    """A coupon as it is now. `order_id`: the order that uses the coupon, null if none.

    `discount`: the most that the coupon takes off, in won.
    """

    coupon_id: str
    user_id: str
    discount: int
    expires_at: Time
    order_id: str | None


@example(coupons=[example_of(CouponView)], next=None)
class CouponPage(Struct):
    """A page of a customer's coupons, sorted by id. `next`: the `after` of the next page, null on the last one.

    `unreadable`: the ids of the page's coupons that cannot be shown now; the route of one coupon says why.
    """

    coupons: list[CouponView]
    next: str | None
    unreadable: list[str] = []


class Coupons:
    """Handles the requests about coupons; the function `routes` maps paths to these methods."""

    def __init__(self, runtime: Runtime) -> None:
        self._clock = runtime.clock
        self._writer = runtime.writer
        self._wallet = runtime.views["wallet"]

    async def issue(self, data: JSONBody[IssueCoupon]) -> Response[CouponView]:
        try:
            expires_at = in_utc(data.expires_at)
        except ValueError as error:
            raise invalid("expires_at", "body", str(error)) from None
        command = coupon.Issue(data.coupon_id, data.user_id, data.discount, expires_at, at=self._clock())
        try:
            answer = await self._writer.execute(command)
        except coupon.IssuedDifferently:
            raise _issued_differently() from None
        return Response(_view(data.coupon_id, answer.states[0]), status_code=201 if answer.facts else 200)

    async def show(self, coupon_id: PathId, request: AnyRequest) -> CouponView:
        (state,) = await self._writer.read([f"coupon-{coupon_id}"])
        if state.user_id is None or not may_see(request, state.user_id):
            raise _unknown()
        return _view(coupon_id, state)

    async def show_all(
        self, user_id: QueryId, request: AnyRequest, limit: PageSize = 50, after: After = ""
    ) -> CouponPage:
        if not may_see(request, user_id):
            raise customer_not_found()
        rows = await self._wallet.select(
            "SELECT coupon_id FROM coupons WHERE user_id = ? AND coupon_id > ? ORDER BY coupon_id LIMIT ?",
            (user_id, after, limit + 1),
        )
        ids = [str(row[0]) for row in rows[:limit]]
        states = await read_readable(self._writer, [f"coupon-{coupon_id}" for coupon_id in ids])
        found = list(zip(ids, states, strict=True))
        return CouponPage(
            [_view(coupon_id, state) for coupon_id, state in found if state is not None],
            ids[-1] if len(rows) > limit else None,
            [coupon_id for coupon_id, state in found if state is None],
        )


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    coupons = Coupons(runtime)
    issue = post(
        "/coupons",
        tags=["coupons"],
        summary="Issue a coupon to a customer",
        opt={ACCESS: ISSUE},
        responses=answer(200, CouponView, "It was issued already, by the same request.")
        | problems(400, _issued_differently(), 503),
    )
    show = get(
        "/coupons/{coupon_id:str}",
        tags=["coupons"],
        summary="A coupon, and the order that uses it",
        opt={ACCESS: ANY_CALLER},
        responses=problems(400, _unknown(), 503),
    )
    show_all = get(
        "/coupons",
        tags=["coupons"],
        summary="A customer's coupons, by id, in pages",
        opt={ACCESS: ANY_CALLER},
        responses=problems(400, customer_not_found(), 503),
    )
    return [issue(coupons.issue), show(coupons.show), show_all(coupons.show_all)]


def _issued_differently() -> Problem:
    return Problem(
        409, "coupon-exists", "this coupon was issued to another customer, or with another discount or expiry"
    )


def _unknown() -> Problem:
    return Problem(404, "coupon-not-found", "there is no such coupon")


def _view(coupon_id: str, state: coupon.State) -> CouponView:
    assert state.user_id is not None
    assert state.expires_at is not None
    return CouponView(coupon_id, state.user_id, state.discount, state.expires_at, state.order_id)
