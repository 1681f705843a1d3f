"""Ten thousand orders, whatever they are called and however they end, leave a service with as many series as before."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from contracts import REASONS, Fact, OrderCanceled
from contracts.wire import NAMES, said_by
from infra.broker.consumers import consumer_name
from infra.core.messages import Delivery, StreamPosition
from infra.core.unit_of_work import Delivered
from infra.local.services import service_names
from infra.process.runtime import Runtime
from infra.process.service import Service
from infra.timestamps import microseconds, now
from tests.contracts.examples import WRITTEN
from tests.metrics import exposed, series, value
from tests.metrics.exported import assembled

ORDERS = 10_000
MOST_SERIES = 500
IDS = ("order_id", "product_id", "user_id", "coupon_id", "idempotency_key")


class Consumer:
    """The acknowledger of a consumer, as far as it is measured."""

    def __init__(self, name: str, generation: int) -> None:
        self.name, self.durable = f"{name}@{generation}", name


def renamed(fact: Fact, chance: Random) -> Any:
    """The fact about things with other ids; a canceled order has another reason."""
    ids = {name: f"{chance.getrandbits(64):x}" for name in IDS if isinstance(getattr(fact, name, None), str)}
    reasons = {"reason": chance.choice(REASONS)} if isinstance(fact, OrderCanceled) else {}
    return replace(fact, **ids, **reasons)


def play(service: Service, runtime: Runtime, orders: int, chance: Random) -> None:
    """Report so many deliveries and commits to all that measures, and requests with any path, method and status."""
    said = [fact for fact in WRITTEN if said_by(NAMES[type(fact)]) == service.name]
    heard = [fact for fact in WRITTEN if type(fact) in service.reactions]
    for _ in range(orders):
        fact = renamed(chance.choice(heard), chance)
        command = service.reactions[type(fact)](fact, now(), "cause@1")
        consumer: Any = Consumer(consumer_name(service.name, NAMES[type(fact)]), chance.randrange(9))
        position = StreamPosition(1, microseconds(now()) - chance.randrange(10**7))
        outcome = [renamed(one, chance) for one in said if type(one) in command.says]
        delivery = Delivery("id@1", b"", "", position, f"{NAMES[type(fact)]}.key")
        runtime.writer._unit_of_work._settled([(command, Delivered(delivery, consumer))], [outcome])
        for listener in runtime.on_recorded:
            listener([renamed(chance.choice(said), chance)])
        method = chance.choice(["GET", "POST", f"{chance.getrandbits(40):X}"])
        status = chance.choice([200, 201, 202, 400, 401, 404, 409, 422, 429, 500, 503])
        path = chance.choice([*sorted(runtime.requests.routes), ""])
        found = {"path_template": path} if path else {}
        scope = {"method": method, "state": {"began": 0.0, "status": status if path else 404}, **found}
        runtime.requests.observe(scope, "unmatched")


@pytest.mark.parametrize("name", service_names())
async def test_orders_make_no_series(name: str, tmp_path: Path) -> None:
    chance = Random(1)
    async with assembled(name, tmp_path) as (service, runtime):
        play(service, runtime, 500, chance)
        before = series(exposed(runtime.metrics))

        play(service, runtime, ORDERS, chance)

        text = exposed(runtime.metrics)
        assert series(text) == before
        assert len(before) <= MOST_SERIES - 4 * len(service.reactions)  # the gauges of its consumers, with a broker
        assert value(text, "saga_hear_delay_seconds_count") == 500 + ORDERS
