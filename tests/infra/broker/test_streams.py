"""The stream EVENTS on a real broker: made where missing, compared where present, never silently changed."""

import dataclasses
from typing import Any

import msgspec
import pytest
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError

from contracts.wire import FACTS, SERVICES
from infra.broker.errors import StreamMisconfigured
from infra.broker.numbering import EVENTS
from infra.broker.streams import MAX_FACT_BYTES, ensure_stream, is_full, stream_config
from tests.infra.broker.mirroring import settings
from tests.shop import Shop

SUBJECTS = sorted(f"{name}.>" for name in SERVICES)


async def made_by_hand(js: JetStreamContext, broker: Shop, **changes: Any) -> None:
    """Make EVENTS with these settings changed."""
    config = stream_config(settings(broker))
    for name, value in changes.items():
        setattr(config, name, value)
    await js.add_stream(config)


async def config_of(js: JetStreamContext) -> StreamConfig:
    return (await js.stream_info(EVENTS)).config


async def test_a_missing_stream_is_made_as_the_guarantees_need_it(broker: Shop) -> None:
    broker.env |= {"EVENTS_MAX_BYTES": str(10 << 20), "DUPLICATE_WINDOW_S": "90"}
    async with broker.broker() as nc:
        await ensure_stream(nc.jetstream(), settings(broker))
        config = await config_of(nc.jetstream())

    assert config.subjects == SUBJECTS
    assert (config.storage, config.retention, config.discard) == ("file", "limits", "new")
    assert (config.max_bytes, config.max_msg_size, config.max_age) == (10 << 20, MAX_FACT_BYTES, 0)
    assert config.duplicate_window == 90
    assert (config.deny_delete, config.deny_purge, config.allow_direct) == (True, True, True)
    assert config.allow_batched
    assert config.num_replicas == 1


