"""Which facts may have no cause: those that a client's request or a timer says, and no other."""

from collections.abc import Iterator
from typing import Any

from contracts.command import Request
from contracts.wire import NAMES
from tests.domain.spec import SERVICES


def below(kind: type[Any]) -> Iterator[type[Any]]:
    """All classes under this one; importing the services has made them."""
    for under in kind.__subclasses__():
        yield under
        yield from below(under)


def test_a_fact_may_lack_a_cause_only_if_a_request_says_it() -> None:
    assert SERVICES
    commands = [command for command in below(Request) if command.__module__.partition(".")[0].endswith("_svc")]
    said = {fact for command in commands for fact in vars(command).get("says", ())}

    assert {fact for fact in NAMES if fact.by_client} == said
