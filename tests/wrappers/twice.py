"""Every delivery reaches the writer twice."""

from infra.core.messages import Ear, Heard
from infra.core.writer import Writer
from tests.wrappers import run_wrapped

once = Writer.tell


def twice(self: Writer, heard: Heard, ear: Ear) -> None:
    once(self, heard, ear)
    once(self, heard, ear)


Writer.tell = twice  # type: ignore[method-assign]

if __name__ == "__main__":
    run_wrapped()