async def test_every_fact_has_a_subject_in_the_stream(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await ensure_stream(js, settings(broker))
        for name in FACTS:
            await js.publish(f"{name}.key", b"{}")

        assert (await js.stream_info(EVENTS)).state.messages == len(FACTS)


async def test_nothing_can_be_deleted_or_purged(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await ensure_stream(js, settings(broker))
        await js.publish("order.confirmed.o1", b"{}")

        with pytest.raises(APIError):
            await js.delete_msg(EVENTS, 1)
        with pytest.raises(APIError):
            await js.purge_stream(EVENTS)

        assert (await js.stream_info(EVENTS)).state.messages == 1


async def test_a_stream_that_takes_only_small_messages_is_refused_with_the_next_step(broker: Shop) -> None:
    async with broker.broker() as nc:
        await made_by_hand(nc.jetstream(), broker, max_msg_size=8_192)

        with pytest.raises(StreamMisconfigured, match=r"up to 8192 bytes.* edit EVENTS --max-msg-size=65536"):
            await ensure_stream(nc.jetstream(), settings(broker))


async def test_a_sealed_stream_is_refused(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await made_by_hand(js, broker, deny_delete=False, deny_purge=False)
        config = await config_of(js)
        config.sealed = True
        await js.update_stream(config)

        with pytest.raises(StreamMisconfigured, match="sealed is True, must be False"):
            await ensure_stream(js, settings(broker))


async def test_a_stream_that_is_there_stays_as_it_is(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await made_by_hand(js, broker, max_bytes=5 << 20, description="ours")
        before = await config_of(js)

        info = await ensure_stream(js, settings(broker))

        assert info.config == before == await config_of(js)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        pytest.param(
            {"storage": StorageType.MEMORY, "max_bytes": 1 << 20}, "storage is memory, must be", id="in memory"
        ),
        pytest.param(
            {"retention": RetentionPolicy.INTEREST}, "retention is interest, must be limits", id="until consumed"
        ),
        pytest.param({"discard": DiscardPolicy.OLD}, "discard is old, must be new", id="drops the oldest"),
        pytest.param({"max_age": 86_400}, r"max_age is 86400(\.0)?, must be 0", id="forgets after a day"),
        pytest.param({"max_msgs_per_subject": 1}, "max_msgs_per_subject is 1, must be -1", id="keeps one per subject"),
        pytest.param({"max_msgs": 10}, "max_msgs is 10, must be -1", id="keeps ten"),
        pytest.param({"deny_delete": False}, "deny_delete is .*, must be True", id="can be deleted from"),
        pytest.param({"deny_purge": False}, "deny_purge is .*, must be True", id="can be purged"),
        pytest.param({"allow_direct": False}, "allow_direct is .*, must be True", id="no direct get"),
    ],
)
async def test_a_stream_that_could_lose_facts_is_refused_by_the_name_of_the_difference(
    broker: Shop, changes: dict[str, Any], difference: str
) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await made_by_hand(js, broker, **changes)
        before = await config_of(js)

        with pytest.raises(StreamMisconfigured, match=difference):
            await ensure_stream(js, settings(broker))

        assert await config_of(js) == before


async def test_all_differences_are_named_at_once(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await made_by_hand(js, broker, max_age=86_400, discard=DiscardPolicy.OLD)

        with pytest.raises(StreamMisconfigured, match=r"discard .*; max_age ") as refused:
            await ensure_stream(js, settings(broker))

    assert "storage" not in str(refused.value)


async def test_subjects_of_a_new_service_are_added_and_those_of_others_kept(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await made_by_hand(js, broker, subjects=["delivery.>", "order.>", "point.>"], max_bytes=5 << 20)
        await js.publish("delivery.started.d1", b"{}")

        info = await ensure_stream(js, settings(broker))

        assert info.config.subjects == sorted({*SUBJECTS, "delivery.>"})
        assert (info.config.max_bytes, info.state.messages) == (5 << 20, 1)


async def test_a_stream_from_before_batches_accepts_them_from_now_on_and_is_otherwise_unchanged(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await made_by_hand(js, broker, allow_batched=None, max_bytes=5 << 20)
        await js.publish("order.confirmed.o1", b"{}")
        before = await config_of(js)

        info = await ensure_stream(js, settings(broker))

        assert info.config.allow_batched
        assert dataclasses.replace(info.config, allow_batched=before.allow_batched, metadata=before.metadata) == before
        assert info.state.messages == 1


@pytest.mark.parametrize("made", [False, True], ids=["without the stream", "with the stream"])
@pytest.mark.parametrize("strict", [False, True], ids=["ignores the setting", "refuses the setting"])
async def test_a_broker_that_knows_no_batches_cannot_be_used(broker: Shop, *, strict: bool, made: bool) -> None:
    class Older(JetStreamContext):
        """As nats-server 2.11 and 2.12 answer."""

        async def _api_request(self, req_subject: str, req: bytes = b"", timeout: float = 5) -> dict[str, Any]:  # noqa: ASYNC109
            if b"allow_batched" in req and strict:
                raise BadRequestError(code=400, err_code=10_025, description="invalid JSON")
            answer: dict[str, Any] = await super()._api_request(req_subject, req, timeout)
            answer.get("config", {}).pop("allow_batched", None)
            return answer

    async with broker.broker() as nc:
        if made:
            await made_by_hand(nc.jetstream(), broker, allow_batched=None)

        with pytest.raises(StreamMisconfigured, match=r"allow_batched.* needs nats-server 2\.14 or newer"):
            await ensure_stream(Older(nc), settings(broker))


async def test_another_refusal_by_the_broker_is_not_taken_for_its_age(broker: Shop) -> None:
    async with broker.broker() as nc:
        with pytest.raises(APIError, match="replicas > 1"):
            await ensure_stream(nc.jetstream(), msgspec.structs.replace(settings(broker), events_replicas=3))


async def test_new_work_is_refused_before_the_stream_is_full(broker: Shop) -> None:
    broker.env["EVENTS_MAX_BYTES"] = str(1 << 20)
    fact = b"." * 20_000
    async with broker.broker() as nc:
        js = nc.jetstream()
        assert not is_full(await ensure_stream(js, settings(broker)))
        while not is_full(info := await js.stream_info(EVENTS)):
            await js.publish("order.confirmed.o1", fact)

        await js.publish("order.confirmed.o1", fact)  # work in flight still finds room

        assert 0.95 * (1 << 20) < info.state.bytes < 1 << 20
