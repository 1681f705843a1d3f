"""The catalog: a read model of all product ids, for paged lists. It has no prices and no stock: api.py reads those from
the products' states."""

from collections.abc import Sequence

from infra.read_models.tables import Statement
from infra.store.records import Notification


class Catalog:
    """Projection: the ids of all registered products."""

    name = "catalog"
    topics = ("product.registered",)
    tables = "CREATE TABLE IF NOT EXISTS products (product_id TEXT PRIMARY KEY) WITHOUT ROWID"

    def apply(self, records: Sequence[Notification]) -> list[Statement]:
        ids = [(record.originator_id.partition("-")[2],) for record in records]
        return [("INSERT OR IGNORE INTO products VALUES (?)", ids)]
