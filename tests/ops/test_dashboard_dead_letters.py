"""Dead letters on the dashboard: in groups of one cause, previewed, redriven with a reason, and what came of each."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from infra.consuming.dead_letter import DeadLetter
from infra.consuming.dead_letter_message import headers_of, subject_of
from infra.core.messages import StreamPosition
from infra.local.ports import free_ports
from infra.timestamps import instant
from ops.client import ServiceAddress, http_client
from ops.dashboard.dead_letter_groups import DeadLetterKey, error_class, grouped, own_frame
from ops.dashboard.redrive import AT_ONCE, MOST_KEPT, KeyOutcome, Operations, Redriver
from ops.dashboard.sessions import Operator
from ops.dlq import dead_letters
from ops.dlq.command import _ask, command
from ops.dlq.waiting import as_waiting
from ops.errors import Unreachable
from tests.ops.asking import orders, told
from tests.ops.boards import Board, words
from tests.ops.test_waiting import answer, listening
from tests.saga.test_dead_letters import TEA, letters, until_parked
from tests.shop import PATIENCE_S, Shop, attempts, open_shop

STACK = (
    'Traceback (most recent call last):\n  File "/srv/shop/infra/core/writer.py", line 120, in decide\n    x\n'
    '  File "/srv/shop/point_svc/domain/use.py", line 41, in decide\n    y\n'
    '  File "/usr/lib/python3.11/json/decoder.py", line 3, in decode\n    z\nValueError: no\n'
)


def letter(
    sequence: int, consumer: str = "point", key: str = "o1", error: str = "ValueError: no", **more: Any
) -> DeadLetter:
    fields = {"attempts": 4, "stack": STACK, **more}
    return DeadLetter(
        sequence, consumer, key, instant(sequence), fields["attempts"], error, fields["stack"], "", "",
        StreamPosition(sequence, 0), b"", b"",
    )  # fmt: skip


# Groups ---------------------------------------------------------------------------------------------------------------


def test_a_group_has_one_consumer_one_error_and_one_place() -> None:
    behind = letter(3, error="waits behind 1", attempts=0, stack="")
    other = letter(4, key="o2", error="ValueError: another text")
    elsewhere = letter(5, key="o3", stack=STACK.replace("41", "42"))
    coupons = letter(6, "coupon", "o4")

    found = grouped([letter(1), behind, other, elsewhere, coupons])

    assert [[one.sequence for one in group.dead_letters] for group in found] == [[1, 3, 4], [5], [6]]
    first = found[0]
    assert (first.consumer, first.error, first.frame) == ("point", "ValueError", "point_svc/domain/use.py:41 decide")
    assert (first.tried, first.keys) == (2, [DeadLetterKey("point", "o1"), DeadLetterKey("point", "o2")])
    assert (first.first, first.last) == (instant(1), instant(4))


def test_what_waits_without_the_one_before_it_is_a_group_of_its_own() -> None:
    (found,) = grouped([letter(3, error="waits behind 1", attempts=0, stack="")])

    assert (found.error, found.frame, found.tried) == ("waits behind 1", "", 0)


def test_what_waits_says_behind_which_dead_letter_that_is_left() -> None:
    waiting: dict[str, Any] = {"error": "waits behind 1", "attempts": 0, "stack": ""}
    left = [letter(3, **waiting), letter(4, key="o2"), letter(5, "coupon"), letter(6, **waiting)]

    assert [one.error for one in as_waiting([letter(1), *left])[1:]] == [one.error for one in left]
    assert [one.error for one in as_waiting(left)] == [
        "waited behind 1, which is gone: redrive it",
        "ValueError: no",
        "ValueError: no",
        "waits behind 3",
    ]


@pytest.mark.parametrize(
    ("error", "its_class"),
    [("ValueError: no", "ValueError"), ("nats.errors.Error: x", "nats.errors.Error"), ("no class: x", "no class: x")],
)
def test_the_class_of_an_error(error: str, its_class: str) -> None:
    assert error_class(error) == its_class


def test_a_stack_of_others_code_alone_has_no_place() -> None:
    assert own_frame('File "/usr/lib/python3.11/json/decoder.py", line 3, in decode') == ""
    assert own_frame("<img>") == ""


def test_the_first_dead_letter_of_each_key_has_the_choice_of_it() -> None:
    (found,) = grouped([letter(1), letter(2, key="o2"), letter(3), letter(4, key="o2")])

    assert [key and key.key for _, key in found.choices] == ["o1", "o2", None, None]


# Previews -------------------------------------------------------------------------------------------------------------


class Previewed(Redriver):
    """Services of which `away` does not answer; an answer comes after all others that can be asked for have been."""

    def __init__(self, away: str = "nobody") -> None:
        self.away = away
        self.asked: list[DeadLetterKey] = []
        self.at_once = 0
        self.most = 0

    async def ask(
        self, key: DeadLetterKey, *, dry_run: bool, reason: str = "", preview: str = "", by: Operator | None = None
    ) -> KeyOutcome:
        assert (dry_run, reason) == (True, "")
        self.asked.append(key)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        for _ in range(3):
            await asyncio.sleep(0)
        self.at_once -= 1
        return KeyOutcome(key, "unknown", why="gone") if key.consumer.startswith(self.away) else KeyOutcome(key, "done")


async def test_a_preview_asks_for_few_keys_at_the_same_time() -> None:
    services = Previewed()
    keys = [DeadLetterKey("point", f"o{number}") for number in range(1_000)]

    found = await services.preview(keys)

    assert [(one.key, one.state) for one in found] == [(key, "done") for key in keys]
    assert services.most == AT_ONCE


async def test_a_preview_asks_a_service_that_does_not_answer_no_more() -> None:
    services = Previewed(away="point")
    consumers = ("point-product_reserved", "coupon-point_used", "point-order_canceled")
    keys = [DeadLetterKey(consumer, f"o{number}") for number in range(100) for consumer in consumers]

    found = await services.preview(keys)

    states = [(consumer, "done" if consumer.startswith("coupon") else "unknown") for consumer in consumers]
    assert [(one.key.consumer, one.state) for one in found] == states * 100
    assert {one.why for one in found} == {"", "gone", "not asked: gone"}
    assert sum(key.consumer.startswith("point") for key in services.asked) <= AT_ONCE


# Operations -----------------------------------------------------------------------------------------------------------

KEYS = [DeadLetterKey("point", f"o{number}") for number in range(3)]


class Asked(Redriver):
    """Services that answer a redrive when they are let."""

    def __init__(self) -> None:
        self.asked: list[DeadLetterKey] = []
        self.go = asyncio.Semaphore(0)

    async def ask(
        self, key: DeadLetterKey, *, dry_run: bool, reason: str = "", preview: str = "", by: Operator | None = None
    ) -> KeyOutcome:
        assert (dry_run, reason) == (False, "mended")
        self.asked.append(key)
        await self.go.acquire()
        return KeyOutcome(key, "done")


async def states(operations: Operations, wanted: Sequence[str]) -> None:
    async for _ in attempts(f"{wanted}"):
        found = operations.get("a" * 16)
        assert found is not None
        if [one.state for one in found.outcomes.values()] == wanted:
            return


@pytest.mark.parametrize("body", [b"{}", b'{"outcomes":5,"left":0}', b'{"outcomes":[{}],"left":0}'])
async def test_what_another_program_answers_is_no_outcome(body: bytes) -> None:
    async with listening(answer("200 OK", body)) as (port, _), http_client() as http:
        services = {"point": ServiceAddress("point", f"http://127.0.0.1:{port}")}
        found = await Redriver(http, services).ask(KEYS[0], dry_run=False)

    assert found.state == "unknown"
    assert " answers POST /ops/dead-letters/redrive with something else: " in found.why


async def test_what_another_program_answers_to_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(answer("200 OK", b"{}")) as (port, _):
        monkeypatch.setenv("POINT_PORT", str(port))
        with pytest.raises(Unreachable, match="answers POST /ops/dead-letters/drop with something else: "):
            await asyncio.to_thread(_ask, "point", "drop", {}, PATIENCE_S)


async def test_what_was_redriven_before_a_service_gave_no_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def all_of(env: Mapping[str, str]) -> list[DeadLetter]:
        return [letter(1, "point", "k1"), letter(2, "product", "k2"), letter(3, "point", "k3")]

    monkeypatch.setattr(dead_letters, "all_of", all_of)
    outcomes = [{"sequence": 1, "fact_id": "k1@1", "subject": "coupon.used.k1", "error": None, "recorded": []}]
    body = json.dumps({"outcomes": outcomes, "left": 0}).encode()
    async with listening(answer("200 OK", body)) as (port, _):
        monkeypatch.setenv("POINT_PORT", str(port))
        monkeypatch.setenv("PRODUCT_PORT", str(free_ports(1)[0]))
        done = await asyncio.to_thread(CliRunner().invoke, command, ["redrive", "--all", "--yes", "--json"])

    assert done.exit_code == 3
    assert json.loads(done.stdout) == [{"consumer": "point", "key": "k1", "outcomes": outcomes, "left": 0}]


async def test_a_second_click_is_the_same_operation_and_keys_go_one_by_one() -> None:
    asked = Asked()
    operations = Operations(asked)

    first = operations.begin("a" * 16, "mended", KEYS)
    again = operations.begin("a" * 16, "mended", KEYS)

    assert first is again
    await states(operations, ["runs", "waits", "waits"])
    asked.go.release()
    await states(operations, ["done", "runs", "waits"])
    assert asked.asked == KEYS[:2]
    asked.go.release()
    asked.go.release()
    await states(operations, ["done", "done", "done"])
    assert (first.over, first.summary) == (True, "3 done")


async def test_a_stopped_operation_ends_after_the_key_that_runs_and_says_which_were_left() -> None:
    asked = Asked()
    operations = Operations(asked)
    operation = operations.begin("a" * 16, "mended", KEYS)
    await states(operations, ["runs", "waits", "waits"])

    operation.stopping = True
    asked.go.release()

    await states(operations, ["done", "stopped", "stopped"])
    assert asked.asked == KEYS[:1]
    assert operation.summary == "1 done, 2 stopped"


async def test_the_end_of_the_dashboard_waits_for_the_key_that_runs() -> None:
    asked = Asked()
    operations = Operations(asked)
    operation = operations.begin("a" * 16, "mended", KEYS)
    await states(operations, ["runs", "waits", "waits"])
    closing = asyncio.create_task(operations.close())
    asked.go.release()

    await closing

    assert operation.summary == "1 done, 2 stopped"


async def test_an_operation_that_runs_is_kept_until_it_is_over_and_can_be_stopped() -> None:
    asked = Asked()
    operations = Operations(asked)
    operation = operations.begin("a" * 16, "mended", KEYS)
    await states(operations, ["runs", "waits", "waits"])
    for number in range(MOST_KEPT):
        operations.begin(f"o{number}", "mended", [])

    assert operations.get(operation.id) is operation
    assert (len(operations.newest), operations.get("o0")) == (MOST_KEPT, None)
    closing = asyncio.create_task(operations.close())
    asked.go.release()
    await closing
    assert operation.summary == "1 done, 2 stopped"
    operations.begin("b" * 16, "mended", [])
    assert operations.get(operation.id) is None


# A running dashboard --------------------------------------------------------------------------------------------------


@pytest.fixture
async def board(tmp_path: Path) -> AsyncIterator[Board]:
    """Point_svc has a bug that rejects the use of 13 points."""
    async with open_shop(tmp_path, ORDER_WAIT_S="0.2", ORDER_DEADLINE_S="5", ALLERGIC_TO='"points":13') as shop:
        await shop.register("tea")
        await shop.charge("u1", 10_000)
        await shop.stop("point")
        await shop.start("point", wrapper="allergic")
        made = Board(shop)
        await made.start()
        yield made


async def stuck(shop: Shop) -> str:
    """The id of an order of which point_svc has two dead letters: its deadline's cancel waits behind the first."""
    order_id = str((await shop.place(TEA, points=13)).json()["order_id"])
    await until_parked(shop, 2)
    return order_id


