"""The lists of orders and the find box: filters are in the address alone, and what is not found is said with why."""

import contextlib
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.fact import REASONS
from infra.broker.stored import StoredMessage
from infra.consuming.dead_letter import DeadLetter
from infra.core.messages import StreamPosition
from infra.http.problems import Problem
from ops.client import ServiceAddress, http_client
from ops.dashboard.facts import OrderReader
from ops.dashboard.finding import Finder, FoundThings
from ops.dashboard.lists import DEFAULTS, Filters, ListedRow, filters, newer, why_none
from ops.dashboard.logs import LoggedFact
from ops.dashboard.poller import Snapshot
from ops.dashboard.searches import LogSearch, command_for, criteria_for
from ops.dashboard.stream import MOST_LETTERS
from ops.errors import Unreachable
from ops.status.seen import Samples
from tests.examples import PLACED_AT
from tests.ops.asking import told
from tests.ops.boards import Board, words
from tests.ops.test_dashboard import polled
from tests.ops.test_dashboard_order import no_logs
from tests.ops.test_status import look, seen
from tests.ops.test_waiting import answer, listening
from tests.saga.asking import settled
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import Shop

# The address ----------------------------------------------------------------------------------------------------------


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["ALL", "PENDING", "CONFIRMED", "CANCELED"]),
            "reason": st.sampled_from(["ANY", *REASONS]),
            "user_id": st.text(max_size=8),
            "compensated": st.sampled_from(["any", "no"]),
            "older_than_s": st.integers(0, 99).map(str),
            "sort": st.sampled_from(["newest", "oldest"]),
            "product": st.text(max_size=4),
            "coupon": st.text(max_size=4),
            "since": st.sampled_from(["", "-1h", "22:00"]),
            "until": st.sampled_from(["", "2026-01-31T09:00:00+09:00"]),
        },
    )
)
def test_filters_come_back_from_the_address_they_make(parameters: Mapping[str, str]) -> None:
    wanted = filters(parameters)

    assert filters(dict(parse_qsl(wanted.query(), keep_blank_values=True))) == wanted


def test_of_pending_orders_the_oldest_come_first_unless_the_address_says_so() -> None:
    assert filters({"status": "PENDING"}).sort == "oldest"
    assert filters({"status": "PENDING", "sort": "newest"}).sort == "newest"
    assert filters({"status": "CANCELED"}).sort == "newest"
    assert Filters("PENDING", sort="oldest").query() == "status=PENDING"
    assert Filters("PENDING").query(cursor="x") == "status=PENDING&sort=newest&cursor=x"


def test_what_is_empty_is_the_default_and_what_is_unknown_is_left_out() -> None:
    assert filters({"status": " ", "user_id": "", "times": "utc"}) == Filters()
    assert Filters().query() == ""
    assert Filters(user_id="a&b=c").query(cursor="x") == "user_id=a%26b%3Dc&cursor=x"
    assert Filters()._asdict() == DEFAULTS


def test_a_search_is_what_just_find_is_asked_for() -> None:
    wanted = filters(
        {"status": "CANCELED", "reason": "coupon-expired", "product": "mug", "user_id": "u1", "sort": "oldest"}
    )

    assert wanted.sort == "newest"
    made = criteria_for(wanted)
    assert (made.user, made.product, made.status, made.reason) == ("u1", "mug", "CANCELED", "coupon-expired")
    assert made.by == "ended"
    assert command_for(wanted) == "just find --user u1 --product mug --end canceled --reason coupon-expired"
    times = filters({"since": "2026-01-31T09:00:00+09:00", "until": "2026-01-31 10:00; ls", "coupon": "c"})
    assert command_for(times) == (
        "just find --coupon c --since 2026-01-31T09:00:00+09:00 --until '2026-01-31 10:00; ls'"
    )
    assert criteria_for(times._replace(until="")).since == datetime(2026, 1, 31, tzinfo=UTC)
    stuck = filters({"product": "mug", "compensated": "no"})
    assert criteria_for(stuck).uncompensated
    assert command_for(stuck) == "just find --product mug --uncompensated"


