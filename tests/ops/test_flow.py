"""`orders flow`: it reads the flow from the code, finds nothing wrong with it, and shows it."""

import io
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from click.testing import CliRunner, Result
from msgspec import Struct
from rich.console import Console

from contracts import Fact, OrderCanceled, PointDeposited, PointRefunded, PointUsed
from contracts.wire import COMPENSATIONS, FACTS, NAMES, decode
from infra.core.decider import Aggregate
from infra.local.services import service_names
from infra.process.service import Service
from ops.errors import Found
from ops.flow import command as flow
from ops.flow.choreography import Act, Part, findings
from ops.orders import orders
from tests.audit.paper import honest_history
from tests.infra import purse
from tests.ops.flows import without

# The system -----------------------------------------------------------------------------------------------------------


class Delivery(NamedTuple):
    service: str
    fact: str


HEARD = [Delivery(part.service, fact) for part in flow.parts() for act in part.acts for fact in act.hears]


def deaf(parts: list[Part], ear: Delivery, *, unmade: bool) -> list[Part]:
    """These parts with one that does not hear the fact; `unmade`: nor is its command made for it any more."""
    return [
        part
        if part.service != ear.service
        else part._replace(
            acts=tuple(
                without(act, ear.fact)
                if unmade
                else act._replace(hears=tuple(fact for fact in act.hears if fact != ear.fact))
                for act in part.acts
            )
        )
        for part in parts
    ]


def test_the_flow_of_this_system_has_nothing_to_be_found() -> None:
    assert findings(flow.parts(), flow.RULES) == []


@pytest.mark.parametrize("ear", HEARD, ids=lambda ear: f"{ear.service}-{ear.fact}")
def test_a_reaction_that_is_taken_out_of_it_is_missed(ear: Delivery) -> None:
    assert findings(deaf(flow.parts(), ear, unmade=False), flow.RULES) != []


@pytest.mark.parametrize(
    "ear",
    [ear for ear in HEARD if ear.fact in flow.ENDS_BADLY],
    ids=lambda ear: f"{ear.service}-{ear.fact}",
)
def test_somebody_who_does_not_undo_his_part_in_it_is_named(ear: Delivery) -> None:
    sentences = findings(deaf(flow.parts(), ear, unmade=True), flow.RULES)

    assert [sentence for sentence in sentences if f"{ear.service}_svc" in sentence and ear.fact in sentence]


def test_its_arrows_are_those_of_a_day_of_orders() -> None:
    facts = {message.fact_id: decode(message.body) for message in honest_history().stream}
    seen = {(NAMES[type(facts[fact.cause])], NAMES[type(fact)]) for fact in facts.values() if fact.cause}
    arrows = {(heard, said) for part in flow.parts() for act in part.acts for heard in act.hears for said in act.says}

    assert seen - arrows == {("order.created.pending", "order.canceled")}  # the deadline: no service hears it
    assert {said for _, said in arrows - seen if not said.endswith(".voided")} == set()  # fences: on disorderly days


# From the code --------------------------------------------------------------------------------------------------------


class Mute(Struct, frozen=True):
    """A command of somebody who did not think of `says`."""

    fact: OrderCanceled | PointRefunded
    at: datetime
    cause: str | None


def decide(command: purse.Charge | Mute, state: object) -> tuple[Fact, ...]:
    return ()


def evolve(state: object, event: PointDeposited | PointUsed) -> None:
    """Never called: its types are read."""


def service(reactions: dict[type[Fact], Any], *aggregates: Aggregate) -> Service:
    return Service(
        name="point",
        port=1,
        aggregates={str(number): aggregate for number, aggregate in enumerate(aggregates)},
        reactions=reactions,
        routes=lambda _: [],
    )


def test_a_part_is_read_from_the_types_of_the_aggregates_and_the_reactions() -> None:
    aggregate = Aggregate(object, decide, evolve)

    assert flow.part(service({OrderCanceled: Mute}, aggregate, aggregate)) == Part(
        "point",
        (
            Act("Charge", (), (), ("point.deposited",)),
            Act("Mute", ("order.canceled",), ("order.canceled", "point.refunded"), ()),
        ),
        frozenset({"point.deposited", "point.used"}),
    )


def test_an_aggregate_with_one_command_and_one_event_is_read_too() -> None:
    single = Aggregate(purse.Purse, purse.decide, purse.evolve)

    assert flow.part(service({}, single)) == Part(
        "point", (Act("Charge", (), (), ("point.deposited",)),), frozenset({"point.deposited"})
    )


def test_a_reaction_that_is_a_function_is_no_command() -> None:
    single = Aggregate(purse.Purse, purse.decide, purse.evolve)

    assert flow.part(service({OrderCanceled: lambda *_: None}, single)).unmatched == ("order.canceled",)


# The command ----------------------------------------------------------------------------------------------------------