def fields(html: str) -> dict[str, str]:
    """The hidden fields of the last form of a page, and those that are checked."""
    form = html[html.rindex('<form method="post"') :]
    return {name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', form)}


async def sent(board: Board, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
    return await board.shop.http.post(f"{board.url}{path}", data=form, headers=headers)


async def test_what_waited_behind_a_dropped_dead_letter_says_so(board: Board) -> None:
    await stuck(board.shop)
    first, _ = await letters(board.shop)

    await told(board.shop, "dlq", "drop", str(first.sequence), "--yes")

    text = words((await board.get("/dead-letters")).text)
    assert f"waited behind {first.sequence}, which is gone: redrive it" in text
    assert "waits behind" not in text
    assert "1 not tried, of 1 key;" in text


async def test_a_dead_letter_is_redriven_once_its_cause_is_mended(board: Board) -> None:
    shop = board.shop
    order_id = await stuck(shop)
    listed = await board.get("/dead-letters")
    text = words(listed.text)
    assert "point: ZeroDivisionError" in text
    assert "1 tried in vain, 1 wait behind them, of 1 key;" in text
    assert f"/orders/{order_id}" in listed.text
    form = fields(listed.text)
    assert form["key"] == f"point {order_id}"
    page = await board.until(f"/orders/{order_id}", "dead letters:")
    assert "canceled, not compensated yet" in page

    preview = await sent(board, "/dead-letters/preview", form)
    assert "would fail again" in words(preview.text)
    assert "ZeroDivisionError: a bug" in words(preview.text)
    await shop.stop("point")
    await shop.start("point")
    preview = await sent(board, "/dead-letters/preview", form)
    text = words(preview.text)
    assert "would succeed" in text
    assert "point.debited, point.used" in text
    assert "point.credited, point.refunded" in text
    assert len(await letters(shop)) == 2, "a preview changes nothing"

    form = {**fields(preview.text), "reason": "the bug is mended <b>"}
    answers = [await sent(board, "/dead-letters/redrive", form) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {303}
    (address,) = {answer.headers["location"] for answer in answers}
    async with aclosing(board.events(f"{address}/live")) as events:
        async for _, name, data in events:
            if name == "finished":
                assert "The redrive is over: 1 done" in words(data)
                assert "the bug is mended &lt;b&gt;" in data
    assert await letters(shop) == []
    assert (await shop.until_ended(order_id))["compensated"]
    log = shop.log("dashboard").read_text()
    assert log.count("redrive asked for") == log.count("redriven ") == 1
    assert log.count("reason='the bug is mended <b>'") == 3
    assert "There are none." in await board.text("/dead-letters")
    assert "1 done" in await board.text("/dead-letters")


async def test_what_was_redriven_in_vain_is_known_after_a_restart_until_it_is_handled(board: Board) -> None:
    shop = board.shop
    await stuck(shop)
    parked = await letters(shop)
    number = str(parked[0].sequence)
    preview = await sent(board, "/dead-letters/preview", fields((await board.get("/dead-letters")).text))
    form = {**fields(preview.text), "reason": "a first try"}
    address = (await sent(board, "/dead-letters/redrive", form)).headers["location"]
    await board.until(address, "The redrive is over: 1 fails")
    again = await orders(shop, "dlq", "redrive", number, "--yes", "--reason", "a second <b>try")
    assert (again.returncode, await letters(shop)) == (1, parked)

    await shop.kill("point")
    await shop.start("point", wrapper="allergic")
    await shop.stop("dashboard")
    await board.start()

    page = (await board.get("/dead-letters")).text
    assert "4, redriven 2 times in vain" in words(page)
    assert ", because: a second &lt;b&gt;try; it failed with ZeroDivisionError: a bug" in page
    note = (await told(shop, "dlq", "show", number))["redriven"]
    assert (note["letter"], note["times"], note["reason"]) == (int(number), 2, "a second <b>try")
    listed = json.loads((await orders(shop, "dlq", "ls", "--json")).stdout)
    assert [one["redriven"] and one["redriven"]["times"] for one in listed] == [2, None]
    assert "2 times, the last at" in (await orders(shop, "dlq", "show", number)).stdout
    await shop.stop("point")
    await shop.start("point")
    assert (await orders(shop, "dlq", "redrive", number, "--yes")).returncode == 0
    async with shop.broker() as nc:
        assert (await nc.jetstream().stream_info("DEAD")).state.messages == 0


async def test_a_thousand_keys_are_previewed_and_redriven_in_one_form(board: Board) -> None:
    shop = board.shop
    parked = [letter(0, key=f"{number:032x}", error="DecodeError: no", stack="") for number in range(1_000)]
    async with shop.broker() as nc:
        js = nc.jetstream()
        for first in range(0, len(parked), 100):
            messages = [(subject_of(one), b"\xff", headers_of(one)) for one in parked[first : first + 100]]
            await asyncio.gather(*(js.publish(subject, body, headers=head) for subject, body, head in messages))
    await shop.stop("point")
    await shop.start("point", wrapper="allergic")
    html = (await board.get("/dead-letters")).text
    keys = re.findall(r'name="key" value="([^"]+)" checked', html)
    assert keys == [f"point {one.key}" for one in parked]
    assert "checked" not in (await board.get("/dead-letters?choose=none")).text

    form: dict[str, Any] = {**fields(html), "key": keys}
    preview = await sent(board, "/dead-letters/preview", form)

    assert preview.status_code == 200, preview.text
    assert preview.text.count("would fail again: ") == 1_000
    form = {**fields(preview.text), "key": keys, "reason": "a try"}
    redriven = await sent(board, "/dead-letters/redrive", form)
    assert redriven.status_code == 303, redriven.text
    await sent(board, f"{redriven.headers['location']}/stop", form)
    assert "The redrive is over" in await board.until(redriven.headers["location"], "The redrive is over")
    assert len(await letters(shop)) == 1_000


async def test_only_its_own_form_with_a_reason_changes_anything(board: Board) -> None:
    shop = board.shop
    await stuck(shop)
    before = await letters(shop)
    preview = await sent(board, "/dead-letters/preview", fields((await board.get("/dead-letters")).text))
    good = {**fields(preview.text), "reason": "x"}

    refused: list[tuple[dict[str, str], dict[str, str], int]] = [
        ({**good, "token": "forged"}, {}, 403),
        ({name: value for name, value in good.items() if name != "token"}, {}, 403),
        (good, {"Origin": "http://attacker.example"}, 403),
        (good, {"Host": "attacker.example"}, 421),
        (good, {"Content-Type": "text/plain"}, 415),
        ({**good, "reason": "  "}, {}, 400),
        ({**good, "reason": "x" * 501}, {}, 400),
        ({**good, "operation": "../../x"}, {}, 400),
        ({**good, "key": "nothing"}, {}, 400),
    ]
    for form, headers, status in refused:
        assert (await sent(board, "/dead-letters/redrive", form, **headers)).status_code == status, (form, headers)
    assert (await board.get("/dead-letters/redrive")).status_code == 405
    assert (await board.shop.http.post(f"{board.url}/dead-letters/redrive", content=b"\xff=\xff")).status_code in (
        400,
        415,
    )
    assert (await board.get("/dead-letters/operations/unknown")).status_code == 404

    assert await letters(shop) == before
    assert "redrive asked for" not in shop.log("dashboard").read_text()


async def test_a_service_that_is_away_leaves_the_outcome_unknown_and_all_dead_letters(board: Board) -> None:
    shop = board.shop
    await stuck(shop)
    preview = await sent(board, "/dead-letters/preview", fields((await board.get("/dead-letters")).text))
    await shop.kill("point")

    form = {**fields(preview.text), "reason": "a try"}
    address = (await sent(board, "/dead-letters/redrive", form)).headers["location"]

    text = await board.until(address, "The redrive is over: 1 unknown")
    assert "point_svc at http://127.0.0.1" in text
    assert len(await letters(shop)) == 2
    await shop.kill("nats")
    assert "the broker at 127.0.0.1" in await board.text("/dead-letters", 503)
