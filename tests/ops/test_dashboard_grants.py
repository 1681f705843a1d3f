"""What the broker has to grant the dashboard is in docs/operating.md, and no more is needed."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from infra.local.services import ROOT
from tests.infra.broker.configured import JETSTREAM, ConfiguredBroker, configured
from tests.ops.boards import Board, words
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import Shop, attempts

SERVICES = '{ user: services, password: "all" }'


def listed() -> tuple[list[str], list[str]]:
    """The subjects of the page that the dashboard publishes and subscribes to."""
    page = (ROOT / "docs" / "operating.md").read_text()
    (publish,) = re.findall(r"user: dashboard.*?publish: (\[.*?\])", page, re.DOTALL)
    (subscribe,) = re.findall(r"user: dashboard.*?subscribe: (\[.*?\])", page, re.DOTALL)
    return json.loads(publish), json.loads(subscribe)


def users(publish: Sequence[str], subscribe: Sequence[str]) -> str:
    """A broker's configuration: the services may do everything, the dashboard only this."""
    granted = f"publish: {json.dumps(publish)}, subscribe: {json.dumps(subscribe or ['nothing'])}"  # []: everything
    dashboard = f'{{ user: dashboard, password: "few", permissions: {{ {granted} }} }}'
    return f"{JETSTREAM}\nno_auth_user: services\nauthorization {{ users: [{SERVICES}, {dashboard}] }}"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[ConfiguredBroker, Shop]]:
    """A shop on a broker with users, of which the dashboard's has what is listed."""
    async with configured(tmp_path, users(*listed())) as broker:
        shop = Shop(tmp_path, NATS_PORT=str(broker.port))
        try:
            await shop.start()
            yield broker, shop
        finally:
            await shop.close()


async def test_the_listed_grants_are_enough_and_each_is_needed(guarded: tuple[ConfiguredBroker, Shop]) -> None:
    broker, shop = guarded
    publish, subscribe = listed()
    await shop.register("mug")
    order_id = (await shop.place([("mug", 1)])).json()["order_id"]
    await say(shop, f"product.reserved.{order_id}", b"no fact")
    await until_parked(shop, 1)
    await shop.until_quiet()
    shop.env["NATS_URL"] = f"nats://dashboard:few@127.0.0.1:{broker.port}"
    board = Board(shop)
    await board.start()

    def lacks(text: str) -> bool:
        return "cannot be read" in text

    order, letters = await board.text(f"/orders/{order_id}"), await board.text("/dead-letters")
    assert "order.confirmed" in order
    assert "product.reserved" in letters
    assert not lacks(order + letters)
    async with aclosing(board.events(f"/orders/{order_id}/live")) as events:
        assert (await anext(events))[1] == "finished"
    assert "denies" not in shop.log("dashboard").read_text()

    for missing in (*publish, *subscribe):
        broker.reload(users([one for one in publish if one != missing], [one for one in subscribe if one != missing]))
        denial = f"{'subscribe' if missing in subscribe else 'publish'} to {missing.rstrip('*>')}"
        async for _ in attempts(f"the dashboard to be denied {missing}"):
            pages = await board.text(f"/orders/{order_id}") + words((await board.get("/dead-letters")).text)
            if denial in pages:
                break
    broker.reload(users(publish, subscribe))
    for path in (f"/orders/{order_id}", "/dead-letters"):
        async for _ in attempts(f"{path} to be whole again"):
            if not lacks(words((await board.get(path)).text)):
                break
