"""Prints what became of the mutants of a group."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.mutants.groups import Group, wilson
from tests.mutants.judged import JUDGED
from tests.mutants.results import KILLED, REFUSED, SLOW, Result


def figures(group: Group, told: Sequence[Result], waiting: int) -> str:
    """One line of figures: how many were tried and found, and of a sample the interval of the share."""
    states = Counter(result.state for result in told)
    found = sum(result.found for result in told)
    equivalent = sum(not result.found and (result.path, result.name) in JUDGED for result in told)
    counted = len(told) - equivalent
    share = f"{found / counted:.1%}" if counted else "nothing"
    if group.sample is not None and counted:
        low, high = wilson(found, counted)
        share += f" (95 % interval {low:.1%} to {high:.1%})"
    return (
        f"{group.name}: {len(told)} mutants, {equivalent} of them equivalent; found {found} of {counted}: {share}"
        f" (tests {states[KILLED]}, timeout {states[SLOW]}, mypy {states[REFUSED]}); {waiting} not tried yet"
    )


def listed(told: Sequence[Result]) -> Iterator[str]:
    """A line for each that nothing noticed."""
    for result in told:
        if not result.found:
            why = JUDGED.get((result.path, result.name))
            judged = f"equivalent: {why}" if why else result.state
            yield f"  {result.id} {result.path}:{result.line} {result.name}: {judged}"


def enough(told: Sequence[Result]) -> bool:
    """Whether at least 95 % of those that are no equivalents were found."""
    counted = sum(result.found or (result.path, result.name) not in JUDGED for result in told)
    return sum(result.found for result in told) >= 0.95 * counted


def line_of(result: Result) -> str:
    """A line about one mutant."""
    by = f" by {result.by}" if result.by else ""
    return f"{result.id} {result.path}:{result.line} {result.name}: {result.state}{by} ({result.seconds} s)"