BROKEN = deaf(flow.parts(), Delivery("point", "coupon.use.failed"), unmade=True)
SENTENCE = "point_svc may have said `point.used` but does not react to `coupon.use.failed`\n"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "parts", lambda: BROKEN)


def shown(*arguments: str) -> Result:
    return CliRunner().invoke(orders, ["flow", *arguments])


def test_it_shows_a_table_of_who_does_and_says_what() -> None:
    table = shown()

    assert (table.exit_code, table.stderr) == (0, "")
    lines = [line.split() for line in table.stdout.splitlines()]
    assert lines[:3] == [
        ["service", "hears", "does", "may", "say"],
        ["order", "Place", "order.created.pending"],
        ["coupon.used", "Confirm", "order.confirmed"],
    ]
    last = lines.index(["order.canceled", "Restore", "coupon.returned"])
    assert lines[last + 1 : last + 3] == [["coupon.restored"], ["coupon.use.voided"]]


def test_what_takes_something_back_is_red_on_a_terminal() -> None:
    console = Console(force_terminal=True, color_system="standard", file=io.StringIO(), width=120)
    console.print(flow.table(flow.parts()))

    text = cast(io.StringIO, console.file).getvalue()
    assert set(re.findall(r"\x1b\[31m(\S+?)\s*\x1b\[0m", text)) == COMPENSATIONS


def test_it_shows_the_table_of_the_readme() -> None:
    assert shown("--markdown").stdout == flow.markdown(flow.parts())


def test_it_draws_every_arrow_and_dots_what_takes_something_back() -> None:
    drawn = shown("--mermaid").stdout.splitlines()

    assert drawn[:2] == ["flowchart LR", "    subgraph order_svc"]
    assert "    order_Place --> order_created_pending" in drawn
    assert "    coupon_use_failed -->|Refund| point_use_voided" in drawn
    assert "    coupon_use_failed -.->|Refund| point_credited & point_refunded" in drawn
    boxes = [re.search(r'\["(.*?)"\]', line) for line in drawn]
    assert {box[1] for box in boxes if box and "." in box[1]} == set(FACTS)
    arrows = [line for line in drawn if "->" in line]
    assert sum(1 + line.count("&") for line in arrows) == sum(
        len(act.says) * (len(act.hears) or 1) for part in flow.parts() for act in part.acts
    )
    dotted = {target for line in arrows if "-.->" in line for target in line.rpartition("| ")[2].split(" & ")}
    assert drawn[-1] == f"    class {','.join(sorted(dotted, key=drawn[-1].index))} undone"
    assert dotted == {name.replace(".", "_") for name in COMPENSATIONS}


def test_machines_are_told_services_facts_and_findings() -> None:
    told = json.loads(shown("--json").stdout)

    assert [one["service"] for one in told["services"]] == service_names()
    assert told["services"][2]["does"][1] == {
        "command": "Use",
        "hears": ["product.reserved"],
        "says": ["point.debited", "point.used", "point.use.failed"],
    }
    assert {
        "fact": "point.use.failed",
        "key": "order_id",
        "compensation": False,
        "said_by": ["point"],
        "heard_by": ["order", "product"],
        "leads_to": ["order.canceled", "product.stock.returned", "product.released", "product.reserve.voided"],
    } in told["facts"]
    assert {fact["fact"] for fact in told["facts"] if fact["compensation"]} == COMPENSATIONS
    assert told["findings"] == []


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    "how", [[], ["--markdown"], ["--mermaid"], ["--json"]], ids=lambda how: "".join(how) or "table"
)
def test_a_broken_flow_is_shown_and_refused_with_a_sentence(how: list[str]) -> None:
    refused = shown(*how)

    assert (refused.exit_code, refused.stderr) == (1, SENTENCE)
    assert "Refund" in refused.stdout
    if how == ["--json"]:
        assert json.loads(refused.stdout)["findings"] == [SENTENCE.strip()]


@pytest.mark.usefixtures("broken")
def test_a_broken_flow_is_not_written_into_the_page(tmp_path: Path) -> None:
    page = tmp_path / "choreography.md"
    page.write_text("<!-- flow:begin -->\nold\n<!-- flow:end -->\n")

    with pytest.raises(Found, match=re.escape(SENTENCE.strip())):
        flow.show(BROKEN, "write", page)

    assert "old" in page.read_text()
    assert (shown("--write").exit_code, shown("--write").stderr) == (1, SENTENCE)


def test_a_good_one_is_written_into_it(tmp_path: Path) -> None:
    page = tmp_path / "choreography.md"
    page.write_text("<!-- flow:begin -->\nold\n<!-- flow:end -->\n")

    flow.show(flow.parts(), "write", page)

    assert page.read_text() == f"<!-- flow:begin -->\n{flow.markdown(flow.parts())}<!-- flow:end -->\n"


def test_where_there_is_no_page_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(Found, match="flow:begin"):
        flow.show(flow.parts(), "write", tmp_path / "choreography.md")

    assert list(tmp_path.iterdir()) == []
