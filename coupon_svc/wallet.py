"""The wallet: a read model of the coupon ids of each customer, for paged lists. It has nothing else: api.py reads
discount and use from the coupons' states."""

from collections.abc import Sequence

from msgspec import Struct, json

from infra.read_models.tables import Statement
from infra.store.records import Notification


class _Owner(Struct):
    user_id: str
    coupon_id: str


_decode = json.Decoder(_Owner).decode


class Wallet:
    """Projection: the ids of each customer's coupons."""

    name = "wallet"
    topics = ("coupon.issued",)
    tables = """
        CREATE TABLE IF NOT EXISTS coupons (
            user_id TEXT, coupon_id TEXT, PRIMARY KEY (user_id, coupon_id)) WITHOUT ROWID
    """

    def apply(self, records: Sequence[Notification]) -> list[Statement]:
        owners = [_decode(record.state) for record in records]
        return [("INSERT OR IGNORE INTO coupons VALUES (?, ?)", [(owner.user_id, owner.coupon_id) for owner in owners])]
