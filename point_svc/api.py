"""Routes of points: charge an account, show its balance."""

from collections.abc import Sequence
from typing import Final

from litestar import get, post
from litestar.params import JSONBody
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from infra.http.access import ACCESS, ANY_CALLER, may_see
from infra.http.answers import REQUIRED, problems
from infra.http.examples import example
from infra.http.idempotency_key import IdempotencyKey, read_key, replayable
from infra.http.parameters import Amount, AnyRequest, PathId
from infra.http.problems import FieldError, Problem, customer_not_found
from infra.process.runtime import Runtime
from point_svc.domain import charge

CHARGE: Final = "points:charge"
"""The scope of who charges accounts."""


@example(amount=5_000)
class ChargePoints(Struct, frozen=True, forbid_unknown_fields=True):
    amount: Amount


@example(user_id="u1", balance=5_000)
class AccountView(Struct):
    """A customer's account as it is now. `balance` in points; 0 for a customer without charges."""

    user_id: str
    balance: int


class Points:
    """Handles the requests about points; the function `routes` maps paths to these methods."""

    def __init__(self, runtime: Runtime) -> None:
        self._clock = runtime.clock
        self._writer = runtime.writer

    async def charge(
        self, user_id: PathId, data: JSONBody[ChargePoints], idempotency_key: IdempotencyKey = None
    ) -> Response[AccountView]:
        if idempotency_key is None:
            raise _key_required()

        async def is_recorded(key: str) -> bool:
            (state,) = await self._writer.read([charge.charge_stream(user_id, key)])
            return state.amount is not None

        key, headers = await read_key(idempotency_key, is_recorded), replayable(idempotency_key)
        try:
            answer = await self._writer.execute(charge.Charge(user_id, data.amount, key, at=self._clock()))
        except charge.ChargedDifferently:
            raise _charged_differently() from None
        except charge.ChargedTooMuch:
            raise _charged_too_much() from None
        return Response(AccountView(user_id, answer.states[1].balance), status_code=201, headers=headers(answer))

    async def show(self, user_id: PathId, request: AnyRequest) -> AccountView:
        (state,) = await self._writer.read([f"account-{user_id}"])
        if not may_see(request, user_id):
            raise customer_not_found()
        return AccountView(user_id, state.balance)


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    points = Points(runtime)
    charging = post(
        "/points/{user_id:str}/charge",
        tags=["points"],
        summary="Charge an account with points, once per Idempotency-Key (required)",
        opt={ACCESS: CHARGE, REQUIRED: ["Idempotency-Key"]},
        responses=problems(400, _key_required(), _charged_differently(), _charged_too_much(), 503),
    )
    show = get(
        "/points/{user_id:str}",
        tags=["points"],
        summary="A customer's balance",
        opt={ACCESS: ANY_CALLER},
        responses=problems(400, customer_not_found(), 503),
    )
    return [charging(points.charge), show(points.show)]


def _key_required() -> Problem:
    return Problem(
        400,
        "idempotency-key-required",
        "send an Idempotency-Key header: without one a repeated request would charge twice",
        errors=[FieldError("Idempotency-Key", "header", "is required")],
    )


def _charged_differently() -> Problem:
    return Problem(422, "idempotency-key-reused", "this Idempotency-Key was used for a different amount")


def _charged_too_much() -> Problem:
    return Problem(422, "account-full", "all charges of an account together may be at most 2^53 - 1")
