"""The faults by name, as schedules have them: how each begins, and how it ends."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from nats.errors import Error as NatsError

from infra.broker.generations import find_generations
from infra.broker.rolling import Sealing, roll
from order_svc.ids import order_id
from tests.sim.jetstream import Position
from tests.sim.link import Network
from tests.sim.process import SETTINGS
from tests.sim.schedule import ARCHIVED_UNTIL_S, ARCHIVER, ARCHIVES, FAULTS_UNTIL_S, LOSER, Fault
from tests.sim.server import Copy

if TYPE_CHECKING:
    from tests.sim.shop import Shop


LONGER_THAN_IT_IS_TRIED_S: Final = 1.2
ARCHIVED_AGAIN_S: Final = 0.3
"""After this an archiver looks once more at what had to stay."""


async def go_wrong(shop: "Shop", fault: Fault) -> None:
    fault = fault._replace(who=_named(shop, fault.who), by=_named(shop, fault.by))
    if fault.step:
        try:
            until_s = ARCHIVED_UNTIL_S if fault.by == ARCHIVER else FAULTS_UNTIL_S
            async with asyncio.timeout_at(max(until_s, shop.loop.time())):
                stopped = await shop.steps.nth(fault.by, fault.step, fault.nth)
        except TimeoutError:
            return  # it came to that step no more
        shop.loop.note("{} is {}", fault.by, fault.step)
        if fault.kind == "kill" and stopped is not shop.processes.get(fault.by):
            shop.loop.note("{} is killed", fault.by)
            await stopped.kill()  # a second process of the service, or an archiver
            return
        if fault.hangs_s:
            shop.loop.call_later(fault.hangs_s, stopped.go_on)
        else:
            shop.loop.call_soon(stopped.go_on)  # once the fault has begun
    shop.loop.note("FAULT: {} {}, for {:.3f} s, {}", fault.kind, fault.who, fault.for_s, fault.amount)
    await FAULTS[fault.kind](shop, fault)
    shop.loop.note("over: {} {}", fault.kind, fault.who)


def _named(shop: "Shop", who: str) -> str:
    """The service that is meant."""
    return (shop.server.loser or "order") if who == LOSER else who


# Of a process ---------------------------------------------------------------------------------------------------------


async def _kill(shop: "Shop", fault: Fault) -> None:
    async with shop.busy[fault.who]:
        await shop.processes[fault.who].kill()
        await asyncio.sleep(fault.for_s)
        shop.start(fault.who)


async def _pause(shop: "Shop", fault: Fault) -> None:
    """The process is stopped, and does not know of that when it continues."""
    async with shop.busy[fault.who]:
        shop.processes[fault.who].pause()
        await asyncio.sleep(fault.for_s)
        shop.processes[fault.who].go_on()


async def _twin(shop: "Shop", fault: Fault) -> None:
    """A second process of the service works on the same store."""
    async with shop.busy[fault.who]:
        twin = shop.process(fault.who, shop.disks[fault.who])
        await asyncio.sleep(fault.for_s)
        await twin.kill()


async def _jump(shop: "Shop", fault: Fault) -> None:
    """The process's clock is off by some seconds, in one direction or the other."""
    by = timedelta(seconds=shop.chance.choice((-fault.amount, fault.amount)))
    shop.skews[fault.who] = shop.processes[fault.who].skew = by
    await asyncio.sleep(fault.for_s)
    shop.skews[fault.who] = shop.processes[fault.who].skew = timedelta()


async def _poison(shop: "Shop", fault: Fault) -> None:
    """The service has a bug: it fails on every fact about one of the orders, until the bug is fixed."""
    poisoned = shop.poisoned[fault.who]
    wish = shop.wishes[fault.amount % len(shop.wishes)]
    poisoned.append(order_id(wish.user_id, wish.key))
    await asyncio.sleep(max(fault.for_s, LONGER_THAN_IT_IS_TRIED_S))
    poisoned.pop()


# Of a store -----------------------------------------------------------------------------------------------------------


async def _lock(shop: "Shop", fault: Fault) -> None:
    """Some calls fail and do nothing."""
    shop.troubles[fault.who].before = fault.amount
    await asyncio.sleep(fault.for_s)
    shop.troubles[fault.who].before = 0


async def _fail(shop: "Shop", fault: Fault) -> None:
    """Some appends fail, and are recorded all the same."""
    shop.troubles[fault.who].after = fault.amount
    await asyncio.sleep(fault.for_s)
    shop.troubles[fault.who].after = 0


async def _roll_back(shop: "Shop", fault: Fault) -> None:
    """The service is started on an old copy of its store, which it must not use. Then the right store is back."""
    name = fault.who
    async with shop.busy[name]:
        disk = shop.disks[name]
        old = disk.copy(max(0, len(disk.log) - fault.amount))
        said = shop.published
        if shop.rolled_back or not any(f"{one[0]}@{one[1]}" in said for one in disk.log[len(old.log) :]):
            return  # the service could not notice
        shop.rolled_back = True
        had = len(old.log)
        await shop.processes[name].kill()
        imposter = shop.processes[name] = shop.process(name, old)
        await asyncio.sleep(fault.for_s)
        await imposter.kill()
        shop.rolled_back = False
        if len(old.log) != had:
            raise AssertionError(f"{name}_svc recorded facts on a store that the stream is ahead of")
        shop.start(name)


# Of a connection ------------------------------------------------------------------------------------------------------


async def _cut(shop: "Shop", fault: Fault) -> None:
    """The connection is gone; the client notices when it pings in vain."""
    shop.processes[fault.who].network.cut(fault.for_s)
    await asyncio.sleep(fault.for_s)


