"""A service with a bug: it fails on every message whose body holds one of the words in ALLERGIC_TO."""

import os
from datetime import datetime

from infra.core.decider import Command
from infra.core.messages import Delivery
from infra.core.writer import Writer
from tests.wrappers import run_wrapped

WORDS = os.environ["ALLERGIC_TO"].encode().split(b",")
react = Writer._react


def allergic(self: Writer, delivery: Delivery, now: datetime) -> Command | None:
    if any(word in delivery.body for word in WORDS):
        raise ZeroDivisionError("a bug")
    return react(self, delivery, now)


Writer._react = allergic  # type: ignore[method-assign]

if __name__ == "__main__":
    run_wrapped()
