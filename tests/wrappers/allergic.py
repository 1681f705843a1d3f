"""A service with a bug: it fails on every message whose body holds one of the words in ALLERGIC_TO."""

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

from contracts.wire import encode
from infra.core.decider import Command
from infra.process.service import run
from tests.wrappers import wrapped

WORDS = os.environ["ALLERGIC_TO"].encode().split(b",")
Reaction = Callable[[Any, datetime, str], Command]


def allergic(reaction: Reaction) -> Reaction:
    def react(fact: Any, now: datetime, fact_id: str) -> Command:
        if any(word in encode(fact) for word in WORDS):
            raise ZeroDivisionError("a bug")
        return reaction(fact, now, fact_id)

    return react


if __name__ == "__main__":
    run(wrapped(reactions={fact: allergic(reaction) for fact, reaction in wrapped().reactions.items()}))
