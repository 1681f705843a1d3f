"""`orders place`: place one order on the running system and see how it ends."""

import os
import re
import shlex
from typing import Any, Final

import rich_click as click

from contracts.fact import MOST
from contracts.ids import MEANING, is_id
from infra.auth.token_file import TOKEN_FILE, token_file
from infra.http.idempotency_key import PATTERN, new_key
from infra.http.wording import FORMS
from infra.settings import load
from ops.cli import EXIT_FINDING, EXIT_UNREACHABLE, ID, WholeNumber, end, ending_well, timeout_option
from ops.client import NEXT_STEP, REFUSED_CALLER, TIMEOUT_S, ServiceAnswer, ServiceRequest, send, services
from ops.errors import Unreachable, Unusable
from ops.output import cell, print_json, print_out
from order_svc.settings import OrderSettings

DIGITS: Final = 9
"""The most digits of a quantity."""
SERVER_ERROR: Final = 500
"""From this status on, an answer says that order_svc could not do it, and not that the order is refused."""


class LineArgument(click.ParamType[dict[str, Any]]):
    """A parameter such as `p1:2`, or `p1` for one piece; its value is a line for the body of POST /orders."""

    name = "product:quantity"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        match = re.fullmatch(r"([^:]+)(?::([0-9]+))?", value)
        if match is None:
            self.fail(f"{value!r} is not PRODUCT:QUANTITY, such as p1:2", param, ctx)
        if not is_id(match[1]):
            self.fail(f"{match[1]!r} is no product's id: {MEANING}", param, ctx)
        if len(match[2] or "") > DIGITS:
            self.fail(f"the quantity of {match[1]} is too large: it has more than {DIGITS} digits", param, ctx)
        return {"product_id": match[1], "quantity": int(match[2] or 1)}


class KeyOption(click.ParamType[str]):
    """A parameter that is a value of the header Idempotency-Key."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if re.match(PATTERN, value) is None:
            self.fail(f"the key {FORMS[PATTERN]}", param, ctx)
        return str(value)


@click.command("place")
@click.argument("lines", nargs=-1, required=True, type=LineArgument(), metavar="PRODUCT:QUANTITY...")
@click.option("--user", type=ID, required=True, metavar="ID", help="The customer (sent as X-User-Id).")
@click.option(
    "--points", type=WholeNumber(-MOST, MOST), default=0, show_default=True, metavar="N", help="Points to use."
)
@click.option("--coupon", type=ID, metavar="ID", help="The coupon to use. Default: none.")
@click.option(
    "--key",
    type=KeyOption(),
    metavar="KEY",
    help="Idempotency-Key: the same key is the same order. Default: a new one.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines: the status, the key, and order_svc's answer.")
@timeout_option(None)
@ending_well
def command(
    *,
    lines: tuple[dict[str, Any], ...],
    user: str,
    points: int,
    coupon: str | None,
    key: str | None,
    as_json: bool,
    timeout: float | None,
) -> None:
    """Place one order on the running system and wait for its end, at most as long as order_svc's ORDER_WAIT_S.

    PRODUCT:QUANTITY is what to order, such as p1:2; p1 alone means p1:1.

    A first order, on a system started with `just up`; with other ports, PRODUCT_PORT is for 8002 and POINT_PORT for
    8003:

    \b
      json='Content-Type: application/json'
      curl -s localhost:8002/products -H "$json" -d '{"product_id":"p1","name":"Mug","price":12000,"stock":10}'
      curl -s localhost:8003/points/u1/charge -H 'Idempotency-Key: first' -H "$json" -d '{"amount":5000}'
      just place --user u1 --points 500 p1:2

    Then ask for more than there is (p1:1000), or repeat an order by its key: no second order is placed.

    \b
    Exit code: 0 confirmed; 1 refused, canceled, or still pending; 2 wrong usage; 3 order_svc cannot be reached, or
               could not do it (5xx): the order may be placed all the same; --key with the key that is said repeats it
    Settings:  ORDER_PORT (8001), BIND_HOST (127.0.0.1) and ORDER_WAIT_S (5), as order_svc was started with
    """
    _check_token(user)
    body = {"lines": lines, "points": points, "coupon_id": coupon}
    key = key or new_key()
    headers = {"X-User-Id": user, "Idempotency-Key": key}
    if timeout is None:
        timeout = load(OrderSettings, "order", 8_001, os.environ).order_wait_s + TIMEOUT_S
    try:
        answer = send(ServiceRequest(services(os.environ)["order"], "POST", "/orders", body, headers), timeout)
    except Unreachable as error:
        raise Unreachable(
            f"{error}\nIs the system running (`just up`), with this ORDER_PORT and BIND_HOST?\n{_repeat(key)}"
        ) from error
    if as_json:
        print_json({"http_status": answer.status, "idempotency_key": key, **answer.body})
    else:
        print_out("\n".join(cell(line) for line in lines_of(answer)))
    if answer.status >= SERVER_ERROR:
        end(_repeat(key), EXIT_UNREACHABLE)
    if answer.status != 200:
        end("", EXIT_FINDING)


def _check_token(user: str) -> None:
    """Raise Unusable if the token that is sent names another customer: the order would be that one's."""
    named = None if (token := token_file(os.environ)) is None else token.subject()
    if named not in (None, user):
        whose = f"the token in {TOKEN_FILE} is {named}'s, so the order would be, too"
        raise Unusable(f"{whose}: --user {named}, or another token")


def _repeat(key: str) -> str:
    return f"if the order was placed all the same, this repeats it and places no second one: --key {shlex.quote(key)}"


def lines_of(answer: ServiceAnswer) -> list[str]:
    """Return what `told` returns. Raises Unreachable if the answer lacks a field that order_svc's answers have.

    Then another program gave it.
    """
    try:
        return told(answer)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable(f"the answer is none of order_svc ({error!r}); does another program listen there?") from error


def told(answer: ServiceAnswer) -> list[str]:
    """Return order_svc's answer to POST /orders as lines for a person.

    They have the HTTP status, the order's status, and, as far as the answer has them, problem, amounts, and the
    command that traces the order. After an error of the service the order is UNKNOWN: it may be recorded all the
    same. Raises KeyError, TypeError, ValueError or AttributeError for an answer that is none of order_svc.
    """
    body, status = answer.body, answer.status
    unknown = "UNKNOWN whether it is placed" if status >= SERVER_ERROR else "REFUSED"
    how = body.get("status") if status in (200, 202) else body.get("order_status", unknown)
    lines = [f"{status} {how}" + (f": {body['type'].rpartition('/')[2]}" if "type" in body else "")]
    if "detail" in body:
        lines.append(f"  {body['detail']}")
    if status in REFUSED_CALLER:
        lines.append(f"  {NEXT_STEP}")
    if body.get("amount_due") is not None:
        lines += [
            f"  {item['quantity']:>5} x {item['product_id']:<20} {item['quantity'] * item['unit_price']:>14,}"
            for item in body["lines"]
        ]
        lines += [
            f"        {'points':<20} {-body['points']:>14,}",
            f"        {'coupon ' + (body['coupon_id'] or '-'):<20} {-body['discount']:>14,}",
            f"        {'due, in won':<20} {body['amount_due']:>14,}",
        ]
    if "idempotent-replayed" in answer.headers:
        lines.append("  (the answer to an earlier request with this key)")
    if "order_id" in body:
        lines.append(f"  what happened to it: just trace {body['order_id']}")
    return lines
