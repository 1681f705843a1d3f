"""`orders dlq` on a broker alone."""

from ops.dlq import dead_letters
from tests.shop import Shop


async def test_a_broker_without_dead_has_no_dead_letters(broker: Shop) -> None:
    assert await dead_letters.all_of(broker.env) == []
    assert await dead_letters.one(broker.env, 1) is None
