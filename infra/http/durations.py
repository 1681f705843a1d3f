"""Measures whole requests by method, route and status, also those that the fast path answers.

The number of series is bounded, whatever clients send. A route for clients has series of its own for the statuses that
say how the service did: 409 and all but 4xx. Its other statuses, and what goes beyond MOST_OWN, are counted under the
route `other` by their class, such as `4xx`, but 503 as `503`. A request for which no route was found or sought is
counted under `unmatched`, by the same classes. Routes of operators and probes have no series: in the rates they would
hide how clients are served. Routes without tags, such as the API's page, have none, either.
"""

from collections.abc import Collection, Mapping
from time import perf_counter
from typing import Any, Final

from infra.metrics import SECONDS, Histogram, Labels, Metrics

MOST_OWN: Final = 7
"""Combinations of method, route and status with series of their own. With them a service has fewer than 500 series."""
OTHER: Final = "other"
UNMATCHED: Final = "unmatched"
OTHER_METHOD: Final = "_OTHER"  # the word of OpenTelemetry's conventions

REJECTIONS: Final = {401: "unauthenticated", 403: "forbidden", 421: "other-host"}
"""The statuses that refuse a request for who sends it, and the reasons under which they are counted."""

BEGAN: Final = "began"
STATUS: Final = "status"
"""Keys in a scope's `state`: when the request had come (seconds of `perf_counter`), and the status of its answer."""


METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _Seen:
    """Requests of one method, route and status: their count, and where their durations are counted."""

    __slots__ = ("count", "durations")

    def __init__(self, durations: Histogram) -> None:
        self.count = 0
        self.durations = durations


class RequestDurations:
    """Counts and times the requests to one service."""

    def __init__(self, metrics: Metrics) -> None:
        self.routes: Collection[str] = ()
        """Path templates of the routes for clients, such as `/things/{id}`; set before the first request."""
        self._seen: dict[tuple[str, str, int], _Seen] = {}
        self._own = 0
        self._children = metrics.histograms_by(
            "http_server_request_duration_seconds",
            "Seconds from a whole request to the end of its answer.",
            SECONDS,
            ("http_request_method", "http_route", "http_response_status_code"),
            (),
        )
        metrics.counters_of(
            "saga_auth_rejections_total",
            "Requests that were refused for who sent them, or from where.",
            ("reason",),
            self._rejections,
        )

    def observe(self, scope: Mapping[str, Any], default_route: str) -> None:
        """Count and time the request with this ASGI scope, once the app is done with it.

        Does nothing if no answer was begun. `default_route` is the request's route unless the framework has found one.
        """
        state = scope.get("state", {})
        status = state.get(STATUS)
        if status is None:
            return
        key = scope["method"], scope.get("path_template", default_route), status
        seen = self._seen.get(key)
        if seen is None:
            seen = self._first(*key)
        seen.count += 1
        seen.durations.observe(perf_counter() - state[BEGAN])

    def count(self, method: str, route: str, statuses: Collection[int]) -> int:
        """Return how many requests of this method and route got one of these statuses, since the process began."""
        return sum(self._seen[key].count for key in self._seen if key[:2] == (method, route) and key[2] in statuses)

    def _rejections(self) -> Mapping[Labels, float]:
        found = dict.fromkeys(REJECTIONS.values(), 0)
        for (_, _, status), seen in self._seen.items():
            if status in REJECTIONS:
                found[REJECTIONS[status]] += seen.count
        return {(reason,): count for reason, count in found.items()}

    def _first(self, method: str, route: str, status: int) -> _Seen:
        key = (method if method in METHODS else OTHER_METHOD, route, status)
        if key not in self._seen:  # as many as there are methods, routes and statuses
            self._seen[key] = _Seen(self._durations(*key))
        return self._seen[key]

    def _durations(self, method: str, route: str, status: int) -> Histogram:
        if route not in self.routes and route != UNMATCHED:
            return Histogram(SECONDS)  # for operators: not exported
        tells = route != UNMATCHED and (status // 100 != 4 or status == 409)
        if tells and self._own < MOST_OWN:
            self._own += 1
            labels = (method, route, str(status))
        else:
            kind = "503" if status == 503 else f"{status // 100}xx"
            labels = (OTHER_METHOD, UNMATCHED if route == UNMATCHED else OTHER, kind)
        return self._children.setdefault(labels, Histogram(SECONDS))
