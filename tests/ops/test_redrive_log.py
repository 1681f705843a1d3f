"""The log has each outcome of a redrive: of those that went well, nothing else has it after a restart."""

import json

from infra.process.log_rate import KINDS_A_WINDOW
from tests.infra.process.test_logging import logged

REDRIVE = """
from ops.dashboard.dead_letter_groups import DeadLetterKey
from ops.dashboard.redrive import KeyOutcome, Operations

class Redriver:
    async def ask(self, key, *, dry_run, reason, preview, by):
        return KeyOutcome(key, "done")

async def redrive():
    operations = Operations(Redriver())
    operations.begin("o1", "mended", [DeadLetterKey("stock", f"k{n}") for n in range({keys})])
    await asyncio.gather(*operations._tasks)

asyncio.run(redrive())
"""


def test_each_outcome_of_a_large_redrive_is_in_the_log() -> None:
    keys = 5 * KINDS_A_WINDOW

    lines = [json.loads(line) for line in logged(REDRIVE.replace("{keys}", str(keys)), "json").splitlines()]

    redriven = [line for line in lines if line["event"] == "redriven"]
    assert [line["key"] for line in redriven] == [f"k{n}" for n in range(keys)]
    assert not any("unlimited" in line for line in lines)
