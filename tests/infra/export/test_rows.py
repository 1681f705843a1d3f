"""An ended order's row, and the schema that files and NDJSON share."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from contracts import OrderCanceled
from contracts.wire import decode, encode
from infra.export import arrow
from infra.export.errors import Unexportable
from infra.export.source import to_row
from infra.store.records import Notification
from order_svc.export import ORDERS, ExportedLine, OrderRow
from tests.contracts.examples import AT, BY_NAME
from tests.examples import ORDER_ID, PLACED_AT
from tests.infra.export.orders import EVENING, facts, records

GOLDEN = Path(__file__).parents[2] / "contracts" / "golden"


def row_of(fact_name: str, version: int = 2) -> OrderRow:
    row = to_row(ORDERS, Notification(7, f"order-{ORDER_ID}", version, fact_name, encode(BY_NAME[fact_name])))
    assert isinstance(row, OrderRow)
    return row


CONFIRMED = OrderRow(
    fact_id=f"order-{ORDER_ID}@2",
    position=7,
    kind="confirmed",
    at=AT,
    order_id=ORDER_ID,
    user_id="ann",
    reason=None,
    placed_at=PLACED_AT,
    lines=(ExportedLine("mug", 2, 10_000), ExportedLine("lamp", 1, 30_000)),
    total=50_000,
    points=500,
    discount=300,
    amount_due=49_200,
    coupon_id="ann-300",
)


def test_a_confirmed_order() -> None:
    assert row_of("order.confirmed") == CONFIRMED


def test_canceled_after_it_was_confirmed_is_a_correction_with_the_same_amounts() -> None:
    assert row_of("order.canceled", 3) == msgspec.structs.replace(
        CONFIRMED, fact_id=f"order-{ORDER_ID}@3", kind="correction", reason="customer-canceled"
    )


def test_canceled_as_the_first_end_is_no_correction() -> None:
    assert row_of("order.canceled", 2).kind == "canceled"


def test_what_was_not_known_is_null_and_not_nothing() -> None:
    body = (GOLDEN / "order.canceled.before-amounts.json").read_bytes().strip()
    assert isinstance(decode(body), OrderCanceled)
    row = ORDERS.row(Notification(7, f"order-{ORDER_ID}", 2, "order.canceled", body))

    assert (row.total, row.discount, row.amount_due) == (None, None, None)
    assert row.points == 500
    assert [line.unit_price for line in row.lines] == [None] * len(row.lines)


def test_priced_and_then_refused_nothing_is_due() -> None:
    *_, refused = facts(1, "canceled", EVENING)
    priced = msgspec.structs.replace(refused, total=50_000, unit_prices=(10_000, 30_000))
    *_, record = records([*facts(1, "pending", EVENING), priced])
    row = ORDERS.row(Notification(2, *record))

    assert (row.total, row.discount, row.amount_due) == (50_000, None, None)


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("order.confirmed", b"{"),
        ("order.confirmed", b'{"type":"order.split"}'),
        ("order.created.pending", encode(BY_NAME["order.created.pending"])),
    ],
    ids=["damaged", "unknown", "no end"],
)
def test_a_record_that_is_no_row_says_which_one_it_is(topic: str, body: bytes) -> None:
    with pytest.raises(Unexportable, match=r"order-x@2 .* at position 7 of the log cannot be made a row"):
        to_row(ORDERS, Notification(7, "order-x", 2, topic, body))


def test_the_schema_of_a_file_is_the_row_type() -> None:
    line = pa.struct(
        [
            pa.field("product_id", pa.string(), nullable=False),
            pa.field("quantity", pa.int64(), nullable=False),
            pa.field("unit_price", pa.int64()),
        ]
    )
    found = arrow.schema(ORDERS)

    assert [(field.name, field.type, field.nullable) for field in found] == [
        ("fact_id", pa.string(), False),
        ("position", pa.int64(), False),
        ("kind", pa.string(), False),
        ("at", pa.timestamp("us", "UTC"), False),
        ("order_id", pa.string(), False),
        ("user_id", pa.string(), False),
        ("reason", pa.string(), True),
        ("placed_at", pa.timestamp("us", "UTC"), False),
        ("lines", pa.list_(pa.field("element", line, nullable=False)), False),
        ("total", pa.int64(), True),
        ("points", pa.int64(), False),
        ("discount", pa.int64(), True),
        ("amount_due", pa.int64(), True),
        ("coupon_id", pa.string(), True),
    ]
    assert found.metadata == {b"schema": b"orders/1"}


def test_a_line_of_ndjson_says_its_schema() -> None:
    assert msgspec.json.encode(CONFIRMED) == (
        b'{"schema":"orders/1","fact_id":"order-0195c0ffee@2","position":7,"kind":"confirmed",'
        b'"at":"2026-03-01T09:30:00.250000Z","order_id":"0195c0ffee","user_id":"ann","reason":null,'
        b'"placed_at":"2026-03-01T09:30:00.125000Z","lines":[{"product_id":"mug","quantity":2,"unit_price":10000},'
        b'{"product_id":"lamp","quantity":1,"unit_price":30000}],"total":50000,"points":500,"discount":300,'
        b'"amount_due":49200,"coupon_id":"ann-300"}'
    )
