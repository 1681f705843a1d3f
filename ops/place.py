"""`python -m ops.place`: place one order on the running system and see how it ends."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from infra.local.services import service_url
from infra.settings import SettingsError
from ops.cli import EXIT_UNREACHABLE, EXIT_USAGE
from ops.client import Answer, Unreachable, request

EXIT_CONFIRMED: Final = 0
EXIT_REFUSED: Final = 1

EPILOG: Final = """\
a first order, on a system started with `just up`:

  curl -s localhost:8002/products -d '{"product_id":"p1","name":"Mug","price":12000,"stock":10}'
  curl -s localhost:8003/points/u1/charge -H 'Idempotency-Key: first' -d '{"amount":5000}'
  just place --user u1 --points 500 p1:2

then ask for more than there is (p1:1000), or repeat an order by its key: the second answer is the first one again.

exit code: 0 confirmed; 1 refused, canceled, or still pending; 2 wrong usage; 3 order_svc cannot be reached
settings:  ORDER_PORT (8001) and BIND_HOST (127.0.0.1), as order_svc was started with
"""


def line(text: str) -> dict[str, Any]:
    """`p1:2`, or `p1` for one piece."""
    match = re.fullmatch(r"([^:]+)(?::([0-9]{1,9}))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not PRODUCT:QUANTITY, such as p1:2")
    return {"product_id": match[1], "quantity": int(match[2] or 1)}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="just place",
        description="Place one order on the running system and wait for its end.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("lines", nargs="+", type=line, metavar="PRODUCT:QUANTITY", help="what to order; p1 means p1:1")
    made.add_argument("--user", required=True, metavar="ID", help="the customer (sent as X-User-Id)")
    made.add_argument("--points", type=int, default=0, metavar="N", help="points to use (default: %(default)s)")
    made.add_argument("--coupon", metavar="ID", help="the coupon to use (default: none)")
    made.add_argument(
        "--key", metavar="KEY", help="Idempotency-Key: the same key is the same order (default: the server makes one)"
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parser().parse_args(arguments)
    try:
        base = service_url("order", os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    body = {"lines": asked.lines, "points": asked.points, "coupon_id": asked.coupon}
    headers = {"X-User-Id": asked.user} | ({"Idempotency-Key": asked.key} if asked.key else {})
    try:
        answer = request("POST", f"{base}/orders", body, headers)
    except Unreachable as error:
        sys.stderr.write(f"{error}\nIs the system running (`just up`), with this ORDER_PORT and BIND_HOST?\n")
        return EXIT_UNREACHABLE
    print("\n".join(told(answer)))
    return EXIT_CONFIRMED if answer.status == 200 else EXIT_REFUSED


def told(answer: Answer) -> list[str]:
    """The answer for a person: what became of the order, what it costs or why not, how to look at it."""
    body = answer.body
    how = body.get("status") if answer.status in (200, 202) else body.get("order_status", "REFUSED")
    lines = [f"{answer.status} {how}" + (f": {body['type'].rpartition('/')[2]}" if "type" in body else "")]
    if "detail" in body:
        lines.append(f"  {body['detail']}")
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


if __name__ == "__main__":
    raise SystemExit(main())
