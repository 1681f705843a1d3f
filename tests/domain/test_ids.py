"""Order ids: the same customer and key mean the same order, for ever, and for nobody else."""

import itertools
import re
import time
import uuid

import pytest

from order_svc.ids import new_key, order_id
from tests.examples import CUSTOMER, STRANGER

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
KEYS = ["k", "key-1", "a:b/c", VISIBLE, "x" * 255, str(uuid.UUID(int=0)), "0194fdc2-fa2f-7cc0-81d3-ff12045b73c8"]


def version_7(milliseconds: int, rest: int = 0) -> str:
    """A UUIDv7 of this instant; `rest` are its lowest bits."""
    return str(uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62 | rest))


@pytest.mark.parametrize("key", KEYS)
def test_the_same_customer_and_key_always_mean_the_same_order(key: str) -> None:
    assert order_id(CUSTOMER, key) == order_id(CUSTOMER, key)


def test_an_id_once_given_never_changes() -> None:
    assert order_id("customer", "key-1") == "c322abbb3e891123b0c9416c5b804bf9"
    assert order_id("customer", "0194fdc2-fa2f-7cc0-81d3-ff12045b73c8") == "0194fdc2fa2f2e039e2710d07fbf68a9"


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_its_customers_own(key: str) -> None:
    assert order_id(CUSTOMER, key) != order_id(STRANGER, key)


def test_other_keys_mean_other_orders() -> None:
    assert len({order_id(CUSTOMER, key) for key in KEYS}) == len(KEYS)


def test_where_the_customer_ends_and_the_key_begins_matters() -> None:
    assert order_id("ab", "c") != order_id("a", "bc")


@pytest.mark.parametrize("key", KEYS)
def test_an_id_is_32_hexadecimal_digits(key: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", order_id(CUSTOMER, key))


def test_spellings_of_one_uuid_are_different_keys() -> None:
    key = version_7(0xABC)
    spellings = {key, key.upper(), key.replace("-", ""), f"{{{key}}}", f"urn:uuid:{key}"}
    assert len({order_id(CUSTOMER, spelling) for spelling in spellings}) == len(spellings) == 5


def test_keys_with_a_time_give_ids_that_grow_with_it() -> None:
    instants = [0, 1, 255, 256, 1_700_000_000_000, 1_700_000_000_001, 2**48 - 1]
    ids = [order_id(CUSTOMER, version_7(instant)) for instant in instants]
    assert ids == sorted(ids)


def test_keys_of_one_instant_give_different_ids() -> None:
    ids = [order_id(user, version_7(1, rest)) for user, rest in itertools.product((CUSTOMER, STRANGER), range(100))]
    assert len(set(ids)) == 200


def test_keys_without_a_time_give_nothing_of_themselves_to_the_id() -> None:
    for key in (str(uuid.UUID(int=0x1234 << 112 | 0x4 << 76 | 0x2 << 62)), "1234-5678"):
        assert not order_id(CUSTOMER, key).startswith("1234")


def test_a_key_of_our_own_is_a_uuid_of_version_7(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    key = uuid.UUID(new_key())
    assert (key.version, key.variant, key.int >> 80) == (7, uuid.RFC_4122, 1_700_000_000_123)


def test_keys_of_our_own_are_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_123_456_789)
    assert len({new_key() for _ in range(1_000)}) == 1_000


def test_orders_without_a_key_get_ids_that_grow_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1_700_000_000_000_000_000, 1_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    ids = [order_id(CUSTOMER, new_key()) for _ in range(100)]
    assert ids == sorted(ids)
