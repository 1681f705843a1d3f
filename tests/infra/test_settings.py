"""Settings come from the environment; an invalid value is refused by the name of its variable."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.addresses import is_loopback
from infra.broker_url import BrokerUrl
from infra.bucket_url import BucketUrl
from infra.settings import Settings, SettingsError, load
from order_svc.settings import OrderSettings


def loaded(**env: str) -> OrderSettings:
    return load(OrderSettings, "order", 8001, env)


DEFAULTS: dict[str, Any] = {
    "port": 8001,
    "nats_port": 4222,
    "nats_url": "",
    "data_dir": Path(".data"),
    "bind_host": "127.0.0.1",
    "allowed_hosts": "",
    "log_level": "INFO",
    "log_format": "auto",
    "events_max_bytes": 8 * 1024**3,
    "events_roll_messages": 500_000,
    "events_roll_bytes": 2 * 1024**3,
    "events_roll_age_s": 604_800.0,
    "archive_dir": "",
    "archive_url": "",
    "archive_endpoint": "",
    "archive_region": "",
    "archive_addressing": "path",
    "archive_http": "loopback",
    "archive_cache_dir": "",
    "archive_cache_bytes": 1 << 30,
    "auth_keys": "",
    "auth_issuer": "",
    "auth_audience": "",
    "auth_leeway_s": 30.0,
    "auth_max_lifetime_s": 86_400.0,
    "auth_http": "loopback",
    "rate_limit": 100.0,
    "rate_burst": 200,
    "connections_per_address": 0,
    "tls_cert_file": "",
    "tls_key_file": "",
    "tls_ca_file": "",
    "broker_max_bytes": 0,
    "events_replicas": 1,
    "duplicate_window_s": 120.0,
    "otel_exporter_otlp_endpoint": "",
    "otel_exporter_otlp_traces_endpoint": "",
    "otel_traces_sampler_arg": 0.1,
    "order_wait_s": 5.0,
    "order_deadline_s": 30.0,
    "orders_in_flight": 4096,
}


def test_without_any_variable_every_setting_has_its_default() -> None:
    settings = loaded()

    assert {name: getattr(settings, name) for name in settings.__struct_fields__} == DEFAULTS


@pytest.mark.parametrize(
    ("variable", "value", "setting", "meant"),
    [
        ("ORDER_PORT", "9001", "port", 9001),
        ("NATS_PORT", "5222", "nats_port", 5222),
        ("NATS_URL", "nats://broker:4333", "nats_url", "nats://broker:4333"),
        ("DATA_DIR", "/var/lib/saga", "data_dir", Path("/var/lib/saga")),
        ("BIND_HOST", "::1", "bind_host", "::1"),
        ("ALLOWED_HOSTS", "shop.example, [::1]:80", "allowed_hosts", "shop.example, [::1]:80"),
        ("LOG_LEVEL", "WARNING", "log_level", "WARNING"),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("LOG_FORMAT", "json", "log_format", "json"),
        ("ARCHIVE_DIR", "/mnt/archive", "archive_dir", "/mnt/archive"),
        ("ARCHIVE_URL", "s3://shop.archive/a/b", "archive_url", "s3://shop.archive/a/b"),
        ("ARCHIVE_ENDPOINT", "https://s3.example:9000", "archive_endpoint", "https://s3.example:9000"),
        ("ARCHIVE_REGION", "eu-central-1", "archive_region", "eu-central-1"),
        ("ARCHIVE_ADDRESSING", "virtual", "archive_addressing", "virtual"),
        ("ARCHIVE_HTTP", "anywhere", "archive_http", "anywhere"),
        ("ARCHIVE_CACHE_DIR", "/var/cache/saga", "archive_cache_dir", "/var/cache/saga"),
        ("ARCHIVE_CACHE_BYTES", "1048576", "archive_cache_bytes", 1_048_576),
        ("AUTH_ISSUER", "https://issuer.example", "auth_issuer", "https://issuer.example"),
        ("AUTH_AUDIENCE", "shop", "auth_audience", "shop"),
        ("AUTH_LEEWAY_S", "0", "auth_leeway_s", 0.0),
        ("AUTH_MAX_LIFETIME_S", "3600", "auth_max_lifetime_s", 3_600.0),
        ("AUTH_HTTP", "anywhere", "auth_http", "anywhere"),
        ("RATE_LIMIT", "0", "rate_limit", 0.0),
        ("RATE_BURST", "1", "rate_burst", 1),
        ("CONNECTIONS_PER_ADDRESS", "16", "connections_per_address", 16),
        ("TLS_CA_FILE", "/etc/ssl/ours.pem", "tls_ca_file", "/etc/ssl/ours.pem"),
        ("EVENTS_MAX_BYTES", "1048576", "events_max_bytes", 1_048_576),
        ("EVENTS_ROLL_MESSAGES", "1000", "events_roll_messages", 1_000),
        ("EVENTS_ROLL_BYTES", "1024", "events_roll_bytes", 1_024),
        ("EVENTS_ROLL_AGE_S", "3600", "events_roll_age_s", 3_600.0),
        ("EVENTS_REPLICAS", "3", "events_replicas", 3),
        ("DUPLICATE_WINDOW_S", "0.5", "duplicate_window_s", 0.5),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:4318", "otel_exporter_otlp_endpoint", "http://[::1]:4318"),
        ("OTEL_TRACES_SAMPLER_ARG", "1", "otel_traces_sampler_arg", 1.0),
        ("ORDER_WAIT_S", "0.001", "order_wait_s", 0.001),
        ("ORDER_DEADLINE_S", " 60 ", "order_deadline_s", 60.0),
        ("ORDERS_IN_FLIGHT", "64", "orders_in_flight", 64),
    ],
)
def test_every_variable_sets_its_setting_and_no_other(variable: str, value: str, setting: str, meant: object) -> None:
    settings = loaded(**{variable: value})

    assert {name: getattr(settings, name) for name in settings.__struct_fields__} == {**DEFAULTS, setting: meant}


def test_every_setting_has_a_variable_that_these_tests_know() -> None:
    assert set(OrderSettings.__struct_fields__) == set(DEFAULTS)


def test_a_variable_under_its_old_name_is_refused_and_the_new_name_is_given() -> None:
    with pytest.raises(SettingsError, match="ORDERS_UNDER_WAY is called ORDERS_IN_FLIGHT now"):
        loaded(ORDERS_UNDER_WAY="64")
    assert loaded(ORDERS_UNDER_WAY=" ") == loaded()


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_variable_is_an_unset_one(value: str) -> None:
    assert loaded(ORDER_PORT=value, DATA_DIR=value, ORDER_WAIT_S=value, NATS_URL=value) == loaded()


def test_a_service_reads_its_own_port_and_not_that_of_others() -> None:
    env = {"ORDER_PORT": "9001", "POINT_PORT": "9003", "PORT": "1"}

    assert load(OrderSettings, "order", 8001, env).port == 9001
    assert load(Settings, "point", 8003, env).port == 9003
    assert load(Settings, "coupon", 8004, env).port == 8004


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ORDER_PORT", "eighty"),
        ("ORDER_PORT", "0"),
        ("ORDER_PORT", "65536"),
        ("ORDER_PORT", "80.5"),
        ("NATS_PORT", "-1"),
        ("NATS_URL", "http://broker"),
        ("NATS_URL", "ws://broker:80"),
        ("NATS_URL", "nats://"),
        ("NATS_URL", "nats://broker:port"),
        ("NATS_URL", "nats://broker:70000"),
        ("BIND_HOST", "0.0.0.0"),
        ("BIND_HOST", "::"),
        ("BIND_HOST", "192.168.0.7"),
        ("BIND_HOST", "shop.example"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("ARCHIVE_URL", "https://s3.example/bucket"),
        ("ARCHIVE_URL", "bucket/prefix"),
        ("ARCHIVE_URL", "s3://"),
        ("ARCHIVE_URL", "s3://Bucket"),
        ("ARCHIVE_URL", "s3://b"),
        ("ARCHIVE_URL", "s3://bucket/../other"),
        ("ARCHIVE_URL", "s3://bucket/a//b"),
        ("ARCHIVE_URL", "s3://bucket/a?versionId=1"),
        ("ARCHIVE_URL", "s3://[bucket"),
        ("ARCHIVE_ADDRESSING", "host"),
        ("ARCHIVE_HTTP", "yes"),
        ("ARCHIVE_CACHE_BYTES", "0"),
        ("EVENTS_MAX_BYTES", "1000"),
        ("EVENTS_MAX_BYTES", "1e30"),
        ("EVENTS_MAX_BYTES", "8GB"),
        ("EVENTS_REPLICAS", "0"),
        ("EVENTS_REPLICAS", "6"),
        ("DUPLICATE_WINDOW_S", "0"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:secret@[::1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a collector:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collec\ttor:4318"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("ORDER_WAIT_S", "0"),
        ("ORDER_WAIT_S", "-5"),
        ("ORDER_WAIT_S", "nan"),
        ("ORDER_WAIT_S", "5s"),
        ("ORDER_DEADLINE_S", "inf"),
        ("ORDER_DEADLINE_S", "86401"),
    ],
)
def test_an_invalid_value_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        loaded(**{variable: value})


@pytest.mark.parametrize(
    ("variable", "allowed"), [("LOG_LEVEL", "DEBUG, INFO, WARNING, ERROR"), ("LOG_FORMAT", "auto, text, json")]
)
def test_a_setting_of_few_values_is_refused_with_all_of_them(variable: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as refused:
        loaded(**{variable: "loud"})

    assert str(refused.value) == f"{variable}='loud' cannot be used: it may be {allowed}"


def test_binding_beyond_loopback_is_refused_with_the_reason() -> None:
    with pytest.raises(
        SettingsError,
        match=r"not a loopback address: callers are not authenticated in this mode, so only this machine may reach",
    ):
        loaded(BIND_HOST="0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_has_many_names(host: str) -> None:
    assert is_loopback(host)
    assert loaded(BIND_HOST=host).bind_host == host


def test_the_broker_is_the_local_one_unless_a_url_names_another() -> None:
    assert loaded().brokers == [BrokerUrl(False, "127.0.0.1", 4222)]
    assert loaded(NATS_PORT="5222").brokers == [BrokerUrl(False, "127.0.0.1", 5222)]
    assert loaded(NATS_PORT="5222", NATS_URL="tls://broker:4333").brokers == [BrokerUrl(True, "broker", 4333)]


@pytest.mark.parametrize(
    ("url", "meant", "at"),
    [
        ("broker:4222", BrokerUrl(False, "broker", 4222), "broker:4222"),
        ("nats://[::1]:4333", BrokerUrl(False, "::1", 4333), "[::1]:4333"),
        ("tls://broker/", BrokerUrl(True, "broker", 4222), "broker:4222"),
        ("nats://ann:secret@broker", BrokerUrl(False, "broker", 4222, "ann", "secret"), "broker:4222"),
        ("nats://a%40b:p%2Fw%3A%25@broker", BrokerUrl(False, "broker", 4222, "a@b", "p/w:%"), "broker:4222"),
        ("nats://t%2Cken@broker", BrokerUrl(False, "broker", 4222, "t,ken"), "broker:4222"),
        ("nats://ann:@broker", BrokerUrl(False, "broker", 4222, "ann", ""), "broker:4222"),
    ],
)
def test_a_broker_may_be_addressed_with_credentials_in_percent_encoding(url: str, meant: BrokerUrl, at: str) -> None:
    (broker,) = loaded(NATS_URL=url).brokers

    assert (broker, broker.at) == (meant, at)


def test_a_cluster_is_addressed_by_several_of_its_servers() -> None:
    assert [one.host for one in loaded(NATS_URL="nats://a:4222, nats://b:4222").brokers] == ["a", "b"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("foo", "neither a scheme nor a port"),
        ("nats://a:4222,,", "a comma too many"),
        ("nats://a:4222,foo", "neither a scheme nor a port"),
        ("http://ann:secret@broker", "begins with nats://, or tls://"),
        ("ws://ann:secret@broker:80", "begins with nats://, or tls://"),
        ("nats://ann:secret/1@broker:4222", "in a user or password, write"),
        ("nats://ann:12#secret@broker:4222", "in a user or password, write"),
        ("nats://ann:secret?@broker:4222", "in a user or password, write"),
        ("nats://ann:secret,1@broker:4222", "the port is not a number"),
        ("nats://ann:100%secret@broker:4222", "not followed by two hexadecimal digits"),
        ("nats://:secret@broker:4222", "a password but no user"),
        ("nats://broker:4222/secret", "something follows the port"),
        ("nats://ann:se cret@broker:4222", "a blank or a control character"),
        ("nats://ann:se\ncret@broker:4222", "a blank or a control character"),
        ("nats://broker:0", "port 0"),
        ("nats://broker:70000", "from 1 to 65535"),
        ("nats://broker:port", "from 1 to 65535"),
        ("nats://", "no host"),
    ],
)
def test_a_brokers_address_is_refused_with_the_reason_and_without_its_password(url: str, why: str) -> None:
    with pytest.raises(SettingsError, match=f"NATS_URL is not a broker's address.*{re.escape(why)}") as refused:
        loaded(NATS_URL=url)

    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    "hosts",
    ["http://shop.example", "shop.example/", "*", "*.shop.example", "a b", "shop.example:x", "a,,b c", "-a", "a."],
)
def test_a_host_that_no_request_can_name_is_refused(hosts: str) -> None:
    with pytest.raises(SettingsError, match="ALLOWED_HOSTS names"):
        loaded(ALLOWED_HOSTS=hosts)


def test_hosts_are_separated_by_commas() -> None:
    assert loaded(ALLOWED_HOSTS=" shop.example , api.shop.example:8443,").hosts == [
        "shop.example",
        "api.shop.example:8443",
    ]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"ARCHIVE_URL": "s3://key:hush@bucket/a"}, "it has no credentials: set AWS_ACCESS_KEY_ID"),
        ({"ARCHIVE_ENDPOINT": "https://key:hush@s3.example"}, "credentials are in AWS_ACCESS_KEY_ID"),
        ({"ARCHIVE_ENDPOINT": "https://s3.example/bucket"}, "bucket and prefix in ARCHIVE_URL"),
        ({"ARCHIVE_ENDPOINT": "s3.example"}, "ARCHIVE_ENDPOINT is no address of a store, such as https://s3.example"),
        ({"ARCHIVE_ENDPOINT": "http://s3.example"}, "use https://, or set ARCHIVE_HTTP=anywhere"),
        ({"ARCHIVE_DIR": "/mnt/archive"}, "ARCHIVE_URL and ARCHIVE_DIR are both set"),
    ],
)
def test_an_archive_that_cannot_be_meant_is_refused_with_the_next_step_and_without_the_value(
    env: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        loaded(**{"ARCHIVE_URL": "s3://bucket/a", **env})

    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "env",
    [
        {"ARCHIVE_ENDPOINT": "http://127.0.0.1:9000"},
        {"ARCHIVE_ENDPOINT": "http://[::1]:9000/"},
        {"ARCHIVE_ENDPOINT": "http://s3.example", "ARCHIVE_HTTP": "anywhere"},
    ],
)
def test_a_store_without_tls_is_one_on_this_machine_or_meant(env: dict[str, str]) -> None:
    assert loaded(ARCHIVE_URL="s3://bucket", **env).archive_bucket == BucketUrl("bucket", "")


def test_a_bucket_without_its_library_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)

    with pytest.raises(SettingsError, match="`uv sync --inexact --extra bucket` installs it"):
        loaded(ARCHIVE_URL="s3://bucket")
    assert loaded().archive_bucket is None
