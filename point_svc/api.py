"""Points: charge an account, look at its balance."""

from collections.abc import Sequence

from litestar import get, post
from litestar.params import JSONBody
from litestar.response import Response
from litestar.types import ControllerRouterHandler
from msgspec import Struct

from infra.http.parameters import Amount, IdempotencyKey, PathId, replayable
from infra.http.problems import Problem, problems
from infra.process.service import Runtime
from point_svc import domain


class ChargePoints(Struct, frozen=True, forbid_unknown_fields=True):
    amount: Amount


class AccountView(Struct):
    """A customer's points."""

    user_id: str
    balance: int


def routes(runtime: Runtime) -> Sequence[ControllerRouterHandler]:
    writer = runtime.writer

    @post(
        "/points/{user_id:str}/charge",
        tags=["points"],
        summary="Charge an account with points, once per Idempotency-Key (required)",
        responses=problems(400, 422, 503),
    )
    async def charge(
        user_id: PathId, data: JSONBody[ChargePoints], idempotency_key: IdempotencyKey = None
    ) -> Response[AccountView]:
        if idempotency_key is None:
            raise Problem(
                400,
                "idempotency-key-required",
                "send an Idempotency-Key header: without one a repeated request would charge twice",
                errors=[{"field": "Idempotency-Key", "source": "header", "message": "required"}],
            )
        key, headers = replayable(idempotency_key)
        try:
            answer = await writer.execute(domain.Charge(user_id, data.amount, key, at=runtime.clock()))
        except domain.ChargedDifferently:
            raise Problem(
                422, "idempotency-key-reused", "this Idempotency-Key was used for a different amount"
            ) from None
        except domain.ChargedTooMuch:
            raise Problem(422, "account-full", "all charges of an account together may be at most 2^53 - 1") from None
        return Response(AccountView(user_id, answer.states[0].balance), status_code=201, headers=headers(answer))

    @get("/points/{user_id:str}", tags=["points"], summary="A customer's balance", responses=problems(400, 503))
    async def show(user_id: PathId) -> AccountView:
        (state,) = await writer.read([f"account-{user_id}"])
        return AccountView(user_id, state.balance)

    return [charge, show]
