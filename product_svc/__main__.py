"""Composes product_svc as SERVICE; `python -m product_svc` runs it."""

from contracts import ProductStockAdded
from infra.core.decider import Aggregate
from infra.process.service import Service, run
from product_svc.api import routes
from product_svc.catalog import Catalog
from product_svc.domain import addition, product, reservation
from product_svc.popular import Popular
from product_svc.reactions import REACTIONS
from product_svc.settings import ProductSettings

SERVICE = Service(
    name="product",
    port=8002,
    aggregates={
        "product": Aggregate(product.State, product.decide, product.evolve),
        "addition": Aggregate(
            addition.State, addition.decide, addition.evolve, usually_new=True, moved=(ProductStockAdded,)
        ),
        "reservation": Aggregate(reservation.State, reservation.decide, reservation.evolve, usually_new=True),
    },
    reactions=REACTIONS,
    routes=routes,
    settings=ProductSettings,
    views=[Catalog()],
    stream_views=lambda settings: [Popular(settings.shop_tz)],
)

if __name__ == "__main__":
    run(SERVICE)
