"""Every delivery reaches the writer twice."""

from infra.core.messages import Acknowledger, Delivery
from infra.core.writer import Writer
from tests.wrappers import run_wrapped

once = Writer.handle


def twice(self: Writer, delivery: Delivery, acknowledger: Acknowledger) -> None:
    once(self, delivery, acknowledger)
    once(self, delivery, acknowledger)


Writer.handle = twice  # type: ignore[method-assign]

if __name__ == "__main__":
    run_wrapped()
