"""Asks all services, at the same time, what they say of themselves: `/readyz` in words, `/metrics` in numbers."""

import asyncio
from collections.abc import Iterator, Mapping
from math import inf
from time import monotonic
from typing import Final, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from ops.client import ServiceAddress, ServiceRequest, http_client, send_with, text_with
from ops.errors import Unreachable
from ops.status.machine import Machine, look_at_machine

READINESS: Final = "/readyz"
METRICS: Final = "/metrics"
CONNECTED: Final = "saga_broker_connected"
"""Each service exports it."""
OURS: Final = "saga_"
"""With this the names of all numbers begin that a service exports."""
LARGEST: Final = 1e18
"""No number of a service is farther from 0."""


class Sample(NamedTuple):
    """One number that a service exports, by the name of its metric and the values of its labels."""

    name: str
    labels: Mapping[str, str]
    value: float


class Samples:
    """The numbers that one service exported at one moment."""

    def __init__(self, text: str = "") -> None:
        """`text` is in the format of Prometheus; empty: no numbers.

        Raises ValueError if it is in another format, or has a number `saga_…` that no service exports (see
        `_possible`). Numbers of other names are taken as they are.
        """
        self._by_name: dict[str, list[Sample]] = {}
        try:
            families = list(text_string_to_metric_families(text))
        except Exception as error:  # of some texts the parser raises what it stumbles over, such as IndexError
            raise ValueError(f"this is not in the format of Prometheus: {error}") from error
        for family in families:
            for one in family.samples:
                sample = Sample(one.name, one.labels, one.value)
                if one.name.startswith(OURS) and not _possible(sample):
                    raise ValueError(f"no service exports this: {sample}")
                self._by_name.setdefault(one.name, []).append(sample)

    def of(self, name: str) -> list[Sample]:
        return self._by_name.get(name, [])

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the numbers with this name and these labels; 0 without any."""
        return sum(one.value for one in self.having(name, labels))

    def largest(self, name: str, **labels: str) -> float:
        """Return the largest of the numbers with this name and these labels; 0 without any."""
        return max((one.value for one in self.having(name, labels)), default=0.0)

    def having(self, name: str, labels: Mapping[str, str]) -> Iterator[Sample]:
        """Return the numbers with this name that have these labels, whatever others they have."""
        return (one for one in self.of(name) if labels.items() <= one.labels.items())


def _possible(sample: Sample) -> bool:
    """Whether a service may export this: its value is a number within LARGEST, and a histogram's bucket has a bound."""
    if not abs(sample.value) <= LARGEST:  # also of no number, which compares as false
        return False
    if not sample.name.endswith("_bucket"):
        return True
    try:
        return -inf < float(sample.labels["le"])
    except (KeyError, ValueError):
        return False


class SeenService(NamedTuple):
    """One service at one moment. `trouble`: in words, why it does not answer; empty if it does.

    `not_ready`: why it is not ready, in its own words; empty if it is, or with `trouble`. `warnings` are its own, too;
    none unless it is ready. `unmeasured`: in words, why it has no `samples` although it answers; empty if it has some,
    or with `trouble`.
    """

    service: ServiceAddress
    trouble: str = ""
    not_ready: str = ""
    warnings: tuple[str, ...] = ()
    samples: Samples = Samples()
    unmeasured: str = ""

    @property
    def name(self) -> str:
        return f"{self.service.name}_svc"

    @property
    def measured(self) -> bool:
        """Whether the service answers and has `samples`. Otherwise its numbers are not known, rather than 0."""
        return not (self.trouble or self.unmeasured)


class Look(NamedTuple):
    """All services at one moment. `at`: in seconds of `time.monotonic`, so only differences mean something.

    `machine`: what was found of their processes; its defaults: not looked for.
    """

    at: float
    services: tuple[SeenService, ...]
    machine: Machine = Machine()


async def look(addresses: Mapping[str, ServiceAddress], timeout_s: float, env: Mapping[str, str] | None = None) -> Look:
    """Ask all services at once. One without a usable answer to `/readyz` in `timeout_s` seconds has a `trouble`.

    One that answers there, but gives no usable answer to `/metrics` in this time, is `unmeasured`.

    `env`: the environment of the system, whose processes are looked for on this machine; None: they are not. Raises
    SettingsError if `env` is invalid.
    """
    async with http_client() as http:
        seen = await asyncio.gather(*(_ask(http, service, timeout_s) for service in addresses.values()))
    away = [one.service.name for one in seen if one.trouble]
    return Look(monotonic(), tuple(seen), Machine() if env is None else look_at_machine(env, away))


async def _ask(http: httpx.AsyncClient, service: ServiceAddress, timeout_s: float) -> SeenService:
    ready, metrics = await asyncio.gather(
        send_with(http, ServiceRequest(service, "GET", READINESS), timeout_s),
        text_with(http, ServiceRequest(service, "GET", METRICS), timeout_s),
        return_exceptions=True,
    )
    for answer in (ready, metrics):
        if isinstance(answer, BaseException) and not isinstance(answer, Unreachable):
            raise answer
    if isinstance(ready, BaseException):
        return SeenService(service, str(ready))
    samples, unmeasured = Samples(), ""
    try:
        samples = _samples(service, metrics)
    except Unreachable as error:
        unmeasured = str(error)
    if ready.status == 200:
        told = ready.body.get("warnings")
        warnings = tuple(map(str, told)) if isinstance(told, list) else ()
        return SeenService(service, warnings=warnings, samples=samples, unmeasured=unmeasured)
    not_ready = str(ready.body.get("detail") or ready.status)
    return SeenService(service, not_ready=not_ready, samples=samples, unmeasured=unmeasured)


def _samples(service: ServiceAddress, metrics: str | BaseException) -> Samples:
    """Return the numbers in the text of an answer to `/metrics`. `metrics` may be the error of asking, which is raised.

    Raises Unreachable if the text is not that of a service.
    """
    if isinstance(metrics, BaseException):
        raise metrics
    try:
        samples = Samples(metrics)
    except ValueError:
        samples = Samples()
    if not samples.of(CONNECTED):
        raise Unreachable(f"{service} answers {METRICS} with something else: does another program listen there?")
    return samples
