"""Says why no order was found: an id that nobody knows, a time of which nothing is recorded, or none that fits."""

import contextlib
from collections.abc import Mapping

from ops import stores
from ops.at import kinds
from ops.details import shown_time
from ops.errors import Unreachable
from ops.find.criteria import Criteria
from ops.find.search import FoundOrders, Search, search
from ops.find.span import time_at
from ops.progress import Watch


async def why_nothing(env: Mapping[str, str], criteria: Criteria, found: FoundOrders, watch: Watch) -> str:
    """Return as one line why `found`, which has no order, has none. Raises SettingsError, Unreachable."""
    if unknown := await _unknown(env, criteria, watch):
        return unknown
    if not found.last:
        return "no order was found: order_svc's log is empty"
    async with stores.log(env, "order") as log:
        first, last = await time_at(log, 1), await time_at(log, found.last)
        low, high = await time_at(log, found.within.after + 1), await time_at(log, max(found.within.until, 1))
    if last and criteria.since and criteria.since > last:
        return f"no order was found: order_svc's log ends at {shown_time(last)}, nothing is recorded since then"
    if first and criteria.until and criteria.until < first:
        return f"no order was found: order_svc's log begins at {shown_time(first)}"
    searched = f"positions {found.within.after + 1:,} to {found.within.until:,} of order_svc's log"
    if low and high and found.within.until > found.within.after:
        searched += f", from {shown_time(low)} to {shown_time(high)}"
    return f"no order was found: none that fits is in {searched}"


async def _unknown(env: Mapping[str, str], criteria: Criteria, watch: Watch) -> str:
    """Return a text that names the ids in `criteria` that their services never recorded; empty if there are none.

    An id whose log cannot be read counts as known. A user without points has no account; one with an order counts as
    known all the same.
    """
    told = []
    for kind, key in (("product", criteria.product), ("coupon", criteria.coupon), ("user", criteria.user)):
        service, category, _ = kinds()[kind]
        if key is None:
            continue
        with contextlib.suppress(Unreachable):
            async with stores.log(env, service) as log:
                known = await log.has_stream(f"{category}-{key}")
            if known or (kind == "user" and (await search(env, Search(Criteria(user=key), limit=1), watch)).orders):
                continue
            told.append(f"{service}_svc has never recorded anything about the {kind} {key}")
    return f"no order was found: {'; '.join(told)}" if told else ""
