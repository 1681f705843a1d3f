"""Services and broker are killed, stopped, locked out and cut off under load: nothing is lost, doubled or stuck."""

from pathlib import Path
from typing import Final

from tests.chaos.play import nothing_wrong
from tests.chaos.system import ARCHIVED, BROKER_KILLED, SERVICE_KILLED, STORE_LOST

SEED: Final = 1


async def test_whatever_happens_to_processes_and_lines_every_order_ends_once(tmp_path: Path) -> None:
    quota = {"kill": 11, "broker-kill": 5, "lose": 0.5, "pause": 0.5, "line": 1, "lock": 0.5, "roll": 2, "archive": 1}

    tally = await nothing_wrong(tmp_path, SEED, 2, quota)

    assert tally.ended_by_themselves() == 0
    assert tally.times(SERVICE_KILLED) == 22
    assert tally.times(BROKER_KILLED) >= 10
    assert tally.times(STORE_LOST) == 1
    assert tally.times("rolled over") >= 1
    assert tally.times(ARCHIVED) >= 1
