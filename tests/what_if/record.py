"""`python -m tests.what_if.record FILE`: a short day of every kind of order on a real system, written down."""

import asyncio
import random
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ops import reading
from ops.replay.lines import line, message
from tests.audit.crowd import PAST, VALID, Wish, cancel, place, place_thrice
from tests.shop import Shop, attempts, open_shop

SEED: Final = 31
AT_ONCE: Final = 8  # customers
STEPS: Final = {"product": "order.created.pending", "point": "product.reserved", "coupon": "point.used"}
"""The steps, and what makes each of them act."""

# The day --------------------------------------------------------------------------------------------------------------

PRODUCTS: Final = {
    "mug": (7_000, 500),
    "tea": (3_000, 500),
    "lamp": (30_000, 500),
    "rare": (9_000, 3),
    "gone": (500, 0),
}
USERS: Final = ("ann", "bob", "cleo")
POOR: Final = "dan"
CHARGED: Final = 50_000


async def prepare(shop: Shop) -> None:
    for product, (price, stock) in PRODUCTS.items():
        await shop.register(product, price, stock)
    for _ in range(2):  # the second time is answered, and says nothing
        body = {"quantity": 20}
        (await shop.post("product", "/products/tea/stock", body, key="more")).raise_for_status()
        for user in USERS:
            await shop.charge(user, CHARGED)
    for user in USERS:
        for number, discount in enumerate([1, 300, 1_000_000]):
            await shop.issue(f"{user}{number}", user, discount, VALID)
        await shop.issue(f"{user}-stale", user, 300, PAST)
        await shop.issue(f"{user}-back", user, 300, VALID)
        await shop.issue(f"{user}-late", user, 300, VALID)


def wishes(some: random.Random) -> list[Wish]:
    """What is wanted while everything runs, mixed."""
    kinds = [
        *["fine"] * 12,
        *["rare"] * 5,
        *["repeated", "regretted", "product-out-of-stock", "points-insufficient"] * 3,
        *["product-unknown", "points-exceed-total", "coupon-unknown", "coupon-expired", "coupon-not-yours"] * 2,
    ]
    some.shuffle(kinds)
    made = [wish(some, kind, number) for number, kind in enumerate(kinds)]
    with_coupon = [
        Wish("fine", user, (("mug", 1),), 10, f"{user}{number}", f"{user}-coupon{number}")
        for user in USERS
        for number in range(3)
    ]
    return [*made, *with_coupon]


def wish(some: random.Random, kind: str, number: int) -> Wish:
    user, points, coupon = some.choice(USERS), some.choice([0, 10, 700]), None
    lines = [(product, some.randrange(1, 4)) for product in some.sample(["mug", "tea", "lamp"], some.randrange(1, 4))]
    match kind:
        case "product-out-of-stock":
            lines.append(("gone", 1))
        case "product-unknown":
            lines.append(("nothing-like-it", 1))
        case "rare":
            lines = [("rare", 1)]
        case "points-insufficient":
            user, points = POOR, 1_000
        case "points-exceed-total":
            lines, points = [("tea", 1)], CHARGED // 2
        case "coupon-unknown":
            coupon = "none-such"
        case "coupon-expired":
            coupon = f"{user}-stale"
        case "coupon-not-yours":
            coupon = f"{USERS[USERS.index(user) - 1]}0"
    return Wish(kind, user, tuple(lines), points, coupon, f"{kind}{number}")


async def shop_till_closing(shop: Shop) -> None:
    await prepare(shop)
    await all_at_once(shop, wishes(random.Random(SEED)))
    for user in USERS:
        await coupon_comes_back(shop, user)
    for step in STEPS:
        await withdrawn_while_down(shop, step, fenced=False)
        await withdrawn_while_down(shop, step, fenced=True)
    await shop.stop("order")
    shop.env |= {"ORDER_DEADLINE_S": "0.8", "ORDER_WAIT_S": "10"}
    await shop.start("order")
    for step, user in zip(STEPS, USERS, strict=True):
        await shop.stop(step)
        assert (await place(shop, Wish("late", user, (("tea", 1),), 10, f"{user}-late", "late"))).end != "CONFIRMED"
        await shop.start(step)
    await shop.until_quiet()


async def all_at_once(shop: Shop, wanted: Iterable[Wish]) -> None:
    queue = iter(list(wanted))

    async def customer() -> None:
        for one in queue:
            await (place_thrice if one.kind == "repeated" else place)(shop, one)
            if one.kind == "regretted":
                await cancel(shop, one)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(customer())


async def coupon_comes_back(shop: Shop, user: str) -> None:
    """Used, wanted by another order, given back, used again."""
    coupon = f"{user}-back"
    first, second, third = (Wish("", user, (("lamp", 1),), 10, coupon, f"{coupon}{number}") for number in range(3))
    assert (await place(shop, first)).end == "CONFIRMED"
    assert (await place(shop, second)).end == "coupon-already-used"
    await cancel(shop, first)
    async for _ in attempts("the coupon"):
        if await shop.coupon_used_by(coupon) is None:
            break
    assert (await place(shop, third)).end == "CONFIRMED"


async def withdrawn_while_down(shop: Shop, step: str, *, fenced: bool) -> None:
    """Canceled while a step was down. It hears first what it was to do; `fenced`: first that the order is over."""
    await shop.stop(step)
    answer = await shop.place([("mug", 1), ("tea", 1)], user="ann", points=10, coupon="ann-late")
    order_id = answer.json()["order_id"]
    async for _ in attempts(STEPS[step]):
        if STEPS[step] in await shop.facts(order_id):
            break
    (await shop.post("order", f"/orders/{order_id}/cancel", user="ann")).raise_for_status()
    if fenced:
        shop.env["HELD_AT_FIRST"] = "2"
    await shop.start(step, wrapper="backwards" if fenced else None)
    await shop.until_ended(order_id, "ann")
    if fenced:
        await shop.stop(step)
        await shop.start(step)


# Writing it down ------------------------------------------------------------------------------------------------------


async def written(shop: Shop) -> list[bytes]:
    """The stream, as `orders replay` prints it."""
    async with reading.stream(shop.env) as stream:
        return [line(message(read)) async for read in reading.read(stream)]


async def main(file: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_shop(Path(folder), ORDER_WAIT_S="0.5") as shop:
            await shop_till_closing(shop)
            lines = await written(shop)
    file.write_bytes(b"\n".join([*lines, b""]))  # noqa: ASYNC240 - nothing else runs


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
