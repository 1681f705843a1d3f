"""Sends spans as JSON over HTTP. Encoding costs a sixth of what OpenTelemetry's library needs, which sends protobuf."""

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final
from urllib.parse import unquote

import httpx
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from contracts.spans import Span
from infra.addresses import is_http_address
from infra.redaction import redacted
from infra.settings import SettingsError
from infra.tracing.collector import collector
from infra.tracing.otlp_json import as_otlp

logger = structlog.get_logger()

TIMEOUT_S: Final = 10.0
LONGEST_TIMEOUT_S: Final = 3_600.0
MOST_ANSWERED: Final = 1 << 16
"""Bytes of an answer that are read."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~]*")
_JSON: Final = {"Content-Type": "application/json"}


class OwnSpan(ReadableSpan):
    """A span of OpenTelemetry's library that also has, as `own`, the Span of contracts.spans from which it was made."""

    own: Span


def _setting(env: Mapping[str, str], name: str) -> str:
    """Return the value of OTEL_EXPORTER_OTLP_TRACES_`name`; if that is blank, of OTEL_EXPORTER_OTLP_`name`; else ""."""
    return env.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "").strip() or env.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip()


def _headers(setting: str) -> dict[str, str]:
    """Return the headers, by name, that the variable's value lists: `name=value,...`, each part URL-encoded.

    Raises SettingsError for a header that HTTP does not allow; its message shows no value of a header.
    """
    pairs = [pair.partition("=") for pair in setting.split(",") if pair.strip()]
    decoded = [(unquote(name).strip(), unquote(value).strip()) for name, _, value in pairs]
    for n, (name, value) in enumerate(decoded, 1):
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise SettingsError(f"OTEL_EXPORTER_OTLP_HEADERS: header {n} has a character that no header can have")
    return dict(decoded)


class JsonExporter(SpanExporter):
    """Sends OwnSpans, and no other spans, to the collector that OpenTelemetry's variables name.

    It sends each batch once: newer spans would have to wait for a repeat.

    `why` says in words how the last attempt ended; empty before the first.
    """

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        """Raises SettingsError for a variable that cannot be used."""
        name, self._url = collector(env)
        self._at = redacted(self._url)
        try:
            httpx.URL(self._url)
            is_url = is_http_address(self._url)
        except httpx.InvalidURL:
            is_url = False
        if not is_url:
            raise SettingsError(f"{name} is no URL such as http://127.0.0.1:4318: {self._at!r}")
        headers = _headers(_setting(env, "HEADERS"))
        try:
            self._timeout_s = float(_setting(env, "TIMEOUT") or TIMEOUT_S)
            if not 0 < self._timeout_s <= LONGEST_TIMEOUT_S:  # nan is none, either
                raise ValueError(f"the timeout is more than 0 and at most {LONGEST_TIMEOUT_S:g} seconds")
            authority = _setting(env, "CERTIFICATE")
            verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=authority) if authority else True
            self._client = httpx.Client(headers=headers | _JSON, timeout=self._timeout_s, verify=verify)
        except (ValueError, OSError) as error:
            raise SettingsError(f"a variable OTEL_EXPORTER_OTLP_... cannot be used: {error}") from error
        self.why = ""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        own = [span.own for span in spans if isinstance(span, OwnSpan)]
        common = spans[0].resource.attributes if spans else {}
        try:
            with self._client.stream("POST", self._url, content=as_otlp(own, common)) as answer:  # type: ignore[arg-type]
                self._pass_over(answer)
        except httpx.HTTPError as error:
            self.why = f"{type(error).__name__}: {error}"
            return SpanExportResult.FAILURE
        self.why = f"{self._at} answered {answer.status_code}"
        return SpanExportResult.SUCCESS if answer.is_success else SpanExportResult.FAILURE

    def _pass_over(self, answer: httpx.Response) -> None:
        """Read and drop the body, so that the connection can be used again.

        Stops after MOST_ANSWERED bytes or `_timeout_s`. Raises httpx.HTTPError.
        """
        read, until = 0, monotonic() + self._timeout_s
        for part in answer.iter_raw():
            read += len(part)
            if read > MOST_ANSWERED or monotonic() > until:
                return

    def shutdown(self) -> None:
        self._client.close()
