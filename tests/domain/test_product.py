"""A product is registered once; its stock is a ledger."""

import pytest

from contracts import MOST
from product_svc.domain.addition import AddedDifferently, AddedTooMuch, AddStock, NoSuchProduct
from product_svc.domain.product import Register, RegisteredDifferently
from tests.domain.spec import given, state_after
from tests.examples import (
    MUG,
    NOW,
    PRICES,
    adding,
    in_stock,
    product_registered,
    stock_added,
    stock_held,
    stock_returned,
)


def register(name: str = "Mug", price: int = PRICES[MUG], stock: int = 10) -> Register:
    return Register(MUG, name, price, stock, at=NOW)


def add(quantity: int, key: str = "delivery-1") -> AddStock:
    return AddStock(MUG, quantity, key, at=NOW)


# Registering ----------------------------------------------------------------------------------------------------------


def test_a_product_is_registered_with_its_first_stock() -> None:
    given().when(register(stock=10)).then(product_registered(), stock_added(10))


def test_a_product_may_be_registered_without_stock() -> None:
    given().when(register(stock=0)).then(product_registered())


@pytest.mark.parametrize("stock", [0, 10])
def test_a_product_registered_twice_with_the_same_content_is_registered_once(stock: int) -> None:
    once = [product_registered(), stock_added(stock)] if stock else [product_registered()]
    given(*once).when(register(stock=stock)).then_nothing()
    given().when(register(stock=stock), register(stock=stock)).then(*once)


OTHER_CONTENTS = {"name": register(name="Cup"), "price": register(price=9_999), "stock": register(stock=11)}


@pytest.mark.parametrize("other", OTHER_CONTENTS.values(), ids=OTHER_CONTENTS)
def test_a_product_registered_again_with_other_content_is_an_error(other: Register) -> None:
    given(*in_stock(10)).when(other).then_raises(RegisteredDifferently(MUG))


def test_a_product_registered_without_stock_is_not_registered_again_with_some() -> None:
    given(product_registered()).when(register(stock=1)).then_raises(RegisteredDifferently(MUG))
    given(*in_stock(1)).when(register(stock=0)).then_raises(RegisteredDifferently(MUG))


def test_the_first_stock_is_compared_not_what_became_of_it() -> None:
    sold = (*in_stock(10), *adding(5, key="delivery-1"), stock_held(2))
    given(*sold).when(register(stock=10)).then_nothing()
    given(*sold).when(register(stock=13)).then_raises(RegisteredDifferently(MUG))


# Adding stock ---------------------------------------------------------------------------------------------------------


def test_stock_is_added() -> None:
    given(*in_stock(10)).when(add(5)).then(*adding(5, key="delivery-1"))


def test_stock_is_added_once_per_key() -> None:
    given(*in_stock(10), *adding(5, key="delivery-1")).when(add(5)).then_nothing()
    given(*in_stock(10)).when(add(5), add(5)).then(*adding(5, key="delivery-1"))


def test_another_key_adds_the_same_quantity_again() -> None:
    given(*in_stock(10), *adding(5, key="delivery-1")).when(add(5, "delivery-2")).then(*adding(5, key="delivery-2"))


def test_the_same_key_with_another_quantity_is_an_error() -> None:
    given(*in_stock(10), *adding(5, key="delivery-1")).when(add(6)).then_raises(AddedDifferently("delivery-1"))


def test_an_unknown_product_has_no_stock_to_add_to() -> None:
    given().when(add(5)).then_raises(NoSuchProduct(MUG))


def test_all_stock_of_a_product_together_stays_an_exact_number() -> None:
    given(*in_stock(10)).when(add(MOST - 10)).then(*adding(MOST - 10, key="delivery-1"))
    given(*in_stock(10)).when(add(MOST - 9)).then_raises(AddedTooMuch(MUG))
    full = (*in_stock(10), *adding(MOST - 10, key="delivery-1"))
    given(*full).when(add(MOST - 10)).then_nothing()
    given(*full, stock_held(2)).when(add(1, "delivery-2")).then_raises(AddedTooMuch(MUG))


# The ledger -----------------------------------------------------------------------------------------------------------


def test_what_is_available_is_what_came_in_less_what_is_held() -> None:
    ledger = (*in_stock(10), stock_held(2), *adding(5, key="delivery-1"), stock_held(3), stock_returned(2))
    assert state_after(*ledger).available == 12
    more = state_after(*ledger, *adding(1, key="delivery-2"))
    assert (more.available, more.added) == (13, 6)
