"""The demo's witness takes facts, and nothing else that services send on their subjects."""

from unittest.mock import Mock

from msgspec.structs import replace
from nats.aio.msg import Msg

from contracts.wire import MSG_ID, encode
from ops.demo.witness import Witness
from tests.examples import points_used


def message(headers: dict[str, str] | None, body: bytes = b"") -> Msg:
    return Msg(Mock(), subject="point.used.0", data=body, headers=headers)


async def test_a_probe_is_no_fact() -> None:
    witness = Witness()

    await witness.take(message({"Nats-Expected-Stream": "none"}))
    await witness.take(message(None))
    await witness.take(message({MSG_ID: "account-u1@1"}, encode(points_used())))

    assert list(witness.facts) == ["account-u1@1"]


async def test_a_fact_that_arrives_before_its_cause_comes_after_it() -> None:
    witness = Witness()
    used = points_used()
    first, second = replace(used, cause=None), replace(used, cause="pointuse-o1@1")
    await witness.take(message({MSG_ID: "pointuse-o1@2"}, encode(second)))
    await witness.take(message({MSG_ID: "pointuse-o1@1"}, encode(first)))

    found = await witness.until(used.order_id, 2)

    assert [one.fact_id for one in found] == ["pointuse-o1@1", "pointuse-o1@2"]