@pytest.mark.parametrize(
    "wrong",
    [
        {"product": "<img>"},
        {"product": "mug", "user_id": "a b"},
        {"since": "yesterday-ish"},
        {"since": "2026-02-01T00:00:00Z", "until": "2026-01-31T00:00:00Z"},
        {"product": "mug", "status": "DONE"},
        {"product": "mug", "compensated": "yes"},
        {"product": "mug", "status": "CONFIRMED", "reason": "coupon-expired"},
        {"coupon": "c1", "older_than_s": "5"},
    ],
)
def test_what_no_search_can_be_is_refused(wrong: Mapping[str, str]) -> None:
    with pytest.raises(Problem) as refused:
        criteria_for(filters(wrong))

    assert refused.value.body.status == 400


async def test_a_search_that_takes_too_long_is_given_up_and_says_the_command(tmp_path: Path) -> None:
    log_search = LogSearch({"DATA_DIR": str(tmp_path)}, search_s=0.01)

    async with log_search._turn:
        with pytest.raises(Unreachable, match=r"given up after 0\.01 s; `just find --product mug` has no such limit"):
            await log_search.page(Filters(product="mug"))


def row(order_id: str, after_s: float = 0) -> ListedRow:
    return ListedRow(order_id, "PENDING", "u1", PLACED_AT + timedelta(seconds=after_s))


def test_new_rows_are_those_before_the_first_that_is_shown() -> None:
    rows = [row("a", 2), row("d", 1), row("c", 1), row("b")]

    assert [newer(rows, one.place) for one in rows] == [0, 1, 2, 3]
    assert newer(rows, row("e", -1).place) == 4


def test_an_order_that_has_left_the_list_makes_no_row_new() -> None:
    rows = [row("a", 2), row("c", 1), row("b")]

    assert newer(rows, row("gone", 3).place) == 0
    assert newer(rows, row("between", 1.5).place) == 1


@pytest.mark.parametrize("text", ["", "o1", "-1 o1", "² o1", f"{10**18} o1", " o1"])
def test_what_is_no_place_makes_no_row_new(text: str) -> None:
    assert newer([row("a")], text) == 0


async def test_an_empty_list_says_why_it_is() -> None:
    here, away, behind = [
        await polled(look(0, order=order))
        for order in (
            seen("order", 'saga_view_lag_facts{view="orders"} 0'),
            seen("order", trouble="gone", samples=Samples()),
            seen("order", 'saga_view_lag_facts{view="orders"} 7'),
        )
    ]

    assert why_none(Filters(reason="coupon-expired"), here) == (
        "no order with reason coupon-expired; the list has read all facts"
    )
    assert why_none(Filters(), behind) == "no order was placed yet; the list has yet to read 7 facts"
    assert (
        why_none(Filters(), away)
        == why_none(Filters(), None)
        == ("no order was placed yet; how far the list has read is not known now")
    )


# Finding --------------------------------------------------------------------------------------------------------------


async def found(
    text: str,
    order: bytes,
    product: bytes,
    letters: Sequence[DeadLetter] = (),
    numbers: str = "",
) -> FoundThings:
    """What is found where these two services answer like this, there is no other, and the stream has no order."""

    async def nothing(_: Sequence[str], __: str) -> list[StoredMessage]:
        return []

    async def dead_letters() -> Sequence[DeadLetter]:
        return letters

    async def in_log(_: str, __: int) -> LoggedFact | None:
        return None

    async def snapshot() -> Snapshot | None:
        return await polled(look(0, order=seen("order", numbers))) if numbers else None

    async with listening(order) as (first, _), listening(product) as (second, _), http_client() as http:
        ports = {"order": first, "product": second}
        services = {name: ServiceAddress(name, f"http://127.0.0.1:{port}") for name, port in ports.items()}
        return await Finder(
            http, services, OrderReader(nothing, no_logs), dead_letters, seen=snapshot, in_log=in_log
        ).find(text)


NO_ORDERS = answer("200 OK", b'{"orders":[],"next":null}')
NO_PRODUCT = answer("404 Not Found")


async def test_a_service_that_cannot_say_is_not_told_as_one_that_has_nothing() -> None:
    full = answer("503 Service Unavailable", b'{"detail":"the disk is full"}')

    missed = (await found("mug", NO_ORDERS, full)).missed

    assert missed[2].startswith("product_svc at http://127.0.0.1:")
    assert missed[2].endswith(" answers GET /products/mug with 503: the disk is full")
    assert missed[3] == "this checkout has no coupon_svc"
    assert (await found("mug", NO_ORDERS, NO_PRODUCT)).missed[2] == "no product mug"


