"""`orders dlq` on a broker alone, and how it counts."""

import pytest

from ops.dlq import dead_letters
from tests.ops.test_dashboard_dead_letters import letter
from tests.shop import Shop


async def test_a_broker_without_dead_has_no_dead_letters(broker: Shop) -> None:
    assert await dead_letters.all_of(broker.env) == []
    assert await dead_letters.one(broker.env, 1) is None


@pytest.mark.parametrize(
    ("of", "told"),
    [
        (["point"], "1 dead letter of 1 key of 1 consumer"),
        (["point", "coupon", "order", "point"], "4 dead letters of 1 key of 3 consumers"),
    ],
)
def test_the_keys_are_counted_as_the_list_shows_them(of: list[str], told: str) -> None:
    found = [letter(sequence, consumer) for sequence, consumer in enumerate(of, 1)]

    assert dead_letters.how_many(found) == f"{told}; later messages of a consumer's key wait with it"
