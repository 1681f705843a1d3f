"""The dashboard: one poll for all viewers, the first screen without a script, and what it says of what is away."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from infra.http.origin_check import OriginCheck
from infra.local.services import ROOT
from ops.dashboard import pages
from ops.dashboard.flow_map import flow_map
from ops.dashboard.live import event, snapshots
from ops.dashboard.order import FlowTables
from ops.dashboard.overview import Panel, audit, links, panels
from ops.dashboard.pages import POLICY, render
from ops.dashboard.plots import HEIGHT, WIDTH, Series, plot, top_of
from ops.dashboard.poller import POINTS, Poller, Snapshot
from ops.flow.command import parts
from ops.fold import aggregates
from ops.status.seen import Look, Sample, Samples, SeenService
from tests.e2e.processes import run, started
from tests.infra.http.test_origin_check import refusal
from tests.ops.asking import orders
from tests.ops.boards import Board, words
from tests.ops.test_status import BUCKETS, look, seen
from tests.saga.test_dead_letters import say, until_parked
from tests.shop import Shop

TABLES = FlowTables(parts(), aggregates())
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Asked:
    """Services that are looked at: the n-th look is at second n, or at what `looks` has."""

    def __init__(self, *looks: Look) -> None:
        self.looks = list(looks)
        self.count = 0

    async def __call__(self) -> Look:
        self.count += 1
        return self.looks.pop(0) if self.looks else look(self.count)


async def polled(*looks: Look) -> Snapshot:
    """The snapshot after these looks."""
    asked = Asked(*looks)
    poller = Poller(asked, lambda: NOON + timedelta(seconds=looks[asked.count - 1].at))
    running = asyncio.create_task(poller.run())
    with poller.watching():
        for number in range(len(looks)):
            found = await poller.after(number)
            poller._wanted.set()
    poller.close()
    await running
    assert found is not None
    return found


def orders_seen(accepted: int, more: str = "") -> SeenService:
    confirmed = f'saga_orders_ended_total{{end="confirmed",reason="none"}} {accepted}'
    return seen("order", f"saga_orders_accepted_total {accepted}\n{confirmed}\n{more}")


# The poller -----------------------------------------------------------------------------------------------------------


async def test_it_asks_once_for_all_that_wait() -> None:
    asked = Asked()
    poller = Poller(asked)
    waiting = [asyncio.create_task(poller.after(0)) for _ in range(100)]
    running = asyncio.create_task(poller.run())

    found = await asyncio.gather(*waiting)

    assert {snapshot.number for snapshot in found if snapshot} == {1}
    assert asked.count == 1
    poller.close()
    await running


async def test_the_first_viewer_gets_numbers_at_once_and_the_end_releases_all() -> None:
    asked = Asked()
    poller = Poller(asked)
    running = asyncio.create_task(poller.run())
    assert await poller.after(0) is not None
    with poller.watching():
        found = await asyncio.wait_for(poller.after(1), 3)
        assert found is not None
        assert found.number == 2
        waiting = asyncio.create_task(poller.after(1_000))
        poller.close()
        assert await asyncio.wait_for(waiting, 3) is None
    await asyncio.wait_for(running, 3)


async def test_an_old_snapshot_is_not_shown_if_a_new_one_comes_soon() -> None:
    asked = Asked()
    times = iter([NOON, NOON + timedelta(seconds=4), NOON + timedelta(seconds=4), NOON + timedelta(seconds=4.5)])
    poller = Poller(asked, lambda: next(times))
    running = asyncio.create_task(poller.run())
    await poller.after(0)

    fresh = await poller.fresh(3)
    again = await poller.fresh(3)

    assert fresh is again
    assert fresh is not None
    assert (fresh.number, asked.count) == (2, 2)
    poller.close()
    await running


class Odd(Samples):
    """Numbers that nobody expects."""

    def of(self, name: str) -> list[Sample]:
        raise ValueError(f"no bound of {name}")


async def test_what_another_program_answers_ends_nothing() -> None:
    asked = Asked(look(0), look(1, order=seen("order", samples=Odd())), look(12))
    poller = Poller(asked)
    running = asyncio.create_task(poller.run())
    with poller.watching():
        assert await poller.after(0) is not None
        found = await asyncio.wait_for(poller.after(1), 10)

    assert found is not None
    assert (found.number, found.look.at, asked.count) == (2, 12, 3)
    poller.close()
    await running


async def test_without_an_answer_in_time_the_latest_snapshot_is_given() -> None:
    poller = Poller(Asked())

    assert await poller.fresh(0.01) is None


async def test_a_page_that_an_earlier_process_was_sent_more_of_is_sent_the_first_snapshot() -> None:
    """The browser connects again before the new process has looked once."""
    poller = Poller(Asked())
    events = snapshots(poller, lambda seen: "", after=20)
    first = asyncio.create_task(anext(events))
    await asyncio.sleep(0)
    running = asyncio.create_task(poller.run())

    assert await first == event("", 1)
    poller.close()
    await running
    await events.aclose()


async def test_rates_are_those_of_the_last_seconds_and_points_those_between_them() -> None:
    looks = [look(at, order=orders_seen(int(at * 10 if at <= 30 else 300 + (at - 30) * 40))) for at in range(0, 61, 5)]

    found = await polled(*looks)

    assert found.figures.window_s == 10
    assert found.figures.accepted == 40
    assert [point.figures.accepted for point in found.points if point.figures] == [10] * 6 + [40] * 6
    assert found.points[-1].at == NOON + timedelta(seconds=60)


async def test_a_time_without_order_svc_is_a_gap() -> None:
    away = SeenService(seen("order").service, "order_svc is away", samples=Samples())
    order = (orders_seen(0), orders_seen(50), away, orders_seen(5), orders_seen(10))

    found = await polled(*(look(at * 5, order=one) for at, one in enumerate(order)))

    assert [None if point.figures is None else point.figures.accepted for point in found.points] == [10, None, None, 1]


# The first screen -----------------------------------------------------------------------------------------------------


def panel(found: Snapshot, name: str) -> Panel:
    return next(one for one in panels(found) if one.name == name)


def rows(one: Panel) -> dict[str, str]:
    return {row.name: row.value for row in one.rows}


async def test_figures_are_told_with_their_objectives() -> None:
    ended = 'saga_orders_ended_total{{end="canceled",reason="points-insufficient"}} {0}\n'
    durations = f'{BUCKETS}{{{{le="0.1"}}}} {{0}}\n{BUCKETS}{{{{le="+Inf"}}}} {{0}}\n'
    refused = 'saga_orders_refused_total{{cause="overload"}} {0}'
    more = ended + durations + refused

    found = await polled(*(look(at, order=orders_seen(3 * n, more.format(n))) for at, n in ((0, 0), (5, 10))))

    assert rows(panel(found, "rates")) == {"accepted": "6.0", "ended": "8.0", "refused: overload": "2.0"}
    assert rows(panel(found, "ends")) == {
        "confirmed": "75.0%",
        "canceled": "25.0%",
        "canceled: points-insufficient": "25.0%",
    }
    assert rows(panel(found, "times"))["99 % within"] == "99 ms"
    assert panel(found, "times").note == "objective: an order ends within 5 s; it is kept now"


@pytest.mark.parametrize(("age", "good"), [(5.0, True), (5.1, False)])
async def test_an_objective_is_missed_when_something_waits_too_long(age: float, good: bool) -> None:
    order = orders_seen(0, f"saga_orders_pending 1\nsaga_oldest_pending_order_age_seconds {age}")

    found = await polled(look(0, order=order))

    assert panel(found, "times").good is good
    assert panel(found, "compensations").good


async def test_what_needs_attention_leads_to_its_page() -> None:
    order = orders_seen(
        0,
        "saga_orders_pending 1\nsaga_oldest_pending_order_age_seconds 9\n"
        "saga_orders_uncompensated 1\nsaga_oldest_uncompensated_order_age_seconds 99\nsaga_audit_good 0",
    )

    found = await polled(look(0, order=order))

    assert links(found.health) == ["/orders?status=PENDING", "/orders?compensated=no", ""]


def rendered(found: Snapshot) -> str:
    shown = {"panels": panels(found), "links": links(found.health), "map": flow_map(found, TABLES), "audit": ""}
    return render("overview_part.html", seen=found, age_s=0.0, **shown)


async def test_a_service_whose_numbers_are_missing_is_shown_without_any() -> None:
    odd = seen("point", unmeasured="point_svc answers /metrics with something else", samples=Samples())

    text = words(rendered(await polled(look(0, point=odd))))

    assert "point_svc ready not known: it does not tell its numbers coupon_svc" in text


async def test_hostile_texts_are_shown_as_text() -> None:
    evil = "<img src=x onerror=alert(1)>\u202e\x1b[2J"

    html = rendered(await polled(look(0, point=seen("point", warnings=(evil,)))))

    assert "&lt;img src=x onerror=alert(1)&gt;\\u202e\\x1b[2J" in html
    assert "<img" not in html


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gone since 2026-03-02 12:03:05 UTC; it waits", ["gone since ", "2026-03-02T12:03:05+00:00", "; it waits"]),
        ("12:03:05.250 UTC", ["", "2026-01-31T12:03:05.250000+00:00", ""]),
        ("since 12:05:00 UTC", ["since ", "2026-01-31T12:05:00+00:00", ""]),
        ("since 23:00:00 UTC", ["since ", "2026-01-30T23:00:00+00:00", ""]),
        ("25:00:00 UTC, 2026-02-30 12:00:00 UTC", ["25:00:00 UTC, 2026-02-30 12:00:00 UTC"]),
        ("0001-01-01 00:00:00 UTC", ["", "0001-01-01T00:00:00+00:00", ""]),
        ("no time", ["no time"]),
    ],
)
def test_a_time_that_a_service_says_is_one_that_can_be_shown_as_chosen(
    text: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "now", lambda: NOON + timedelta(minutes=5))

    made = pages.split_by_time(text)

    assert [one if isinstance(one, str) else one.at.isoformat() for one in made] == found
    assert "".join(one if isinstance(one, str) else one.text for one in made) == text


# The map ------------------------------------------------------------------------------------------------------------


def said(*facts: str, count: int) -> str:
    return "".join(f'saga_facts_recorded_total{{fact="{fact}"}} {count}\n' for fact in facts)


def heard(fact: str, within: float, count: int, lag_s: float = 0.0) -> str:
    consumer = f"point-hears-{fact.replace('.', '-')}"
    name = f'saga_hear_delay_seconds_bucket{{consumer="{consumer}",le='
    return (
        f'{name}"{within}"}} {count}\n{name}"+Inf"}} {count}\n'
        f'saga_consumer_lag_seconds{{consumer="{consumer}"}} {lag_s}\n'
    )


async def test_the_map_is_that_of_the_tables_with_rates_and_delays() -> None:
    product = [seen("product", said("product.reserved", count=count)) for count in (0, 1_000)]
    point = [seen("point", heard("product.reserved", 0.01, count)) for count in (0, 50)]

    found = await polled(*(look(5 * n, product=product[n], point=point[n]) for n in (0, 1)))
    made = flow_map(found, TABLES)

    rows = {row.fact: row for row in made.rows}
    assert set(rows) == {heard for part in TABLES.parts for act in part.acts for heard in act.hears}
    assert [one.service for one in rows["order.canceled"].hearers] == ["product", "point", "coupon"]
    reserved = rows["product.reserved"]
    assert (reserved.rate, reserved.idle) == (200, False)
    assert reserved.hearers[0].p50_s == 0.005
    drawn = next(one.row for one in made.drawing.rows if one.row.fact == "product.reserved")
    assert (drawn.margin, drawn.hearers[0].note) == ("200.0/s", "5 ms")
    assert "wide3" in drawn.hearers[0].kind
    assert {one.row.fact for one in made.drawing.rows if one.row.link == "/orders?status=CANCELED"} == {
        *("order.canceled", "product.reserve.failed", "point.use.failed", "coupon.use.failed")
    }


@pytest.mark.parametrize(("lag_s", "late"), [(1.0, False), (1.1, True)])
async def test_a_service_that_hears_late_is_marked_and_named(lag_s: float, late: bool) -> None:
    found = await polled(look(0, point=seen("point", heard("product.reserved", 1, 0, lag_s))))

    drawn = next(one.row for one in flow_map(found, TABLES).drawing.rows if one.row.fact == "product.reserved")

    assert ("late" in drawn.hearers[0].kind.split()) is late
    assert (drawn.hearers[0].note == "1 s late") is late


async def test_a_fact_is_idle_five_minutes_after_it_was_said_last() -> None:
    counts = {0: 7, 5: 8, 300: 8, 305: 8, 306: 8}
    looks = [look(at, point=seen("point", said("point.used", count=count))) for at, count in counts.items()]

    idle = []
    for end in range(1, len(looks) + 1):
        rows = flow_map(await polled(*looks[:end]), TABLES).rows
        idle.append(next(row.idle for row in rows if row.fact == "point.used"))

    assert idle == [True, False, False, False, True], "what was said before the first look is not known"


async def test_what_a_service_that_is_away_says_and_hears_is_not_known() -> None:
    away = seen("point", trouble="gone", samples=Samples())

    rows = {row.fact: row for row in flow_map(await polled(look(0), look(5, point=away)), TABLES).rows}

    assert rows["point.used"].rate is None
    assert not rows["product.reserved"].hearers[0].known
    assert rows["product.reserved"].rate == 0


async def test_the_map_has_no_rate_of_what_was_counted_before_a_look_that_a_service_missed() -> None:
    missed, answered = seen("point", trouble="slow", samples=Samples()), seen("point", said("point.used", count=1_000))

    rows = {
        row.fact: row for row in flow_map(await polled(look(0, point=missed), look(5, point=answered)), TABLES).rows
    }

    assert rows["point.used"].rate is None
    assert rows["product.reserved"].hearers[0].known


async def test_the_last_audits_verdict_is_told() -> None:
    good, bad = (seen("order", f"saga_audit_good {value}\nsaga_audit_age_seconds 7200") for value in (1, 0))

    assert audit(await polled(look(0, order=good))) == "found nothing, 2 h ago"
    assert audit(await polled(look(0, order=bad))) == "has findings, 2 h ago"
    assert audit(await polled(look(0))) == ""
    assert "No audit is known." in words(rendered(await polled(look(0))))


@pytest.mark.parametrize(("good", "told"), [(1, "found nothing"), (0, "has findings")])
async def test_what_the_last_audit_did_not_judge_is_told(good: int, told: str) -> None:
    text = f"saga_audit_good {good}\nsaga_audit_unjudged_facts 1200\nsaga_audit_age_seconds 7200"

    found = audit(await polled(look(0, order=seen("order", text))))

    assert found == f"{told} and did not judge 1,200 facts of newer code, 2 h ago"


# Plots ----------------------------------------------------------------------------------------------------------------


def test_a_line_ends_at_the_right_and_breaks_where_values_are_missing() -> None:
    made = plot([Series("a", "one", [0.0, None, 5.0, 10.0])], 5, limit=5.0)

    step = WIDTH / 4
    assert made.lines[0].path == f"M{step:.1f} {HEIGHT}.0 M{3 * step:.1f} {HEIGHT / 2} L{WIDTH}.0 0.0"
    assert (made.top, made.limit) == (10, HEIGHT / 2)


def test_a_plot_of_nothing_is_empty() -> None:
    assert plot([Series("a", "one", [])], POINTS).lines[0].path == ""


def test_more_values_than_fit_are_cut_at_the_left() -> None:
    made = plot([Series("a", "one", [float(n) for n in range(10)])], 3)

    assert made.lines[0].path.startswith("M0.0 ")
    assert made.lines[0].path.count(" ") == 5


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.03, 0.05), (0.1, 0.1), (3, 5), (6, 10), (412, 500), (1e-5, 1e-5)]
)
def test_the_top_of_a_plot_is_a_round_number(value: float, top: float) -> None:
    assert top_of(value) == top


# Who may ask ----------------------------------------------------------------------------------------------------------


def test_a_form_is_taken_where_forms_are() -> None:
    form = [(b"host", b"localhost"), (b"content-type", b"application/x-www-form-urlencoded"), (b"content-length", b"3")]

    assert OriginCheck(forms=True).refusal(form) is None
    assert OriginCheck(forms=True).refusal([*form[:1], (b"content-type", b"text/plain"), *form[2:]]) is not None
    assert refusal(*((name.decode(), value.decode()) for name, value in form)) == "415 unsupported-media-type"


# A running dashboard --------------------------------------------------------------------------------------------------


@pytest.fixture
async def board(shop: Shop) -> AsyncIterator[Board]:
    made = Board(shop)
    await made.start()
    yield made
    if shop.processes["dashboard"].poll() is None:
        assert await shop.stop("dashboard") == 0


async def test_the_first_screen_needs_no_script(board: Board) -> None:
    await board.shop.register("mug")
    assert (await board.shop.place([("mug", 1)])).status_code == 200

    text = await board.text("/")

    assert "All is well: " in text
    assert "Needs attention nothing" in text
    assert "numbers from " in text
    assert re.search(r"order_svc ready .* coupon_svc ready", text)


async def test_its_pages_load_nothing_from_elsewhere_and_have_no_script_in_them(board: Board) -> None:
    answer = await board.get("/")

    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script>|\son\w+=|\sstyle=|javascript:", answer.text)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert {one for one in loaded if not one.startswith(("/", "#"))} == set()
    for one in loaded:
        if one.startswith("/static/"):
            file = await board.get(one)
            assert file.status_code == 200
            assert "immutable" in file.headers["cache-control"]


async def test_only_this_machines_own_pages_may_ask(shop: Shop) -> None:
    shop.env["ALLOWED_HOSTS"] = "shop.example"
    board = Board(shop)
    await board.start()

    assert (await board.get("/", Host="attacker.example")).status_code == 421
    assert (await board.get("/", Host="shop.example")).status_code == 421, "that name is for the services"
    assert (await board.get("/", Origin="http://attacker.example")).status_code == 403


async def test_an_unknown_page_is_said_to_be_one(board: Board) -> None:
    assert "404: there is no such page" in await board.text("/nothing", 404)
    assert "404: there is no such file" in await board.text("/static/1/passwd", 404)


async def some(board: Board, count: int, last: int | None = None) -> dict[int, str]:
    """The first events that a viewer of the first screen gets: the data by the id."""
    found: dict[int, str] = {}
    async with aclosing(board.events("/live", last)) as events:
        async for its_id, _, data in events:
            found[its_id] = data
            if len(found) == count:
                break
    return found


async def test_viewers_get_the_same_numbers_and_go_on_after_the_last_they_saw(board: Board) -> None:
    one, other = await asyncio.gather(some(board, 4), some(board, 4))

    both = one.keys() & other.keys()
    assert both
    assert {its_id: one[its_id] for its_id in both} == {its_id: other[its_id] for its_id in both}
    assert sorted(one) == list(range(min(one), min(one) + 4)), "none is left out"
    assert words(one[min(one)]).startswith("✓ All is well")
    assert min(await some(board, 1, max(one))) > max(one)
    assert min(await some(board, 1, 10**9)) < 10**9, "that id is of an earlier process"


async def test_it_names_what_is_away_and_says_what_it_cannot_see(board: Board) -> None:
    async with board.shop.paused("point"):
        text = await board.until("/", "point_svc away not known")
    assert "has not answered GET /readyz within 2 s" in text
    assert "--timeout" not in text
    await board.until("/", "point_svc ready")

    await board.shop.kill("nats")
    await board.until("/", "all services: no session with the broker")

    await board.shop.kill("order")
    text = await board.until("/", "order_svc away not known")
    assert "Orders a second not known: order_svc does not say" in text


async def test_it_says_what_just_status_says(board: Board) -> None:
    await say(board.shop, "product.reserved.o1", b"{}", "forged@1")
    await until_parked(board.shop, 1)
    await board.shop.kill("coupon")

    told = json.loads((await orders(board.shop, "status", "--json")).stdout)
    text = await board.until("/", "coupon_svc at http://127.0.0.1")

    (away, *others) = told["concerns"]
    assert away["what"] in text
    assert away["next_step"] in text
    assert all(command in text for command in away["commands"])
    assert any("point has 1 dead letter," in one["what"] for one in others)
    assert "point has 1 dead letter," in text


async def test_it_ends_at_once_also_while_somebody_looks(board: Board) -> None:
    async with aclosing(board.events("/live")) as events:
        await anext(events)
        assert await board.shop.stop("dashboard") == 0
    assert "stopped" in board.shop.log("dashboard").read_text()


async def test_without_any_service_it_starts_all_the_same(broker: Shop) -> None:
    board = Board(broker)
    await board.start()

    text = await board.until("/", "order_svc away")

    assert "order_svc at http://127.0.0.1:" in text


async def test_the_command_prints_its_address_and_refuses_a_port_in_use(board: Board) -> None:
    env = {**board.shop.env, "LOG_FORMAT": "text"}
    again = await run("ops.orders", "dashboard", env=env)
    assert (again.returncode, again.stdout) == (2, "")
    assert f"the dashboard cannot start: port {env['DASHBOARD_PORT']} on 127.0.0.1 cannot be used" in again.stderr

    await board.shop.stop("dashboard")
    with started("ops.orders", "dashboard", env=env, folder=board.shop.folder) as other:
        await other.prints(f"url={board.url}")
        other.process.send_signal(signal.SIGINT)
        assert await other.ended() == 0


async def test_a_wrong_setting_ends_it_before_it_starts() -> None:
    ended = await run("ops.dashboard", env={"DASHBOARD_PORT": "here", "PYTHONPATH": str(ROOT)})

    assert ended.returncode == 2
    assert "DASHBOARD_PORT='here' cannot be used" in ended.stderr
