"""Lists by product, coupon or time: searched for in order_svc's log, as `just find` does, one search at a time."""

import asyncio
from collections.abc import Mapping
from shlex import quote
from typing import Final

import rich_click as click

from contracts.origin import number
from infra.http.problems import Problem
from ops.cli import ID, INSTANT
from ops.dashboard.lists import DEFAULTS, PAGE, Filters, ListedPage, ListedRow
from ops.errors import Unreachable
from ops.find.command import criteria_of
from ops.find.criteria import Criteria, FoundOrder
from ops.find.nothing import why_nothing
from ops.find.search import FoundOrders, Search, search

SEARCH_S: Final = 10.0
"""A search that takes longer is given up: the command has no such limit."""


class _Unwatched:
    """Shows no progress."""

    def begins(self, what: str, items: int) -> None:
        pass

    def advances(self, items: int) -> None:
        pass


class LogSearch:
    """Searches the log of order_svc below DATA_DIR of `env`, whether order_svc runs or not."""

    def __init__(self, env: Mapping[str, str], search_s: float = SEARCH_S) -> None:
        self._env = env
        self._search_s = search_s
        self._turn = asyncio.Lock()

    async def page(self, wanted: Filters, cursor: str = "") -> ListedPage:
        """Return a page of at most PAGE (50) orders that fit `wanted`, the newest by `ListedPage.by` first.

        `cursor`: `following` of the page before; empty: the first page. Raises Problem (400) for an invalid filter or
        cursor; Unreachable if the log cannot be read, or the search takes longer than `search_s` seconds, its wait for
        other searches included.
        """
        criteria, asked = criteria_for(wanted), command_for(wanted)
        if cursor and not number(cursor):
            raise Problem(400, "invalid-request", "cursor has to be that of a page of this list")
        wanted_page = Search(criteria, number(cursor) or None, PAGE)
        try:
            async with asyncio.timeout(self._search_s), self._turn:
                found = await search(self._env, wanted_page, _Unwatched())
                why = "" if found.orders else await why_nothing(self._env, criteria, found, _Unwatched())
        except TimeoutError:
            raise Unreachable(
                f"the search in order_svc's log was given up after {self._search_s:g} s; `{asked}` has no such limit, "
                "and less time to search in takes less"
            ) from None
        return ListedPage(
            [_row(one) for one in found.orders],
            str(found.following or ""),
            why=why,
            notes=_notes(found),
            command=asked,
            by=criteria.by,
        )


def criteria_for(wanted: Filters) -> Criteria:
    """Return what these filters ask for, as the options of `just find` would.

    Raises Problem (400) if one is invalid, if two contradict each other, or if `older_than_s` is set.
    """
    if wanted.older_than_s != DEFAULTS["older_than_s"]:
        raise _wrong("older_than_s does not go with product, coupon or time: `until` says how old orders have to be")
    if wanted.status not in ("ALL", "PENDING", "CONFIRMED", "CANCELED"):
        raise _wrong("status has to be ALL, PENDING, CONFIRMED or CANCELED")
    if wanted.compensated not in (DEFAULTS["compensated"], "no"):
        raise _wrong("compensated has to be any or no")
    try:
        return criteria_of(
            user=ID.convert(wanted.user_id, None, None) if wanted.user_id else None,
            product=ID.convert(wanted.product, None, None) if wanted.product else None,
            coupon=ID.convert(wanted.coupon, None, None) if wanted.coupon else None,
            end=None if wanted.status == DEFAULTS["status"] else wanted.status.lower(),
            reason=None if wanted.reason == DEFAULTS["reason"] else wanted.reason,
            since=INSTANT.convert(wanted.since, None, None) if wanted.since else None,
            until=INSTANT.convert(wanted.until, None, None) if wanted.until else None,
            by=None,
            uncompensated=wanted.compensated != DEFAULTS["compensated"],
        )
    except click.UsageError as error:
        raise _wrong(error.format_message()) from error


def command_for(wanted: Filters) -> str:
    """Return the `just find` command, for a shell, that searches for the same orders."""
    options = {
        "user": wanted.user_id,
        "product": wanted.product,
        "coupon": wanted.coupon,
        "end": "" if wanted.status == DEFAULTS["status"] else wanted.status.lower(),
        "reason": "" if wanted.reason == DEFAULTS["reason"] else wanted.reason,
        "since": wanted.since,
        "until": wanted.until,
    }
    flags = [] if wanted.compensated == DEFAULTS["compensated"] else ["--uncompensated"]
    return " ".join(["just find", *(f"--{name} {quote(value)}" for name, value in options.items() if value), *flags])


def _wrong(why: str) -> Problem:
    return Problem(400, "invalid-request", why)


def _row(found: FoundOrder) -> ListedRow:
    return ListedRow(
        found.order_id,
        found.status,
        found.user_id,
        found.placed_at,
        found.reason,
        found.ended_at,
        amount_due=found.amount_due,
        coupon_id=found.coupon_id,
    )


def _notes(found: FoundOrders) -> list[str]:
    newer = [f"of newer code: {one}" for one in found.newer]
    return [*found.notes, *(f"damaged: {one}" for one in found.damaged), *newer]
