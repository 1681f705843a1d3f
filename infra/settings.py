"""Reads settings from environment variables. An invalid value is a SettingsError, so a process stops at its start."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from infra.addresses import is_host, is_http_address
from infra.auth_settings import AuthSettings
from infra.broker_url import BrokerUrl, parse_broker_url

Port = Annotated[int, Meta(ge=1, le=65_535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


BUNDLED_ROOM: Final = 64 << 30
"""Bytes that the bundled broker takes for all streams, unless BROKER_MAX_BYTES says another number."""


class Settings(AuthSettings, frozen=True, kw_only=True):
    """The settings that every service has.

    `load` reads each field from the environment variable of its name in capitals, but `port` from `<SERVICE>_PORT`.
    """

    renamed: ClassVar[Mapping[str, str]] = {}
    """Renamed variables: old name → new name. If an old one is set, `load` raises SettingsError."""

    port: Port
    nats_port: Port = 4222
    nats_url: str = ""
    """The broker's address, or several addresses with commas between; empty: 127.0.0.1 at `nats_port`."""
    bind_host: str = "127.0.0.1"
    allowed_hosts: str = ""
    """Names of the services besides loopback's, with commas between, such as those of a proxy in front of them."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "text", "json"] = "auto"
    """auto: text if standard error is a terminal, JSON otherwise."""
    events_max_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 60)] = 8 << 30
    """Size limit of each generation of the stream in bytes; a full one refuses new facts."""
    events_roll_messages: Annotated[int, Meta(ge=1, le=500_000_000)] = 500_000
    """From so many messages, `events_roll_bytes` or `events_roll_age_s` on, the keeper makes the next generation."""
    events_roll_bytes: Annotated[int, Meta(ge=1 << 10, le=1 << 60)] = 2 << 30
    events_roll_age_s: Annotated[float, Meta(ge=1.0, le=1e9)] = 604_800.0
    broker_max_bytes: Annotated[int, Meta(ge=0, le=1 << 60)] = 0
    """The room of the broker for all its streams. 0: BUNDLED_ROOM of the bundled broker; of another one unknown."""
    events_replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    duplicate_window_s: Annotated[float, Meta(ge=0.1, le=86_400)] = 120.0
    otel_exporter_otlp_endpoint: str = ""
    """Where the collector for traces is, such as http://127.0.0.1:4318."""
    otel_exporter_otlp_traces_endpoint: str = ""
    """The whole URL to which traces are sent, before the other one. Both empty: nothing is traced."""
    otel_traces_sampler_arg: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """The share of traces that are made; the id alone decides which."""

    def __post_init__(self) -> None:
        try:
            self.brokers  # noqa: B018 - it raises
        except ValueError as error:
            raise ValueError(
                f"NATS_URL is not a broker's address, such as nats://127.0.0.1:4222, or several with commas: {error}"
            ) from None
        self.check_auth(self.bind_host)
        self.check_archive()
        for name in ("otel_exporter_otlp_endpoint", "otel_exporter_otlp_traces_endpoint"):
            if (collector := getattr(self, name)) and not is_http_address(collector):
                raise ValueError(
                    f"{name.upper()} is no address of a collector, such as http://127.0.0.1:4318; without the variable "
                    "nothing is traced"
                )
        if wrong := [host for host in self.hosts if not is_host(host)]:
            raise ValueError(
                f"ALLOWED_HOSTS names {wrong[0]!r}, which is no host; list names such as shop.example or "
                "shop.example:8443 with commas between, without http://"
            )

    @property
    def hosts(self) -> list[str]:
        return [host.strip() for host in self.allowed_hosts.split(",") if host.strip()]

    @property
    def broker_room(self) -> int:
        """The bytes that the broker may use for all its streams together; 0: unknown."""
        return self.broker_max_bytes or (0 if self.nats_url else BUNDLED_ROOM)

    @property
    def url(self) -> str:
        """The URL of the service's HTTP API, without a path, such as `http://127.0.0.1:8001`."""
        return http_url(self.bind_host, self.port, "https" if self.tls_cert_file else "http")

    @property
    def brokers(self) -> list[BrokerUrl]:
        """The servers of the broker, in the order of NATS_URL; if that is empty, 127.0.0.1 at `nats_port`."""
        return [parse_broker_url(url.strip()) for url in (self.nats_url or f"127.0.0.1:{self.nats_port}").split(",")]


def http_url(host: str, port: int, scheme: str = "http") -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class SettingsError(Exception):
    """A setting, an argument or the state of the system does not allow what was asked. The message tells why."""


S = TypeVar("S", bound=Settings)
Variables = TypeVar("Variables", bound=Struct)


def load(cls: type[S], service: str, default_port: int, env: Mapping[str, str]) -> S:
    """Read the settings of `service` (without `_svc`) from `env`. Unset, empty and blank variables give the defaults.

    Raises SettingsError for an invalid value, or for a set variable that `cls.renamed` lists as an old name.
    """
    for old, new in cls.renamed.items():
        if env.get(old, "").strip():
            raise SettingsError(f"{old} is called {new} now: set {new} and unset {old}")
    return read(cls, env, names={"port": f"{service}_port".upper()}, defaults={"port": default_port})


def _in_words(error: str) -> str:
    """Return msgspec's `error` about one value of the environment, without the names of Python's types."""
    said = re.sub(r", got `\w+`$", "", error)
    for kind, words in (("int", "a whole number"), ("float", "a number"), ("str", "a text")):
        said = said.replace(f"Expected `{kind}`", f"it has to be {words}")
    return re.sub(r"([<>]=?) (-?[0-9]+)\.0$", r"\1 \2", said)


def read(
    cls: type[Variables],
    env: Mapping[str, str],
    *,
    names: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Variables:
    """Read each field of `cls` from the variable of its name in capitals; those in `names` from `names[field]` instead.

    An unset, empty or blank variable gives `defaults[field]`, or else the default of the class. Raises SettingsError if
    a value is invalid; TypeError if a field has neither a variable nor a default.
    """
    kinds = get_type_hints(cls, include_extras=True)
    values = dict(defaults or {})
    for field in cls.__struct_fields__:
        name = (names or {}).get(field, field.upper())
        raw = env.get(name, "").strip()
        if not raw:
            continue
        kind = kinds[field]
        try:
            values[field] = msgspec.convert(
                raw.upper() if field == "log_level" else raw, kind, strict=False, dec_hook=lambda to, value: to(value)
            )
        except msgspec.ValidationError as error:
            why = f"it may be {', '.join(get_args(kind))}" if get_origin(kind) is Literal else _in_words(str(error))
            raise SettingsError(f"{name}={raw!r} cannot be used: {why}") from error
    try:
        return cls(**values)
    except ValueError as error:
        raise SettingsError(str(error)) from error
