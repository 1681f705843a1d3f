"""Who says what, under which key, on which stream: a table of every fact, held against the contracts."""

import pkgutil

import pytest

from contracts import SagaFact, coupon_stream
from contracts.ids import keyed_id
from contracts.wire import FACTS, NAMES, fact_id, said_by
from infra.core.decider import moved_facts
from infra.local.services import service_names
from infra.process.service import Service
from tests.contracts.examples import BY_NAME, COUPONLESS, EXAMPLES, WRITTEN
from tests.examples import ORDER_ID

TABLE = {
    # fact: (key, stream)
    "order.created.pending": ("order_id", f"order-{ORDER_ID}"),
    "order.confirmed": ("order_id", f"order-{ORDER_ID}"),
    "order.canceled": ("order_id", f"order-{ORDER_ID}"),
    "product.registered": ("product_id", "product-mug"),
    "product.stock.added": ("product_id", f"addition-{keyed_id('mug', 'delivery-7')}"),
    "product.stock.received": ("product_id", "product-mug"),
    "product.stock.held": ("product_id", "product-mug"),
    "product.stock.returned": ("product_id", "product-mug"),
    "product.reserved": ("order_id", f"reservation-{ORDER_ID}"),
    "product.reserve.failed": ("order_id", f"reservation-{ORDER_ID}"),
    "product.released": ("order_id", f"reservation-{ORDER_ID}"),
    "product.reserve.voided": ("order_id", f"reservation-{ORDER_ID}"),
    "point.charged": ("user_id", f"charge-{keyed_id('ann', 'transfer-1')}"),
    "point.deposited": ("user_id", "account-ann"),
    "point.debited": ("user_id", "account-ann"),
    "point.credited": ("user_id", "account-ann"),
    "point.used": ("order_id", f"pointuse-{ORDER_ID}"),
    "point.use.failed": ("order_id", f"pointuse-{ORDER_ID}"),
    "point.refunded": ("order_id", f"pointuse-{ORDER_ID}"),
    "point.use.voided": ("order_id", f"pointuse-{ORDER_ID}"),
    "coupon.issued": ("coupon_id", "coupon-ann-300"),
    "coupon.held": ("coupon_id", "coupon-ann-300"),
    "coupon.returned": ("coupon_id", "coupon-ann-300"),
    "coupon.used": ("order_id", f"couponuse-{ORDER_ID}"),
    "coupon.use.failed": ("order_id", f"couponuse-{ORDER_ID}"),
    "coupon.restored": ("order_id", f"couponuse-{ORDER_ID}"),
    "coupon.use.voided": ("order_id", f"couponuse-{ORDER_ID}"),
}

EARLIER = {
    "product.stock.added": "product-mug",
    "point.charged": "account-ann",
    **dict.fromkeys(("point.used", "point.use.failed", "point.refunded", "point.use.voided"), "account-ann"),
    **dict.fromkeys(("coupon.used", "coupon.use.failed", "coupon.restored", "coupon.use.voided"), "coupon-ann-300"),
}
"""The facts that older code recorded in another stream, and that stream."""

OURS = {said_by(name) for name in TABLE}
"""The services of the table. Facts of another one are judged by what the code says of it."""


def categories(service: str) -> set[str]:
    """The categories of the streams that a service keeps."""
    found: Service = pkgutil.resolve_name(f"{service}_svc.__main__:SERVICE")
    return set(found.aggregates)


def test_every_fact_of_the_design_exists_and_there_is_no_other_of_these_services() -> None:
    assert {name for name in FACTS if said_by(name) in OURS} == set(TABLE)
    assert set(map(said_by, FACTS)) <= set(service_names())


def test_there_is_one_example_of_every_fact() -> None:
    assert [NAMES[type(fact)] for fact in WRITTEN] == list(TABLE)
    assert sorted(NAMES[type(fact)] for fact in EXAMPLES) == sorted(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_is_named_like_its_type_in_camel_case(name: str) -> None:
    assert FACTS[name].__name__ == "".join(word.capitalize() for word in name.split("."))


@pytest.mark.parametrize("name", FACTS)
def test_the_tag_is_the_one_name(name: str) -> None:
    config = FACTS[name].__struct_config__

    assert (config.tag_field, config.tag) == ("type", name)
    assert NAMES[FACTS[name]] == name


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        BY_NAME[name].cause = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", TABLE)
def test_a_fact_is_published_under_the_key_of_the_table(name: str) -> None:
    assert FACTS[name].key_field == TABLE[name][0]


@pytest.mark.parametrize("name", TABLE)
def test_a_fact_belongs_to_the_stream_of_its_aggregate(name: str) -> None:
    assert BY_NAME[name].stream == TABLE[name][1]


@pytest.mark.parametrize("name", TABLE)
def test_a_fact_that_has_moved_knows_where_it_was_recorded(name: str) -> None:
    fact = BY_NAME[name]

    assert fact.earlier_stream == EARLIER.get(name, fact.stream)


def test_services_name_all_the_facts_that_have_moved() -> None:
    """What a service does not name is not looked for, and would be decided a second time."""
    moved = {
        name: category
        for service in service_names()
        for category, names in moved_facts(pkgutil.resolve_name(f"{service}_svc.__main__:SERVICE").aggregates).items()
        for name in names
    }
    found = {NAMES[type(fact)]: fact for fact in EXAMPLES if fact.earlier_stream != fact.stream}
    assert moved == {name: fact.stream.partition("-")[0] for name, fact in found.items()}


def test_a_fact_that_older_code_did_not_record_is_beside_one_that_has_moved() -> None:
    homes = {fact.earlier_stream for fact in EXAMPLES if fact.earlier_stream != fact.stream}
    assert {fact.stream for fact in EXAMPLES if fact.implied} == homes


@pytest.mark.parametrize("name", FACTS)
def test_a_service_keeps_only_streams_of_its_own_categories(name: str) -> None:
    assert BY_NAME[name].stream.partition("-")[0] in categories(said_by(name))


@pytest.mark.parametrize("name", FACTS)
def test_a_name_has_two_or_three_words_so_that_two_subject_filters_find_every_fact_of_an_order(name: str) -> None:
    assert len(name.split(".")) in (2, 3)


@pytest.mark.parametrize("name", [name for name, fact in FACTS.items() if fact.key_field == "order_id"])
def test_a_fact_under_an_order_carries_the_whole_order(name: str) -> None:
    assert isinstance(BY_NAME[name], SagaFact)


@pytest.mark.parametrize("fact", COUPONLESS, ids=lambda fact: NAMES[type(fact)])
def test_an_order_without_a_coupon_is_answered_on_a_stream_of_its_own(fact: SagaFact) -> None:
    assert fact.stream == f"nocoupon-{ORDER_ID}"


def test_a_coupon_that_is_named_like_an_order_does_not_share_its_stream() -> None:
    assert coupon_stream("c1", "o1") == "couponuse-o1"
    assert coupon_stream(None, "c1") == "nocoupon-c1"


def test_the_id_of_a_fact_is_its_stream_and_version() -> None:
    assert fact_id("order-a-b", 12) == "order-a-b@12"
