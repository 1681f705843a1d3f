"""The model of JetStream behaves like the real server: one script runs on both, and all their answers are compared."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from nats.js.errors import APIError, NotFoundError

from contracts.wire import MSG_ID, POSITION, STREAM, VERSION
from infra.broker.client import VERSION_LINE, header, status
from infra.broker.connection import connect
from infra.broker.consumers import ConsumerPlace, consumer_config, ensure_consumer
from infra.broker.fast_ingest import FastIngest, TakenForRepeat
from infra.broker.leader import leader_of
from infra.broker.numbering import EVENTS
from infra.broker.pull import numbers
from infra.broker.stored import StoredMessage, direct, last_message, next_message, stored_message
from infra.broker.streams import ensure_stream
from infra.consuming.consumer_session import HEARD_BY
from infra.consuming.dead_letter import DEAD, stream_config
from infra.settings import Settings
from ops.reading import Stream, read
from tests.shop import PATIENCE_S, Shop
from tests.sim.chance import Chance
from tests.sim.link import Network
from tests.sim.loop import VirtualLoop
from tests.sim.server import Server

HEARS: Final = "order.created.pending"
NEXT: Final = f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}"

Seen = list[Any]
"""The answers of one side, in order, without the parts that may differ: instants, the names of inboxes."""


class Script:
    """All that the services do with a broker, and the answers they see."""

    def __init__(self, nc: Any, js: Any, settings: Settings) -> None:
        self._nc = nc
        self._js = js
        self._settings = settings
        self._inbox = nc.new_inbox()
        self._acks = nc.new_inbox()
        self._batches = FastIngest(self._acks)
        self._deliveries: list[tuple[str, int, int]] = []
        self._receipts: list[str] = []
        self._statuses: list[tuple[str, str]] = []
        self._stored: list[int] = []
        self._answers: list[dict[str, Any]] = []
        self._something = asyncio.Event()
        self.seen: Seen = []

    def _saw(self, what: str, *answers: Any) -> None:
        self.seen.append((what, *answers))

    async def _until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not happened():
                self._something.clear()
                await self._something.wait()

    def _on_delivery(self, subject: bytes, reply: bytes, _: bytes, head: bytes) -> None:
        self._something.set()
        if reply:
            sequence, delivery, _stored = numbers(reply)
            self._deliveries.append((f"{subject.decode()} {header(head, MSG_ID.encode())}", sequence, delivery))
            self._receipts.append(reply.decode())
        else:
            self._statuses.append((status(head)[0], header(head, b"Nats-Pending-Messages")))

    def _on_ack(self, subject: bytes, _: bytes, body: bytes, head: bytes) -> None:
        self._something.set()
        answer = msgspec.json.decode(body) if body else {"status": status(head)[0]}
        self._answers.append({name: value for name, value in answer.items() if name not in {"batch", "stream"}})
        if body:
            try:
                self._stored += self._batches.stored(subject, body, head)
            except TakenForRepeat as repeat:
                self._stored.append(repeat.position)

    async def play(self) -> None:
        await self._nc.listen(self._inbox, self._on_delivery)
        await self._nc.listen(f"{self._acks}.>", self._on_ack)
        await self._without_a_stream()
        await ensure_stream(self._js, self._settings)
        await ensure_consumer(self._js, ConsumerPlace(EVENTS, "product"), HEARS, 0)
        await self._publishing()
        await self._delivering()
        await self._resetting()
        await self._taking_over()
        await self._reading()
        await self._reading_on()
        await self._dead_letters()
        await self._waiting()
        await self._deleting()

    async def _without_a_stream(self) -> None:
        await self._nc.publish(f"{NEXT}.product", b'{"batch":1,"expires":1000000000}', self._inbox)
        await self._until(lambda: bool(self._statuses))
        self._saw("a pull from nobody", self._statuses.pop())
        for ask in (self._js.stream_info(EVENTS), self._js.consumer_info(EVENTS, "product")):
            try:
                await ask
            except NotFoundError as error:
                self._saw("not there", error.code)

    async def _publish(self, *names: str) -> None:
        """Publish facts with these ids together. Their positions are those in the call."""
        stored = len(self._stored)
        self._batches.last_sequence = -len(names)  # some are repeats, and that is no refusal here
        replies = self._batches.replies(range(stored, stored + len(names)))
        await self._nc.send_all(
            (name.partition("@")[0], _body(name), reply, _head(name, position))
            for position, (name, reply) in enumerate(zip(names, replies, strict=True), stored + 1)
        )
        await self._until(lambda: len(self._stored) == stored + len(names))
        self._saw(f"published {len(names)}", *self._answers)
        self._answers.clear()

    async def _publishing(self) -> None:
        await self._publish("order.created.pending.a@1")
        await self._publish("order.created.pending.a@1", "order.confirmed.a@2")
        await self._publish(*(f"order.created.pending.{n}@1" for n in "bcdef"))
        await self._publish("order.created.pending.f@1", "order.canceled.f@2", "order.created.pending.b@1")
        await self._publish(*(f"order.confirmed.{n}@2" for n in range(70)))

    async def _pull(self, batch: int, expires_s: float = 5.0) -> None:
        body = b'{"batch":%d,"expires":%d}' % (batch, int(expires_s * 1e9))
        await self._nc.publish(f"{NEXT}.product", body, self._inbox)

    async def _delivered(self, count: int) -> None:
        await self._until(lambda: len(self._deliveries) >= count)
        self._saw("delivered", *self._deliveries)
        self._deliveries.clear()

    async def _info(self) -> None:
        info = await self._js.consumer_info(EVENTS, "product")
        self._saw(
            "consumer",
            (info.delivered.stream_seq, info.delivered.consumer_seq),
            (info.ack_floor.stream_seq, info.ack_floor.consumer_seq),
            info.num_ack_pending,
            info.num_pending,
        )

    async def _acknowledge(self, ack_subject: str, *, counts: bool = True) -> None:
        """Acknowledge; if it `counts`, wait until the consumer knows, because the server handles acknowledgements
        later.
        """
        await self._nc.publish(ack_subject, b"+ACK")
        await self._nc.flush()
        sequence, _, _ = numbers(ack_subject.encode())
        async with asyncio.timeout(PATIENCE_S):
            while counts:
                floor = (await self._js.consumer_info(EVENTS, "product")).ack_floor
                counts = floor.stream_seq != sequence

    async def _delivering(self) -> None:
        await self._info()
        await self._pull(4)
        await self._delivered(4)
        await self._info()
        await self._acknowledge(self._receipts[1])
        await self._info()
        await self._acknowledge(self._receipts[0], counts=False)  # covered already
        await self._info()

    async def _resetting(self) -> None:
        last = self._receipts[-1]
        await self._js.reset_consumer(EVENTS, "product")
        await self._info()
        await self._acknowledge(last, counts=False)  # of before the reset, and not delivered since
        await self._info()
        await self._pull(100)
        await self._delivered(4)
        await self._acknowledge(self._receipts[-1])
        await self._info()
        await self._js.reset_consumer(EVENTS, "product", 4)
        await self._delivered(4)
        await self._js.reset_consumer(EVENTS, "product", 1)
        await self._delivered(6)
        await self._info()

    async def _taking_over(self) -> None:
        """Subscribers hear a session's announcement before any later delivery."""
        order: list[str] = []

        def on_said(subject: bytes, _: bytes, body: bytes, __: bytes) -> None:
            order.append(f"{subject.decode()} {body.decode()} before {len(self._deliveries)}")
            self._something.set()

        subject = f"{HEARD_BY}.product"
        await self._nc.listen(subject, on_said)
        await self._nc.publish(subject, b"me")
        await self._js.reset_consumer(EVENTS, "product", 1)
        await self._delivered(6)
        self._saw("said", *order)

    async def _dead_letters(self) -> None:
        await self._ask(self._js.stream_info(DEAD))
        await self._js.add_stream(stream_config(self._settings))
        for number, key in enumerate(("product.a", "point.b", "product.c"), 1):
            headers = {"Dead-Error": f"error {number}"}
            ack = await self._js.publish(f"dead.{key}", b"%d" % number, stream=DEAD, headers=headers)
            self._saw("parked", ack.stream, ack.seq)
        for sequence in (1, 2, 4):
            await self._ask(next_message(self._nc, DEAD, sequence, "dead.product.*"))
            await self._read_directly(DEAD, {"seq": sequence, "next_by_subj": "dead.product.*", "batch": 10})
        for subject in ("dead.product.*", "dead.coupon.*"):
            await self._ask(last_message(self._nc, DEAD, subject))
            self._saw("counted", (await self._js.stream_info(DEAD, subjects_filter=subject)).state.subjects or {})
        await self._ask(stored_message(self._nc, DEAD, 2))
        for sequence in (2, 2, 99, 1, 3, 3):
            await self._ask(self._js.delete_msg(DEAD, sequence))
            await self._ask(stored_message(self._nc, DEAD, sequence))
        ack = await self._js.publish("dead.product.d", b"4", stream=DEAD, headers={})
        self._saw("parked", ack.stream, ack.seq)
        state = (await self._js.stream_info(DEAD)).state
        self._saw("DEAD", state.messages, state.last_seq)

    async def _ask(self, ask: Awaitable[Any]) -> None:
        try:
            found = await ask
        except APIError as error:
            self._saw("refused", error.code, error.err_code)
            return
        if isinstance(found, StoredMessage):
            self._saw("read", found.subject, found.sequence, found.body, header(found.raw_headers, b"Dead-Error"))
        else:
            self._saw("done", found is True)

    async def _read_directly(self, stream: str, request: dict[str, Any] | str) -> None:
        messages, *rest = await direct(self._nc, stream, request)
        self._saw("read directly", *((found.sequence, found.subject, found.body) for found in messages), *rest)
        for found in messages:
            if stream == EVENTS:
                self._saw("read", found.raw_headers, found.stored_us > 0)
            else:
                self._saw("read", header(found.raw_headers, b"Dead-Error"))

    async def _reading(self) -> None:
        for request in (
            "order.>",
            {"seq": 3},
            {"seq": 1, "next_by_subj": "order.created.pending.c"},
            {"seq": 1, "next_by_subj": "order.created.pending.z"},
            {"seq": 1_000},
            "coupon.>",
            {"seq": 2, "next_by_subj": "order.>", "batch": 5},
            {"multi_last": ["order.confirmed.3", "order.created.pending.a", "order.canceled.z"], "batch": 5},
            {"multi_last": ["order.canceled.z"], "batch": 5},
        ):
            await self._read_directly(EVENTS, request)
        leader = await leader_of(self._nc, self._js)
        for subject in ("order.>", "coupon.>"):
            self._saw("backwards", [fact async for facts in leader.read_back(subject) for fact in facts])
        at, last = await leader.at(3), await leader.last("order.>")
        self._saw(
            "leader", at and at.sequence, last and last.sequence, await leader.at(1_000), await leader.last("coupon.>")
        )
        self._saw("stream", (await self._js.stream_info(EVENTS)).state.last_seq)

    async def _reading_on(self) -> None:
        """A reader has a consumer of its own, which is gone when it has read."""
        stream = Stream(self._nc, self._js, EVENTS)
        for subjects, first, last in (
            ((), 1, None),
            (("order.created.pending.*", "order.canceled.f"), 3, 11),
            (("order.confirmed.*",), 60, None),
            (("coupon.>",), 1, None),
        ):
            found = [one async for one in read(stream, subjects, first=first, last=last)]
            self._saw("read on", [(one.sequence, one.subject, one.fact_id, one.body, one.head) for one in found])
        self._saw("consumers", [one.name for one in await self._js.consumers_info(EVENTS)])
        try:
            await self._js.delete_consumer(EVENTS, "nobody")
        except NotFoundError as error:
            self._saw("no consumer to delete", error.code, error.err_code)

    async def _waiting(self) -> None:
        """A pull ends unanswered, an unacknowledged message comes again, and no more messages than allowed may wait."""
        config = consumer_config("product", HEARS, 3)
        config.ack_wait = 0.5
        await self._js.add_consumer(EVENTS, config)
        await self._js.reset_consumer(EVENTS, "product", 1)
        await self._until(lambda: len(self._deliveries) >= 3)
        first = self._deliveries[:3]
        await self._until(lambda: len(self._deliveries) >= 6)
        self._saw("delivered again", first, self._deliveries[3:6])
        await self._acknowledge(self._receipts[-1])
        self._deliveries.clear()
        await self._until(lambda: len(self._deliveries) >= 3)
        self._saw("delivered then", [(subject, sequence) for subject, sequence, _ in self._deliveries[:3]])

    async def _deleting(self) -> None:
        """Whoever deletes the stream ends the requests for its consumers' messages; then nobody takes a fact."""
        self._statuses.clear()
        await self._pull(7)
        await self._nc.flush()
        await self._js.delete_stream(EVENTS)
        await self._until(lambda: any(code == "409" for code, _ in self._statuses))
        self._saw("ended", *sorted(set(self._statuses)))
        await self._nc.send_all([("order.confirmed.z", _body("z"), self._batches.replies([1])[0], _head("z@1", 1))])
        await self._until(lambda: bool(self._answers))
        self._saw("nobody took it", *self._answers)


def _body(name: str) -> bytes:
    return b'{"order_id":"%b"}' % name.partition("@")[0].rpartition(".")[2].encode()


def _head(name: str, position: int) -> str:
    stream, _, version = name.partition("@")
    return (
        f"{VERSION_LINE}\r\n{MSG_ID}: {name}\r\n{STREAM}: {stream}\r\n{VERSION}: {version}\r\n"
        f"{POSITION}: {position}\r\n\r\n"
    )


async def _model() -> Seen:
    settings = Settings(port=1)
    async with Network(Server(), Chance(1)).connect(settings, "script", asyncio.Event()) as (nc, _):
        script = Script(nc, nc.jetstream(timeout=2), settings)
        await script.play()
        return script.seen


async def test_one_script_sees_the_same_on_the_model_and_on_the_server(broker: Shop) -> None:
    settings = Settings(port=1, nats_port=int(broker.env["NATS_PORT"]))
    async with connect(settings, "script", asyncio.Event()) as (nc, _):
        script = Script(nc, nc.jetstream(timeout=2), settings)
        await script.play()

    modelled = await asyncio.to_thread(lambda: VirtualLoop().course(_model()))

    assert len(script.seen) > 25
    for real, model in zip(script.seen, modelled, strict=True):
        assert model == real
