"""What ends a session, where no schedule needs it: another sign ends it as well."""

import asyncio
from datetime import timedelta

from contracts import CouponIssued
from contracts.wire import encode
from infra.store.records import Record
from tests.domain.spec import SERVICES
from tests.sim.jetstream import EPOCH, Peer
from tests.sim.loop import VirtualLoop
from tests.sim.run import run
from tests.sim.schedule import Fault, schedule
from tests.sim.shop import Shop


def test_a_session_ends_once_its_stream_is_another_one() -> None:
    """Also if its consumer is there and nothing tells of the change, as in a stream that was restored in its place."""

    async def course() -> tuple[bool, list[Peer]]:
        shop = Shop(schedule(7)._replace(faults=()))
        try:
            quiet = await shop.run()
            before = list(shop.server.peers)
            assert shop.server.stream is not None
            shop.server.stream.created += timedelta(seconds=1)
            await asyncio.sleep(3)
            return quiet, [peer for peer in shop.server.peers if peer in before]
        finally:
            await shop.stop()

    assert VirtualLoop().course(course()) == (True, [])


def coupon_goes_back(story: list[str]) -> bool:
    """Whether each of coupon_svc's consumers, after the cut, begins no later than where the stream was truncated."""
    told = [line[11:] for line in story]
    kept = next(int(line.split()[-1]) for line in told if line.startswith("EVENTS lost what it had behind"))
    later = told[told.index("over: cut coupon") :]
    begins = [line for line in later if line.startswith("coupon-hears-") and " begins behind " in line]
    return bool(begins) and all(int(line.split()[-1]) <= kept for line in begins[: len(SERVICES["coupon"].hears)])


def test_a_truncation_is_found_again_if_the_session_fails_before_the_consumer_went_back() -> None:
    faults = (
        Fault(2.0, "outlive", "broker", 0.01, 4),
        Fault(2.0, "cut", "coupon", 0.0, by="coupon", step="resumed"),
    )
    story: list[str] = []

    assert not run(schedule(7)._replace(faults=faults), story.append).wrong
    assert coupon_goes_back(story)


def test_a_process_that_has_received_nothing_keeps_in_mind_where_the_stream_ended() -> None:
    """Its first session fails before the consumer went back, and the stream has grown at its next one."""
    faults = (
        Fault(2.0, "outlive", "broker", 0.5, 4),
        Fault(1.8, "kill", "coupon", 0.3, 0),
        Fault(2.0, "cut", "coupon", 1.5, by="coupon", step="resumed"),
    )
    story: list[str] = []

    assert not run(schedule(7)._replace(faults=faults), story.append).wrong
    assert coupon_goes_back(story)


def test_what_another_process_has_recorded_is_published() -> None:
    """It was killed before it could, and nothing else happens."""

    async def course() -> bool:
        shop = Shop(schedule(7)._replace(faults=()))
        try:
            assert await shop.run()
            fact = CouponIssued(at=EPOCH, coupon_id="late", user_id="ann", discount=1, expires_at=EPOCH)
            shop.disks["coupon"].append([Record("coupon-late", 1, "coupon.issued", encode(fact))])
            await asyncio.sleep(3)
            assert shop.server.stream is not None
            return "coupon-late@1" in {message.fact_id for message in shop.server.messages}
        finally:
            await shop.stop()

    assert VirtualLoop().course(course())