async def test_what_is_not_found_is_said_with_how_far_the_view_is() -> None:
    behind = 'saga_view_lag_facts{view="orders"} 7\nsaga_relay_lag_facts 1200'
    level = 'saga_view_lag_facts{view="orders"} 0\nsaga_relay_lag_facts 0'

    missed = (await found("mug", NO_ORDERS, NO_PRODUCT, numbers=behind)).missed
    assert missed[:2] == [
        "no order mug in the stream or the archive; order_svc has yet to publish 1,200 facts",
        "no order of a user mug; the list has yet to read 7 facts",
    ]
    missed = (await found("order-x@2", NO_ORDERS, NO_PRODUCT, numbers=level)).missed
    assert missed == [
        "no fact order-x@2 of an order in the stream or the archive; order_svc has published all its facts",
        "no fact order-x@2 in the log of a service",
    ]
    missed = (await found("mug", NO_ORDERS, NO_PRODUCT)).missed
    assert missed[0].endswith("; whether order_svc has published all its facts is not known now")
    assert missed[1] == "no order of a user mug; how far the list has read is not known now"


async def test_a_dead_letter_behind_those_that_are_read_is_not_said_to_be_none() -> None:
    first = DeadLetter(1, "point", "k", PLACED_AT, 4, "no", "", "", "", StreamPosition(1, 0), b"", b"")
    letters = [first._replace(sequence=number) for number in range(1, MOST_LETTERS + 1)]

    async def told(count: int) -> str:
        return (await found("2000", NO_ORDERS, NO_PRODUCT, letters[:count])).missed[-1]

    assert await told(MOST_LETTERS) == "no dead letter 2000 among the first 1,000; `just dlq show 2000` asks for it"
    assert await told(MOST_LETTERS - 1) == "no dead letter 2000"


# A running dashboard --------------------------------------------------------------------------------------------------


@pytest.fixture
async def board(shop: Shop) -> Board:
    made = Board(shop)
    await made.start()
    await shop.register("mug", stock=1_000)
    return made


async def placed(shop: Shop, user: str, product: str = "mug") -> str:
    return str((await shop.place([(product, 1)], user=user)).json()["order_id"])


def listed(html: str) -> list[str]:
    return re.findall(r'<tr id="order-([^"]+)"', html)


async def test_orders_are_listed_in_pages_by_what_the_address_says(board: Board) -> None:
    shop = board.shop
    good = [await placed(shop, "ann") for _ in range(51)]
    bad = [await placed(shop, "bob", "unknown") for _ in range(2)]
    await settled(shop)

    first = await board.get("/orders")
    following = re.search(r'<a rel="next" href="([^"]+)"', first.text)
    assert following is not None
    second = await board.get(unescape(following[1]))
    canceled = await board.get("/orders?status=CANCELED&reason=product-unknown&user_id=bob")

    assert listed(first.text) + listed(second.text) == [*reversed(bad), *reversed(good)]
    assert 'rel="next"' not in second.text
    assert listed(canceled.text) == [*reversed(bad)]
    assert "<option selected>CANCELED</option>" in canceled.text
    assert "no order with compensated no" in await board.text("/orders?compensated=no")
    assert "<option selected>no</option>" in (await board.get("/orders?compensated=no")).text
    oldest = await board.get("/orders?sort=oldest&user_id=ann")
    assert listed(oldest.text) == good[:50]
    following = re.search(r'<a rel="next" href="([^"]+)"', oldest.text)
    assert following is not None
    assert parse_qs(unescape(following[1]).partition("?")[2]).keys() == {"user_id", "sort", "cursor"}


async def test_orders_are_searched_for_by_product_coupon_and_time(board: Board) -> None:
    shop = board.shop
    await shop.register("cup", stock=1_000)
    cups = [await placed(shop, "ann", "cup") for _ in range(51)]
    mug = await placed(shop, "bob")
    refused = str((await shop.place([("mug", 1)], user="bob", coupon="none")).json()["order_id"])
    await settled(shop)

    first = await board.get("/orders?product=cup&since=-1h")
    following = re.search(r'<a rel="next" href="([^"]+)"', first.text)
    assert following is not None
    second = await board.get(unescape(following[1]))
    assert listed(first.text) + listed(second.text) == [*reversed(cups)]
    assert 'rel="next"' not in second.text
    assert "just find --product cup --since -1h" in words(first.text)
    assert "1,000" in first.text
    assert 'data-live="' not in first.text
    assert listed((await board.get("/orders?coupon=none&status=CANCELED")).text) == [refused]
    assert listed((await board.get("/orders?product=mug&user_id=bob&status=CONFIRMED")).text) == [mug]
    assert "is in positions 1 to" in await board.text("/orders?product=cup&user_id=bob")
    assert "has never recorded anything about the product none" in await board.text("/orders?product=none")
    assert "older_than_s does not go" in await board.text("/orders?product=mug&older_than_s=5", 400)
    assert "is not kept up to date" in await board.text("/orders/live?product=mug", 400)
    assert "cursor has to be" in await board.text("/orders?product=mug&cursor=x", 400)
    await shop.kill("order")
    assert listed((await board.get("/orders?product=mug&user_id=bob&status=CONFIRMED")).text) == [mug]


