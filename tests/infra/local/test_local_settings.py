"""Settings of a whole system on one machine: wrong values, and a port given twice, are refused."""

import pytest

from infra.local.nats import nats_environment, store_folder
from infra.local.settings import check_system, load_bundled_broker, without_blanks
from infra.settings import SettingsError


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NATS_PORT", "abc"),
        ("NATS_PORT", "4_222"),
        ("NATS_PORT", "70000"),
        ("GOMAXPROCS", "abc"),
        ("GOMAXPROCS", "0"),
        ("GOMAXPROCS", "1.5"),
        ("GOMAXPROCS", "9" * 30),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    for read in (load_bundled_broker, nats_environment, check_system):
        with pytest.raises(SettingsError, match=f"{variable}='{value}' cannot be used"):
            read({variable: value})


def test_blank_values_count_as_unset() -> None:
    blank = {"NATS_PORT": " ", "GOMAXPROCS": "  ", "NATS_URL": " ", "NATS_STORE_DIR": " "}

    assert without_blanks({**blank, "DATA_DIR": "here"}) == {"DATA_DIR": "here"}
    assert nats_environment(blank) == nats_environment({})
    assert store_folder({**blank, "DATA_DIR": " "}) == store_folder({})
    assert store_folder({"DATA_DIR": " here "}) == store_folder({"DATA_DIR": "here"})
    assert check_system(blank).nats_url == ""


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({"ORDER_PORT": "8002"}, "ORDER_PORT and PRODUCT_PORT are both 8002"),
        ({"ORDER_PORT": "9000", "COUPON_PORT": "9000"}, "COUPON_PORT and ORDER_PORT are both 9000"),
        ({"NATS_PORT": "8001"}, "NATS_PORT and ORDER_PORT are both 8001"),
        ({"NATS_URL": "nats://broker:4222", "ORDER_PORT": "8002"}, "ORDER_PORT and PRODUCT_PORT are both 8002"),
    ],
)
def test_a_port_that_is_given_twice_is_refused_with_both_names(env: dict[str, str], names: str) -> None:
    with pytest.raises(SettingsError, match=names):
        check_system(env)


def test_the_port_of_a_broker_elsewhere_may_be_a_services() -> None:
    assert check_system({"NATS_URL": "nats://broker:8001", "NATS_PORT": "8001"}).brokers[0].port == 8001
