"""Every projection of the services: its file, the facts that it reads of a log, and the tables that they make.

What a change of its name would cost is a rebuild: the name is the file's.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import Fact
from coupon_svc.wallet import Wallet
from infra.read_models.tables import Checkpoint, Projection, Tables
from order_svc.listing import Listing
from product_svc.catalog import Catalog
from product_svc.popular import Popular
from tests.examples import (
    COUPON,
    CUSTOMER,
    MUG,
    OTHER_ID,
    charged,
    coupon_issued,
    coupon_used,
    order_canceled,
    order_confirmed,
    order_created,
    points_used,
    product_registered,
    product_reserved,
    stock_added,
)
from tests.read_models.test_order_list import recorded

THIRD_ID = "9" * 32
DASHED = "a-b-c"

HISTORY: tuple[Fact, ...] = (
    product_registered(),
    msgspec.structs.replace(product_registered(), product_id=DASHED),
    stock_added(5),
    charged(500),
    coupon_issued(),
    coupon_issued(),
    order_created(),
    order_created(order_id=OTHER_ID),
    order_created(order_id=THIRD_ID),
    product_reserved(),
    points_used(),
    coupon_used(),
    order_confirmed(),
    order_confirmed(order_id=OTHER_ID),
    order_canceled("customer-canceled", order_id=OTHER_ID),
    order_canceled("deadline-exceeded", order_id=THIRD_ID),
)
"""What all services say about two products, a coupon that is issued twice, and three orders with different ends."""


@pytest.mark.parametrize(
    ("projection", "file", "sql", "rows"),
    [
        pytest.param(
            Listing(),
            "orders.view.sqlite",
            "SELECT order_id, status FROM orders ORDER BY order_id",
            [(order_created().order_id, "CONFIRMED"), (OTHER_ID, "CANCELED"), (THIRD_ID, "CANCELED")],
            id="orders",
        ),
        pytest.param(Wallet(), "wallet.view.sqlite", "SELECT * FROM coupons", [(CUSTOMER, COUPON)], id="wallet"),
        pytest.param(
            Catalog(),
            "catalog.view.sqlite",
            "SELECT * FROM products ORDER BY product_id",
            [(DASHED,), (MUG,)],
            id="catalog",
        ),
        pytest.param(
            Popular("Asia/Seoul"),
            "popular.view.sqlite",
            "SELECT product_id, quantity FROM daily",
            [(MUG, 2)],
            id="popular",
        ),
    ],
)
async def test_the_facts_that_it_asks_for_make_its_tables(
    projection: Projection, file: str, sql: str, rows: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    async with Tables.open(projection, tmp_path) as tables:
        asked_for = [record for record in recorded(*HISTORY) if record.topic in projection.topics]
        await tables.apply(asked_for, Checkpoint(len(HISTORY)))

        assert sorted(await tables.select(sql)) == sorted(rows)
        assert tables.path == tmp_path / file
