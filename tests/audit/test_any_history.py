"""The checker accepts everything that honest services record, at every moment, however the facts traveled."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ops.fold import folded_logs, folded_stream, live
from ops.invariants import check
from tests.audit.paper import History
from tests.domain.plan import Plan, run
from tests.domain.spec import AGGREGATES
from tests.domain.test_any_order import PLANS, REPEATABLE


@settings(REPEATABLE, max_examples=150)
@given(PLANS, st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_any_honest_history_breaks_none(plan: Plan, moments: list[float]) -> None:
    history = History()
    for said in run(plan).said:
        history.record(said.fact)
    answers = live(folded_stream(history.stream, AGGREGATES))
    assert live(folded_logs(history.logs.values(), AGGREGATES)) == answers
    assert check(history.logs, history.stream, quiet=True, live=answers) == []
    for moment in moments:
        cut = history.until(round(moment * len(history.recorded)))
        assert check(cut.logs, cut.stream, quiet=False) == []
