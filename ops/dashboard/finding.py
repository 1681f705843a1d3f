"""Finds what a person typed: an order, a customer, a product, a coupon, a fact, a dead letter; or says why not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import httpx

from contracts.ids import is_id
from contracts.origin import number
from infra.consuming.dead_letter import DeadLetter
from infra.core.decider import category
from ops.client import ServiceAddress, ServiceRequest, ask_with
from ops.dashboard.facts import OrderReader
from ops.dashboard.lists import TIMEOUT_S, Filters, list_lag, listed, stream_lag
from ops.dashboard.logs import LoggedFact
from ops.dashboard.poller import Snapshot
from ops.dashboard.stream import MOST_LETTERS
from ops.dashboard.to_copy import state_command
from ops.details import shown_time
from ops.errors import Unreachable


class Hit(NamedTuple):
    """Something that was found, in words. `page`: the address of the page that shows it; empty: none.

    `command`: a command that shows more; empty: none. `whole`: the page shows all of it, so `text` need not be read.
    """

    text: str
    page: str = ""
    command: str = ""
    whole: bool = True


class FoundThings(NamedTuple):
    """What was found; `missed` says of each place without a hit that nothing is there, or why it cannot be asked.

    A place that was not tried, because another one had the fact, is in neither.
    """

    hits: list[Hit]
    missed: list[str]

    @property
    def only(self) -> str:
        """The address of the page of the only hit; empty if there is not exactly one, or the page is not `whole`."""
        return self.hits[0].page if len(self.hits) == 1 and self.hits[0].whole else ""


class Finder:
    """Looks in all places that a text may mean. A place that cannot be asked is in `FoundThings.missed`."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        services: Mapping[str, ServiceAddress],
        reader: OrderReader,
        dead_letters: Callable[[], Awaitable[Sequence[DeadLetter]]],
        *,
        seen: Callable[[], Awaitable[Snapshot | None]],
        in_log: Callable[[str, int], Awaitable[LoggedFact | None]],
    ) -> None:
        """`dead_letters` returns the first MOST_LETTERS (1,000) dead letters; it raises Unreachable.

        `seen` returns the newest snapshot; None: there is none. `in_log` finds a fact in its service's log, as
        `fact_in_log` does.
        """
        self._in_log = in_log
        self._seen = seen
        self._dead_letters = dead_letters
        self._http = http
        self._services = services
        self._reader = reader

    async def find(self, text: str) -> FoundThings:
        """Find the order, product or coupon with this id, and a customer's orders. `<stream>@<version>` means a fact.

        A number may be the sequence (in DEAD) of a dead letter, too. A text without `@` that is no id is in `missed`.
        """
        stream, at, version = text.partition("@")
        if at:
            found = await self._gathered(self._fact(stream, version))
            if found.hits:
                return found
            logged = await self._gathered(self._logged(stream, version))
            return FoundThings(logged.hits, [*found.missed, *logged.missed])
        if not is_id(text):
            return FoundThings([], [f"{text} is no id: an id has letters, digits, - and _"])
        places = [self._order(text), self._user(text), self._product(text), self._coupon(text)]
        if number(text):
            places.append(self._letter(text))
        return await self._gathered(*places)

    async def _gathered(self, *places: Awaitable[Hit | str]) -> FoundThings:
        found: list[Hit | str] = []
        for one in await asyncio.gather(*places, return_exceptions=True):
            if isinstance(one, Unreachable):
                found.append(str(one))
            elif isinstance(one, BaseException):
                raise one
            else:
                found.append(one)
        return FoundThings(
            [one for one in found if isinstance(one, Hit)], [one for one in found if isinstance(one, str)]
        )

    async def _order(self, order_id: str) -> Hit | str:
        if (await self._reader.facts(order_id)).facts:
            return Hit(f"order {order_id}", f"/orders/{order_id}", f"just trace {order_id}")
        return f"no order {order_id} in the stream or the archive; {stream_lag(await self._seen())}"

    async def _fact(self, stream: str, version: str) -> Hit | str:
        order_id = stream.partition("-")[2]
        place = f"{category(stream)}@{version}"
        facts = (await self._reader.facts(order_id)).facts if is_id(order_id) else ()
        if any(fact.place == place for fact in facts):
            return Hit(f"fact {place} of order {order_id}", f"/orders/{order_id}?at={quote(place)}")
        lag = stream_lag(await self._seen())
        return f"no fact {stream}@{version} of an order in the stream or the archive; {lag}"

    async def _logged(self, stream: str, version: str) -> Hit | str:
        """Find a fact in its service's log, also one of a product, account or coupon. A text says why there is none."""
        its_id = f"{stream}@{version}"
        named = number(version) and is_id(stream.partition("-")[2])
        found = await self._in_log(stream, number(version)) if named else None
        if found is None:
            return f"no fact {its_id} in the log of a service"
        about = f", of order {found.order_id}" if found.order_id else ""
        when = "not readable by this code" if found.at is None else shown_time(found.at)
        return Hit(
            f"fact {its_id}, {found.name}, {when}, in the log of {found.service}_svc{about}",
            f"/orders/{found.order_id}" if is_id(found.order_id) else "",
            state_command(stream, found.position),
            whole=False,
        )

    async def _user(self, user_id: str) -> Hit | str:
        wanted = Filters(user_id=user_id)
        page = await listed(self._http, self._services["order"], wanted, limit=1)
        if page.rows:
            return Hit(f"orders of user {user_id}", f"/orders?{wanted.query()}", f"just ledger user {user_id}")
        return f"no order of a user {user_id}; {list_lag(await self._seen())}"

    async def _product(self, product_id: str) -> Hit | str:
        body = await self._asked("product", f"/products/{product_id}")
        if body is None:
            return f"no product {product_id}"
        return Hit(
            f"product {product_id}: {body.get('available')} available",
            f"/orders?{Filters(product=product_id).query()}",
            f"just ledger product {product_id}",
            whole=False,
        )

    async def _coupon(self, coupon_id: str) -> Hit | str:
        body = await self._asked("coupon", f"/coupons/{coupon_id}")
        if body is None:
            return f"no coupon {coupon_id}"
        order_id = body.get("order_id")
        used = f"used by order {order_id}" if order_id else "not in use"
        page = f"/orders/{order_id}" if order_id else f"/orders?{Filters(coupon=coupon_id).query()}"
        return Hit(f"coupon {coupon_id}: {used}", page, f"just ledger coupon {coupon_id}", whole=bool(order_id))

    async def _letter(self, sequence: str) -> Hit | str:
        letters = await self._dead_letters()
        if any(letter.sequence == int(sequence) for letter in letters):
            return Hit(f"dead letter {sequence}", f"/dead-letters#letter-{sequence}", f"just dlq show {sequence}")
        if len(letters) == MOST_LETTERS:
            return f"no dead letter {sequence} among the first {MOST_LETTERS:,}; `just dlq show {sequence}` asks for it"
        return f"no dead letter {sequence}"

    async def _asked(self, service: str, path: str) -> dict[str, object] | None:
        """GET this path of the service, and return the JSON object; None: the service answers 404.

        Raises Unreachable if it answers with anything else, or not within TIMEOUT_S (3 s); also if this checkout has no
        such service.
        """
        if service not in self._services:
            raise Unreachable(f"this checkout has no {service}_svc")
        request = ServiceRequest(self._services[service], "GET", path)
        answer = await ask_with(self._http, request, {200, 404}, TIMEOUT_S)
        return answer.body if answer.status == 200 else None
