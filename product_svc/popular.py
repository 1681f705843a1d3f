"""Popular products: a read model of the pieces sold per product and day, from the facts of order_svc.

The same facts give the same tables, also when they are applied again or in another sequence. A sale is a row whose key
is its order and product. An order that its customer canceled stays in `taken_back`, so that a confirmation that comes
later sells nothing. Triggers keep the totals per day, in the same transaction.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct, json

from contracts import BY_CUSTOMER
from infra.read_models.tables import Statement
from infra.store.records import Notification
from infra.timestamps import microseconds

TABLES: Final = """
-- Days begin at midnight in {zone}. Days are counted from 0001-01-01 (1), times in microseconds since 1970 (UTC).
CREATE TABLE sold (
    order_id TEXT, product_id TEXT, day INTEGER, at_us INTEGER, quantity INTEGER,
    PRIMARY KEY (order_id, product_id)) WITHOUT ROWID;
CREATE TABLE taken_back (order_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE daily (day INTEGER, product_id TEXT, quantity INTEGER, PRIMARY KEY (day, product_id)) WITHOUT ROWID;
CREATE INDEX newest ON sold (product_id, at_us, day);
CREATE TRIGGER count_sale AFTER INSERT ON sold BEGIN
    INSERT INTO daily VALUES (new.day, new.product_id, new.quantity)
        ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity;
END;
CREATE TRIGGER take_sale_back AFTER DELETE ON sold BEGIN
    UPDATE daily SET quantity = quantity - old.quantity WHERE day = old.day AND product_id = old.product_id;
    DELETE FROM daily WHERE day = old.day AND product_id = old.product_id AND quantity = 0;
END;
"""

SELL: Final = """
WITH sale(order_id, product_id, day, at_us, quantity) AS (VALUES (?, ?, ?, ?, ?))
INSERT OR IGNORE INTO sold SELECT * FROM sale
WHERE NOT EXISTS (SELECT 1 FROM taken_back WHERE taken_back.order_id = sale.order_id)
"""

RANKING: Final = """
WITH asked(first_day, last_day, most) AS (VALUES (?, ?, ?))
SELECT product_id, sum(quantity) AS pieces, (
    SELECT at_us FROM sold
    WHERE sold.product_id = daily.product_id AND sold.day BETWEEN first_day AND last_day
    ORDER BY at_us DESC LIMIT 1) AS newest
FROM daily JOIN asked ON day BETWEEN first_day AND last_day
GROUP BY product_id ORDER BY pieces DESC, newest DESC, product_id LIMIT (SELECT most FROM asked)
"""
"""The best-selling products of the days from the first to the last asked for, at most as many as asked for.

Parameters: first day, last day (both inclusive, see Popular.day), most rows. Columns: product id, pieces sold,
newest sale (microseconds since 1970).
"""


class _Line(Struct):
    product_id: str
    quantity: int


class _Order(Struct):
    lines: list[_Line]


class _Confirmed(Struct):
    at: datetime
    order_id: str
    order: _Order


class _Canceled(Struct):
    order_id: str
    reason: str


_confirmed: Final = json.Decoder(_Confirmed)
_canceled: Final = json.Decoder(_Canceled)


class Sale(NamedTuple):
    """A row of `sold`: the pieces of one product that one order bought.

    `day` (as `Popular.day` counts) and `at_us` (microseconds since 1970, UTC) say when the order was confirmed.
    """

    order_id: str
    product_id: str
    day: int
    at_us: int
    quantity: int


class Popular:
    """Projection: pieces sold per product and day, in confirmed orders that were not canceled later.

    `zone`: IANA name of the time zone in which days begin. Facts may be applied in any order, and more than once.
    """

    name = "popular"
    topics = ("order.confirmed", "order.canceled")

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self.tables = TABLES.format(zone=zone)

    def apply(self, records: Sequence[Notification]) -> list[Statement]:
        sales: list[Sale] = []
        taken_back: list[tuple[str]] = []
        for record in records:
            if record.topic == "order.confirmed":
                sales += self._sales(_confirmed.decode(record.state))
            else:
                canceled = _canceled.decode(record.state)
                if canceled.reason in BY_CUSTOMER:  # no confirmed order is canceled for another reason
                    taken_back.append((canceled.order_id,))
        return [
            ("INSERT OR IGNORE INTO taken_back VALUES (?)", taken_back),
            (SELL, sales),
            ("DELETE FROM sold WHERE order_id = ?", taken_back),
        ]

    def _sales(self, confirmed: _Confirmed) -> list[Sale]:
        day, at_us = self.day(confirmed.at), microseconds(confirmed.at)
        return [Sale(confirmed.order_id, line.product_id, day, at_us, line.quantity) for line in confirmed.order.lines]

    def day(self, at: datetime) -> int:
        """Return the number of this instant's day in the shop's time zone; 0001-01-01 is 1."""
        return at.astimezone(self._zone).toordinal()
