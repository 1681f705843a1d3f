"""A broker that lost the end of one file of messages, but not the next file: the relay finds what was in the hole."""

import os
from collections.abc import AsyncIterator
from typing import Final

import pytest
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from infra.broker.numbering import EVENTS
from infra.broker.window import WINDOW
from infra.store.sqlite import SQLiteStore
from tests.infra.broker.mirroring import a_log, append, leader, mirroring, sending, session
from tests.infra.broker.test_relay import by_hand
from tests.shop import Shop

FILE_BYTES: Final = 8_388_608
"""nats-server begins another file of messages after so many."""
PADDING: Final = b"x" * 50_000

KEPT, LOST = 600, 300
ALL: Final = KEPT + LOST + 2 * WINDOW


@pytest.fixture
async def log() -> AsyncIterator[SQLiteStore]:
    async with a_log() as store:
        await append(store, 1, ALL)
        yield store


async def published(broker: Shop) -> list[int]:
    """The positions of the stream's facts."""
    async with session(broker) as js:
        asked = await leader(js)
        return [fact.position async for facts in asked.read_on("point.>", 1) for fact in facts]


async def pad(js: JetStreamContext, name: str, size: int) -> None:
    for n in range(size // len(PADDING)):
        await js.publish(f"order.created.pending.{name}{n}", PADDING)


async def lose_the_end_of_the_first_file(broker: Shop, first: bytes) -> None:
    """What a power cut leaves of a file that the killed broker had not synced: nothing from this fact on."""
    await broker.kill("nats")
    files = broker.folder / "nats" / "jetstream" / "$G" / "streams" / EVENTS / "msgs"
    assert sorted(path.name for path in files.glob("*.blk")) == ["1.blk", "2.blk"]
    os.truncate(files / "1.blk", (files / "1.blk").read_bytes().index(first))
    (files / "index.db").unlink(missing_ok=True)
    await broker.start_nats()


async def test_what_a_hole_swallowed_is_published_again_once(broker: Shop, log: SQLiteStore) -> None:
    broker.env["DUPLICATE_WINDOW_S"] = "0.1"
    async with session(broker) as js:
        await pad(js, "before", FILE_BYTES - 10 * len(PADDING))
        await by_hand(js, log, range(1, KEPT + LOST + 1))
        await pad(js, "after", 20 * len(PADDING))
        await by_hand(js, log, range(KEPT + LOST + 1, ALL + 1))
    await lose_the_end_of_the_first_file(broker, b"account-ann@%d\r\n" % (KEPT + 1))

    with capture_logs() as told:
        async with sending(broker) as sent, mirroring(broker, log) as mirror:
            await mirror.caught_up()

    assert sent == [*range(KEPT + 1, KEPT + LOST + 1)]
    assert [line["facts"] for line in told if "lost facts from its middle" in line["event"]] == [LOST]
    assert sorted(await published(broker)) == [*range(1, ALL + 1)]

    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()
    assert sent == []


async def test_a_hole_that_swallowed_other_messages_alone_is_nothing_to_a_service(
    broker: Shop, log: SQLiteStore
) -> None:
    async with session(broker) as js:
        await by_hand(js, log, range(1, KEPT + 1))
        await pad(js, "padding", FILE_BYTES + 10 * len(PADDING))
        await by_hand(js, log, range(KEPT + 1, ALL + 1))
        await js.publish("order.created.pending.last", b"")
    await lose_the_end_of_the_first_file(broker, b"order.created.pending.padding80")

    async with sending(broker) as sent, mirroring(broker, log) as mirror:
        await mirror.caught_up()

    assert sent == []
