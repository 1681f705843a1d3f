"""Finds whether everything that a canceled order took is back: canceled does not yet mean compensated."""

from collections.abc import Collection

from contracts import WITHDRAWALS, Fact, Reason
from contracts.step import Step, Steps, fact_name
from contracts.wire import STEPS


def compensated(reason: Reason, facts: Collection[str], steps: Steps = STEPS) -> bool:
    """Return whether an order that was canceled for this reason is compensated. `facts`: the names of its known facts.

    After a step's refusal, which must be among `facts`, each awaited step that the order may have reached without that
    step must be undone or fenced. After a withdrawal by the customer or the deadline, each awaited step must be undone
    or fenced, or have refused. A step that follows the confirmation only counts if the order got there: otherwise
    nothing is to be undone there.
    """
    refusing = next((step for step in steps.awaited if _said(step.refused, facts)), None)
    if reason not in WITHDRAWALS:
        return refusing is not None and all(_is_closed(step, facts) for step in _not_behind(refusing, steps))
    reached = [step for step in steps.following if _said(step.hears, facts) or _said(step.done, facts)]
    return all(_said(step.refused, facts) or _is_closed(step, facts) for step in (*steps.awaited, *reached))


def _not_behind(refusing: Step, steps: Steps) -> list[Step]:
    """Return the awaited steps that an order may have reached although the step `refusing` refused it.

    The others are `refusing` itself and the steps that only start after it.
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