async def test_what_cannot_be_a_filter_and_what_cannot_be_asked_is_said(board: Board) -> None:
    assert "status" in await board.text("/orders?status=DONE", 400)
    assert "no order with user_id nobody; the list has read all facts" in await board.text("/orders?user_id=nobody")
    await board.shop.kill("order")
    assert "order_svc at http://127.0.0.1" in await board.text("/orders", 503)


async def test_a_find_leads_to_the_only_thing_or_lists_what_there_is_and_is_not(board: Board) -> None:
    shop = board.shop
    order_id = await placed(shop, "ann")
    await shop.issue("ten-off", "ann")
    await say(shop, "product.reserved.o1", b"{}", "forged@1")
    await until_parked(shop, 1)

    async def leads_to(text: str) -> str:
        return str((await board.get(f"/find?q={text}")).headers.get("location"))

    assert await leads_to(order_id) == f"/orders/{order_id}"
    assert await leads_to(f"order-{order_id}@2") == f"/orders/{order_id}?at=order%402"
    assert await leads_to("ann") == "/orders?user_id=ann"
    assert await leads_to("1") == "/dead-letters#letter-1"
    assert "product mug: 999 available" in await board.text("/find?q=mug")
    assert "coupon ten-off: not in use" in await board.text("/find?q=ten-off")
    nothing = await board.text("/find?q=2")
    for why in ("Nothing found for 2", "no order 2", "no order of a user 2", "no product 2", "no dead letter 2"):
        assert why in nothing
    assert "no fact order-x@9" in await board.text("/find?q=order-x@9")
    assert "is no id" in await board.text("/find?q=%3Cimg%3E")
    assert "Find what?" in await board.text("/find?q=")


async def test_a_fact_of_an_account_a_product_or_a_coupon_is_found_in_its_services_log(board: Board) -> None:
    shop = board.shop
    await shop.charge("ann", 100)
    await shop.issue("ten-off", "ann")
    order_id = str((await shop.place([("mug", 1)], user="ann", points=10, coupon="ten-off")).json()["order_id"])
    await shop.until_ended(order_id, "ann")

    for its_id, name, kind in (
        ("account-ann@2", "point.debited", "user ann"),
        ("coupon-ten-off@2", "coupon.held", "coupon ten-off"),
    ):
        html = (await board.get(f"/find?q={its_id}")).text
        assert f"fact {its_id}, {name}" in words(html)
        assert f'href="/orders/{order_id}"' in html
        (command,) = re.findall(r'data-copy="just (at [^"]+)"', html)
        assert command.startswith(f"at {kind} --position ")
        assert (await told(shop, *command.split()))["version"] == 2
    first = await board.text("/find?q=product-mug@1")
    assert "fact product-mug@1, product.registered" in first
    assert "of order" not in first.partition("Looked for in vain")[0]
    assert "no fact account-ann@9 in the log of a service" in await board.text("/find?q=account-ann@9")
    assert "no fact nothing-ann@1 in the log of a service" in await board.text("/find?q=nothing-ann@1")
    assert "no fact account-@1 in the log" in await board.text("/find?q=account-@1")
    with contextlib.closing(sqlite3.connect(shop.folder / "point" / "events.sqlite")) as log, log:
        log.execute("UPDATE stored_events SET state = CAST('{' AS BLOB) WHERE originator_id = 'account-ann'")
    unreadable = await board.text("/find?q=account-ann@2")
    assert "fact account-ann@2, point.debited, not readable by this code, in the log of point_svc" in unreadable


async def test_what_cannot_be_asked_is_named_beside_what_is_found(board: Board) -> None:
    await board.shop.kill("product")
    await board.shop.kill("nats")

    text = await board.text("/find?q=mug")

    assert "product_svc at http://127.0.0.1" in text
    assert "the broker at 127.0.0.1" in text
    assert "no coupon mug" in text