async def _drop(shop: "Shop", fault: Fault) -> None:
    """Some messages get lost between the connection and its subscribers."""
    shop.processes[fault.who].network.drop(fault.amount)


async def _again(shop: "Shop", fault: Fault) -> None:
    """The consumers are reset: some of the acknowledged messages are delivered again."""
    for consumer in shop.server.consumers_of(fault.who):
        consumer.reset(max(1, consumer.at.floor - fault.amount))


# Of the broker --------------------------------------------------------------------------------------------------------


async def _crash(shop: "Shop", fault: Fault) -> None:
    server = shop.server
    if not server.up:
        return
    if shop.chance.happens(0.5):
        server.write_down()
    server.crash()
    if fault.kind == "forget":
        for consumer in server.consumers:
            consumer.kept = Position()
    if not shop.rolled_back:  # with an old store and a truncated broker, no copy of the newest facts is left
        if shop.archive is not None and fault.kind == "lose-tail":
            server.bring_back(fault.amount)
        if fault.kind in ("lose-tail", "outlive"):
            server.lose_tail(fault.amount, of_each=shop.chance.happens(0.5))
        elif fault.kind == "lose-again":
            server.lose_again()
        elif fault.kind == "hole":
            server.lose_some(shop.chance, fault.amount + 1, shop.bounds.window)
        elif fault.kind == "lose-all":
            server.lose_everything()
    await asyncio.sleep(fault.for_s)
    server.start(outlived=fault.kind == "outlive")


async def _delete(shop: "Shop", fault: Fault) -> None:
    if not shop.rolled_back:
        older = [*shop.server.streams][:-1]
        number = shop.chance.choice(older) if older and shop.chance.happens(0.3) else None
        shop.server.remove_stream(make=shop.chance.happens(0.5), number=number)


async def _leader(shop: "Shop", fault: Fault) -> None:
    """The stream changes its leader: some of what is published meanwhile gets lost, or is not acknowledged."""
    server = shop.server
    server.election = shop.chance
    await asyncio.sleep(fault.for_s)
    server.election = None
    if shop.chance.happens(0.5):
        for peer in list(server.peers):
            peer.cut()


async def _stale(shop: "Shop", fault: Fault) -> None:
    """Direct gets are answered by a copy that lags: a follower, or a mirror of all subjects or of some."""
    server = shop.server
    if server.stream is None:
        return
    messages = server.stream.messages[: max(0, len(server.stream.messages) - fault.amount)]
    if shop.bounds.replicas > 1 and shop.chance.happens(0.7):
        server.copy = Copy(server.stream.name, server.stream.name, messages, shop.chance)
    else:
        wanted = shop.chance.choice(("", "", "order.", "point."))
        seen = [found if found.subject.startswith(wanted) else found._replace(subject="") for found in messages]
        server.copy = Copy(server.stream.name, "MIRROR", seen, shop.chance)
    await asyncio.sleep(fault.for_s)
    server.copy = None


async def _roll(shop: "Shop", fault: Fault) -> None:
    """A keeper makes the next generation, or seals those that have one, however busy they are; or is killed meanwhile.

    So sealing is safe at any moment.
    """

    async def keep(link: Any, js: Any) -> None:
        if shop.chance.happens(0.7):
            await roll(link, js, SETTINGS, "a fault")
        await asyncio.sleep(fault.for_s * shop.chance.random())
        await _seal(link, js)

    await _keeping(shop, keep)


async def _archive(shop: "Shop", fault: Fault) -> None:
    """Archivers are at work until nothing has to stay, or until the time is over. Generations are sealed before.

    With an `amount`, the stream rolls over first.
    """

    async def begin(link: Any, js: Any) -> None:
        await roll(link, js, SETTINGS, "there is to be something to archive")

    until_s = shop.loop.time() + fault.for_s
    if fault.amount:
        await _keeping(shop, begin)
    while True:
        await _keeping(shop, _seal)
        done = await shop.archive_once()
        if (done is not None and not done.kept) or shop.loop.time() >= until_s:
            return
        await asyncio.sleep(ARCHIVED_AGAIN_S * shop.chance.random())


async def _seal(link: Any, js: Any) -> None:
    await Sealing(0.0).look(js, await find_generations(link, js), 0.0)


async def _keeping(shop: "Shop", keep: Callable[[Any, Any], Coroutine[Any, Any, None]]) -> None:
    """Let a keeper do this with its connection and its JetStream. It gives up if the broker fails."""
    keeper = Network(shop.server, shop.chance)
    with contextlib.suppress(NatsError, TimeoutError):
        async with keeper.connect(SETTINGS, "keeper", asyncio.Event()) as (nc, _):
            await keep(nc, nc.jetstream(timeout=2))


FAULTS: Final[dict[str, Callable[["Shop", Fault], Coroutine[Any, Any, None]]]] = {
    "kill": _kill,
    "pause": _pause,
    "twin": _twin,
    "jump": _jump,
    "poison": _poison,
    "lock": _lock,
    "fail": _fail,
    "roll-back": _roll_back,
    "cut": _cut,
    "drop": _drop,
    "again": _again,
    "crash": _crash,
    "lose-tail": _crash,
    "lose-all": _crash,
    "forget": _crash,
    "lose-again": _crash,
    "hole": _crash,
    "outlive": _crash,
    "delete": _delete,
    "leader": _leader,
    "stale": _stale,
    "roll": _roll,
    ARCHIVES: _archive,
}
