"""Coupons: issue, look, list a customer's."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from coupon_svc import domain
from infra.http.parameters import After, Id, PageSize, PathId, Price, QueryId
from infra.http.problems import Problem, problems
from infra.process.service import Runtime


class IssueCoupon(Struct, frozen=True, forbid_unknown_fields=True):
    """A coupon worth up to `discount` won, for orders accepted before `expires_at` (RFC 3339, with an offset)."""

    coupon_id: Id
    user_id: Id
    discount: Price
    expires_at: Annotated[datetime, Meta(tz=True)]


class CouponView(Struct):
    """`order_id` is the order that uses the coupon, null if none does."""

    coupon_id: str
    user_id: str
    discount: int
    expires_at: datetime
    order_id: str | None


class CouponPage(Struct):
    """Coupons by id; `next` is the `after` of the next page, null on the last one."""

    coupons: list[CouponView]
    next: str | None


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    writer, wallet = runtime.writer, runtime.views["wallet"]

    @post("/coupons", tags=["coupons"], summary="Issue a coupon to a customer", responses=problems(400, 409, 503))
    async def issue(data: JSONBody[IssueCoupon]) -> Response[CouponView]:
        command = domain.Issue(data.coupon_id, data.user_id, data.discount, data.expires_at, at=runtime.clock())
        try:
            answer = await writer.execute(command)
        except domain.IssuedDifferently:
            raise Problem(
                409, "coupon-exists", "this coupon was issued to another customer, or with another discount or expiry"
            ) from None
        return Response(_view(data.coupon_id, answer.states[0]), status_code=201 if answer.facts else 200)

    @get(
        "/coupons/{coupon_id:str}",
        tags=["coupons"],
        summary="A coupon, and the order that uses it",
        responses=problems(400, 404, 503),
    )
    async def show(coupon_id: PathId) -> CouponView:
        (state,) = await writer.read([f"coupon-{coupon_id}"])
        if state.user_id is None:
            raise Problem(404, "coupon-not-found", "there is no such coupon")
        return _view(coupon_id, state)

    @get("/coupons", tags=["coupons"], summary="A customer's coupons, by id, in pages", responses=problems(400, 503))
    async def show_all(
        user_id: QueryId,
        limit: PageSize = 50,
        after: After = "",
    ) -> CouponPage:
        rows = await wallet.select(
            "SELECT coupon_id FROM coupons WHERE user_id = ? AND coupon_id > ? ORDER BY coupon_id LIMIT ?",
            (user_id, after, limit + 1),
        )
        ids = [str(row[0]) for row in rows[:limit]]
        states = await writer.read([f"coupon-{coupon_id}" for coupon_id in ids])
        return CouponPage(
            [_view(coupon_id, state) for coupon_id, state in zip(ids, states, strict=True)],
            ids[-1] if len(rows) > limit else None,
        )

    return [issue, show, show_all]


def _view(coupon_id: str, state: domain.State) -> CouponView:
    assert state.user_id is not None
    assert state.expires_at is not None
    return CouponView(coupon_id, state.user_id, state.discount, state.expires_at, state.order_id)
