"""Compares the customers' answers with order_svc's records: nothing may be lost, doubled or stuck."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.load import Job, work
from bench.wares import Wares
from order_svc.ids import order_id
from tests.chaos.customers import Wish

OPEN = "202 PENDING"  # as the benchmark calls an answer that came before the end


class Course(NamedTuple):
    """One order in the log. `ends`: as the benchmark names them, in their order."""

    created: int
    ends: list[str]


class Books(NamedTuple):
    """The errors found, one sentence each, and how the orders of the round ended."""

    lost: list[str]
    doubled: list[str]
    stuck: list[str]
    ended: Counter[str]

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.stuck]


def courses(file: Path, after: int) -> tuple[dict[str, Course], int]:
    """The orders of this log whose records come after this position, and the last position."""
    found: dict[str, Course] = {}
    with closing(sqlite3.connect(file)) as connection:
        for position, topic, body in connection.execute(
            "SELECT rowid, topic, state FROM stored_events WHERE rowid > ? ORDER BY rowid", (after,)
        ):
            fact: dict[str, Any] = msgspec.json.decode(body)
            course = found.setdefault(fact["order_id"], Course(0, []))
            after = position
            match topic:
                case "order.created.pending":
                    found[fact["order_id"]] = course._replace(created=course.created + 1)
                case "order.confirmed":
                    course.ends.append("confirmed")
                case "order.canceled":
                    course.ends.append(fact["reason"])
    return found, after


def balance(wishes: Iterable[Wish], found: dict[str, Course]) -> Books:
    """Compare. `found`: the orders recorded in the same time; all must be quiet."""
    lost: list[str] = []
    doubled: list[str] = []
    stuck: list[str] = []
    ended: Counter[str] = Counter()
    wanted: set[str] = set()
    for wish in wishes:
        what = f"order {wish.number} ({wish.mood}, {wish.request.key})"
        if not wish.ids:
            stuck.append(f"{what} was never answered")
            wanted.add(order_id(wish.request.user, wish.request.key))
            continue
        if len(wish.ids) != 1 or "" in wish.ids:
            doubled.append(f"{what} was answered as {sorted(wish.ids)}: {wish.ends}")
            continue
        (told,) = wish.ids
        wanted.add(told)
        course = found.get(told, Course(0, []))
        if course.created == 0:
            lost.append(f"{what} was answered {wish.ends} as {told}, and is not in the log")
        elif course.created > 1:
            doubled.append(f"{what} is {course.created} times in the log")
        elif not course.ends:
            stuck.append(f"{what}, {told}, has not ended")
        else:
            ended[course.ends[-1]] += 1
            lost += [f"{what}, {told}: {why}" for why in _contradictions(wish, course.ends)]
    doubled += [f"order {other} is in the log, and nobody wanted it" for other in found.keys() - wanted]
    return Books(lost, doubled, stuck, ended)


def _contradictions(wish: Wish, ends: Sequence[str]) -> list[str]:
    """Errors in the answers about an order's end: an end is final, and only the customer's own cancel changes a
    confirmed one.
    """
    told = set(wish.ends) - {OPEN}
    found = [f"was told {end}, and it ended as {ends}" for end in told if end not in ends]
    if len(ends) > 1 and (ends != ["confirmed", "customer-canceled"] or not wish.canceled):
        found.append(f"ended as {ends}")
    if wish.canceled and "customer-canceled" not in ends and ends == ["confirmed"]:
        found.append("was told that it is canceled, and it is confirmed")
    return found


async def totals(urls: dict[str, str], wares: Wares, wishes: Sequence[Wish], found: dict[str, Course]) -> list[str]:
    """Errors in stock, points and coupons, by the customers' answers and the orders' ends."""
    kept = [wish.number for wish in wishes if found[next(iter(wish.ids))].ends == ["confirmed"]]
    done = await work(Job(do="check", urls=urls, wares=wares, confirmed=kept))
    return done.wrong
