"""What happens to the processes of `just up` is told in words."""

import pytest

from infra.local.occurrences import ProcessEnded


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (0, "order_svc ended with exit code 0"),
        (-9, "order_svc was killed by SIGKILL"),
        (-40, "order_svc was killed by signal 40"),
    ],
)
def test_how_a_process_ended_is_told(code: int, told: str) -> None:
    """Signal 40 is a real-time one, which has no name of its own."""
    assert str(ProcessEnded("order_svc", code)) == told
