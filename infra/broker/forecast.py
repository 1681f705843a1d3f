"""Forecasts, from the rate at which facts come, when the broker would take no more of them.

The stream rolls over, and sealed generations are archived, so age alone fills nothing. What does: nobody rolls over, so
the newest generation comes to its limit; or nobody archives, so the broker has no room for another generation, and the
newest one fills.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from nats.js.api import StreamInfo

from infra.broker.numbering import EVENTS
from infra.broker.rolling import overdue
from infra.settings import Settings

WARNED_DAYS: Final = 14.0
"""A warning is given from so many days before on."""

UNSEALED_S: Final = 900.0
"""A generation before the newest is sealed some seconds after the newest is made; after so long nobody does it."""

LEAST_AGE_S: Final = 3_600.0
"""A younger generation counts as so old: what comes in a minute tells nothing about days."""

DAY_S: Final = 86_400.0


def bytes_per_s(infos: Sequence[StreamInfo], now: datetime) -> float:
    """Return the mean growth of these generations, the oldest first: of all, or of the newest, whichever is higher.

    A generation younger than LEAST_AGE_S counts as that old.
    """
    whole = sum(info.state.bytes for info in infos)
    return max(whole / _age_s(infos[0], now), infos[-1].state.bytes / _age_s(infos[-1], now))


def _age_s(info: StreamInfo, now: datetime) -> float:
    age_s = 0.0 if info.created is None else (now - info.created).total_seconds()
    return max(age_s, LEAST_AGE_S)


def _unsealed(infos: Sequence[StreamInfo], now: datetime) -> str | None:
    """Return a warning if older generations are not sealed UNSEALED_S after the newest was made; else None."""
    newest, left = infos[-1], [str(info.config.name) for info in infos[:-1] if not info.config.sealed]
    age_s = 0.0 if newest.created is None else (now - newest.created).total_seconds()
    if not left or age_s < UNSEALED_S:
        return None
    return (
        f"an older generation of {EVENTS} is not sealed after {age_s / 60:.0f} min ({', '.join(left)}): "
        "is the keeper running (just stream keeper)?"
    )


def forecast(infos: Sequence[StreamInfo], settings: Settings, now: datetime) -> list[str]:
    """Return warnings, with the next step: the keeper's work is late; the broker lacks room for another generation.

    It lacks room now or within WARNED_DAYS; there is no such warning if `settings.broker_room` is unknown. Empty if
    there is nothing to warn of. `infos` are those of the generations, the oldest first.
    """
    rate = bytes_per_s(infos, now)
    newest = infos[-1]
    told = [late] if (late := _unsealed(infos, now)) else []
    if late := overdue(newest, settings, now):
        limit = newest.config.max_bytes or 0
        left = 0.95 * limit - newest.state.bytes
        told.append(f"{late} At the present rate it is full {_when(left, rate)}" if limit > 0 else late)
    if settings.broker_room:
        # It needs the room of a whole generation more to make one; then the newest fills.
        left = settings.broker_room - 1.05 * settings.events_max_bytes - sum(info.state.bytes for info in infos)
        if left <= rate * WARNED_DAYS * DAY_S:
            told.append(
                f"the broker takes no more facts {_when(left, rate)}, at the present rate: archive the sealed "
                "generations (just archive), or give it more room (BROKER_MAX_BYTES)"
            )
    return told


def _when(left: float, rate: float) -> str:
    days = left / rate / DAY_S if rate > 0 else float("inf")
    if left <= 0:
        return "from now on"
    return "some day" if days > 999 else f"in about {days:.0f} days" if days >= 2 else f"in about {24 * days:.0f} hours"
