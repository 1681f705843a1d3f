"""What the first screen shows of a snapshot: figures with their plots and objectives. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from contracts.fact import REASONS
from ops.dashboard.plots import Plot, Series, plot
from ops.dashboard.poller import POINTS, Snapshot
from ops.status.concern import duration
from ops.status.counts import COMPENSATED_LATE_S, LATE_S
from ops.status.figures import Figures
from ops.status.health import Health

LISTED: Final = re.compile(r"/ops/orders\?(status=PENDING|compensated=no)\b")


class PanelRow(NamedTuple):
    """One number of a panel, as text. `kind`: the CSS class of its line in the plot; empty: it has no line."""

    name: str
    value: str
    kind: str = ""


class Panel(NamedTuple):
    """A figure of the first screen: numbers and a plot. `unit`: that of the plot, in words.

    `note`: the objective and whether it is kept, in words; empty: there is none. `good`: it is kept, or there is none.
    """

    name: str
    title: str
    rows: Sequence[PanelRow]
    plot: Plot | None
    unit: str
    note: str = ""
    good: bool = True


def panels(seen: Snapshot) -> list[Panel]:
    """Return the figures of the first screen, in their order."""
    return [_rates(seen), _ends(seen), _times(seen), _compensations(seen)]


def _rates(seen: Snapshot) -> Panel:
    now = seen.figures
    refused = [PanelRow(f"refused: {cause}", _rate(rate)) for cause, rate in now.refusals.items()]
    return Panel(
        "rates",
        "Orders a second",
        [
            PanelRow("accepted", _rate(now.accepted), "one"),
            PanelRow("ended", _rate(now.confirmed + now.canceled), "two"),
            *(refused or [PanelRow("refused", _rate(now.refused))]),
        ],
        _plot(seen, {"accepted": lambda f: f.accepted, "ended": lambda f: f.confirmed + f.canceled}),
        "a second",
    )


def _ends(seen: Snapshot) -> Panel:
    now = seen.figures
    ended = now.confirmed + now.canceled
    known = {reason: now.reasons[reason] for reason in REASONS if reason in now.reasons}
    reasons = known | {reason: rate for reason, rate in now.reasons.items() if reason not in known}
    return Panel(
        "ends",
        "Ends",
        [
            PanelRow("confirmed", _share(now.confirmed, ended), "one"),
            PanelRow("canceled", _share(now.canceled, ended), "two"),
            *(PanelRow(f"canceled: {reason}", _share(rate, ended)) for reason, rate in reasons.items()),
        ],
        _plot(seen, {"confirmed": lambda f: f.confirmed, "canceled": lambda f: f.canceled}),
        "a second",
    )


def _times(seen: Snapshot) -> Panel:
    now = seen.figures
    return _durations(
        seen,
        ("times", "Time to the end"),
        (now.end_p50_s, now.end_p99_s),
        (lambda f: f.end_p50_s, lambda f: f.end_p99_s),
        (LATE_S, "an order ends within", now.oldest_pending_s),
    )


def _compensations(seen: Snapshot) -> Panel:
    now = seen.figures
    return _durations(
        seen,
        ("compensations", "Time to compensated"),
        (now.compensated_p50_s, now.compensated_p99_s),
        (lambda f: f.compensated_p50_s, lambda f: f.compensated_p99_s),
        (COMPENSATED_LATE_S, "a canceled order is compensated within", now.oldest_uncompensated_s),
    )


Picked = Callable[[Figures], float | None]


def _durations(
    seen: Snapshot,
    named: tuple[str, str],
    quantiles: tuple[float | None, float | None],
    picked: tuple[Picked, Picked],
    objective: tuple[float, str, float],
) -> Panel:
    """Return the panel of a duration. `named`: the panel's name and title; `quantiles`: median and 99 %, in seconds.

    `picked` takes both from the figures of a point. `objective`: its limit in seconds, its words, and for how many
    seconds the oldest order has waited.
    """
    limit_s, words, oldest_s = objective
    late = oldest_s > limit_s or any(value is not None and value > limit_s for value in quantiles)
    half, most = quantiles
    return Panel(
        *named,
        [
            PanelRow("half within", _time(half), "one"),
            PanelRow("99 % within", _time(most), "two"),
            PanelRow("the oldest that waits", duration(oldest_s) if oldest_s else "nothing waits"),
        ],
        _plot(seen, {"half": picked[0], "99 %": picked[1]}, limit_s),
        "seconds",
        f"objective: {words} {duration(limit_s)}; it is {'missed now' if late else 'kept now'}",
        not late,
    )


def _plot(seen: Snapshot, lines: Mapping[str, Picked], limit: float | None = None) -> Plot:
    series = [
        Series(name, kind, [None if point.figures is None else pick(point.figures) for point in seen.points])
        for (name, pick), kind in zip(lines.items(), ("one", "two"), strict=True)
    ]
    reached = any(value is not None and limit and value > limit / 5 for one in series for value in one.values)
    return plot(series, POINTS, limit if reached else None)


def _rate(value: float) -> str:
    return f"{value:,.1f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "none ended"


def _time(seconds: float | None) -> str:
    return "none" if seconds is None else duration(seconds)


def audit(seen: Snapshot) -> str:
    """Return the verdict of the last audit with its age, such as `found nothing, 3 h ago`; empty if none is known."""
    for service in seen.look.services:
        for one in service.samples.of("saga_audit_good"):
            age = duration(service.samples.largest("saga_audit_age_seconds"))
            unjudged = int(service.samples.largest("saga_audit_unjudged_facts"))
            not_judged = f" and did not judge {unjudged:,} facts of newer code" if unjudged else ""
            return f"{'found nothing' if one.value else 'has findings'}{not_judged}, {age} ago"
    return ""


# Where to go on -------------------------------------------------------------------------------------------------------


def links(health: Health) -> list[str]:
    """Return for each concern the address of the page that shows it, empty if none does."""
    return [next((address for command in one.commands if (address := _page(command))), "") for one in health.concerns]


def _page(command: str) -> str:
    """Return the page that shows what this command shows; empty if none does."""
    if command.startswith("just dlq"):
        return "/dead-letters"
    found = LISTED.search(command)
    return f"/orders?{found[1]}" if found else ""
