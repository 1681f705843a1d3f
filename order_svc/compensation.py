"""Finds whether everything that a canceled order took is back: canceled does not yet mean compensated."""

from collections.abc import Collection

from contracts import WITHDRAWALS, Fact, Reason
from contracts.step import Step, Steps, fact_name
from contracts.wire import STEPS


def compensated(reason: Reason, facts: Collection[str], steps: Steps = STEPS) -> bool:
    """Return whether an order that was canceled for this reason is compensated: no step is open. See `open_steps`."""
    return not open_steps(reason, facts, steps)


def open_steps(reason: Reason, facts: Collection[str], steps: Steps = STEPS) -> list[Step]:
    """Return the steps of an order canceled for this reason that have yet to be undone or fenced.

    `facts`: the names of the order's known facts. Awaited steps are those before the confirmation (`steps.awaited`).
    After a step's refusal, each awaited step that the order may have reached without that step must be undone or
    fenced; as long as no refusal is among `facts`, all awaited steps are open. After a withdrawal by the customer or
    the deadline, each awaited step must be undone or fenced, or have refused. A step that follows the confirmation only
    counts after a withdrawal, and if the order got there: otherwise it has nothing to undo.
    """
    refusing = next((step for step in steps.awaited if _said(step.refused, facts)), None)
    if reason not in WITHDRAWALS:
        if refusing is None:
            return list(steps.awaited)
        return [step for step in _not_behind(refusing, steps) if not _is_closed(step, facts)]
    reached = [step for step in steps.following if _said(step.hears, facts) or _said(step.done, facts)]
    return [step for step in (*steps.awaited, *reached) if not (_said(step.refused, facts) or _is_closed(step, facts))]


def _not_behind(refusing: Step, steps: Steps) -> list[Step]:
    """Return the steps before the confirmation that an order may have reached although the step `refusing` refused it.

    They are all of `steps.awaited` but `refusing` itself and the steps that only start after it.
    """
    never = {refusing.done}
    for step in steps.awaited:
        if step.hears in never:
            never.add(step.done)
    return [step for step in steps.awaited if step.done not in never]


def _is_closed(step: Step, facts: Collection[str]) -> bool:
    return _said(step.undone, facts) or _said(step.fenced, facts)


def _said(fact: type[Fact] | None, facts: Collection[str]) -> bool:
    return fact is not None and fact_name(fact) in facts
