"""infra/ works for any service and knows none: its source names no fact, no service and none of their fields."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.wire import FACTS

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("*_svc/__init__.py"))
NOUNS = sorted({service.removesuffix("_svc") for service in SERVICES} - {"order", "point"})
"""`order` and `point` are also plain English; the phrases below tell them apart."""

WORD = r"(?<![A-Za-z])(?:{})(?![A-Za-z])"
FACT_NAMES = "|".join(rf"(?<![\w.]){re.escape(name)}(?!\w)" for name in FACTS)
FACT_TYPES = WORD.format("|".join(fact.__name__ for fact in FACTS.values()))
THINGS = WORD.format("|".join([*SERVICES, *(f"{noun}s?" for noun in NOUNS)]))
AN_ORDER = r"""(?x) (?<![`A-Za-z])
    (?: orders | (?<!in[ ])an[ ]order | (?:same|each|every)[ ]order(?![ ]of) | order's | order[ ](?:that|is|has|id) )
    (?![A-Za-z]) """
QUOTED = r"""["'](?:order|point)["']"""
NAMES = {
    "a fact": re.compile(f"{FACT_NAMES}|{FACT_TYPES}"),
    "a service or its things": re.compile(rf"{THINGS}|(?<![A-Za-z])points(?![A-Za-z])|{QUOTED}", re.IGNORECASE),
    "a field or header": re.compile(r"order_(?:id|status|wait|deadline|line|facts)|X-User-Id", re.IGNORECASE),
    "an order": re.compile(AN_ORDER, re.IGNORECASE),
}
"""By what it names. `orders` in backticks is the command."""


def mentions(source: str) -> Iterator[tuple[int, str]]:
    """(line, what it names and the line) for every line of code, comment or docstring that names a service's thing."""
    for number, line in enumerate(source.splitlines(), 1):
        for what, name in NAMES.items():
            if found := name.search(line):
                yield number, f"{what}, {found[0]!r}: {line.strip()}"


def test_infra_names_no_service() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {mention}"
        for file in sorted((ROOT / "infra").rglob("*.py"))
        for number, mention in mentions(file.read_text(encoding="utf-8"))
    ]

    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        'SERVICES = ("order", "product")',
        "import order_svc.domain",
        "# what order_svc says",
        "order_id: str",
        'HEADERS = {"user": "X-User-Id"}',
        '"""The last token: the order that the message is about."""',
        '"""The largest orders have 100 lines."""',
        '"""An order of 100 lines."""',
        "those of the same order behind them",
        "ORDER_FACTS = 1",
        'subject = "order.confirmed"',
        "isinstance(fact, OrderConfirmed)",
        "the coupons of a customer",
        "product = 1",
        "the user's points",
    ],
)
def test_a_mention_is_found(line: str) -> None:
    assert list(mentions(line))


@pytest.mark.parametrize(
    "line",
    [
        "in order to know it",
        "in log order",
        "SELECT * FROM stored_events ORDER BY position",
        "in the order in which they came",
        "in this order, in one go",
        "in another order",
        "the columns, in the order of the fields",
        "from this point on",
        "a disordered, pointed productive reordering",
        'f"{service}_svc"',
    ],
)
def test_plain_english_is_no_mention(line: str) -> None:
    assert not list(mentions(line))
