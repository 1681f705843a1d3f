"""What the tests of the export share."""

from collections.abc import Iterator

import pytest

from tests.export.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver
