"""Sends rows as NDJSON to an HTTP receiver, one POST per batch.

A batch whose answer got lost is sent again. This process sends it with the same `Idempotency-Key`; after a restart the
rows may be cut into other batches. So the receiver must store a row once per `fact_id`; the header only saves it work.
"""

import asyncio
import contextlib
import gzip
import hashlib
import ssl
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec

from infra.addresses import is_loopback
from infra.aio import in_thread
from infra.export.bearer_token import TokenFile
from infra.export.cursor import CursorFile
from infra.export.errors import SinkError, TokenError, Unavailable
from infra.export.lock import one_export
from infra.export.rows import Dataset, ExportPosition, Row
from infra.export.sink import Limits
from infra.export.totals import Totals, add

GZIP_LEVEL: Final = 6
REASON_LENGTH: Final = 200  # characters of a refusal's body that reach our log

_encoder = msgspec.json.Encoder()


class HttpSink:
    """Sends a dataset's rows to `url`, and keeps its position in `cursor`: the sink for EXPORT_SINK=http.

    `timeout_s`: the limit for a request with its whole answer, in seconds. `rewind` only moves the position back; the
    receiver removes nothing and gets the rows again.
    """

    def __init__(
        self,
        dataset: Dataset,
        url: str,
        cursor: CursorFile,
        limits: Limits,
        *,
        timeout_s: float,
        token: TokenFile | None = None,
        totals_url: str = "",
    ) -> None:
        self.limits = limits
        self._dataset = dataset
        self._url = url
        self._cursor = cursor
        self._timeout_s = timeout_s
        self._token = token
        self._totals_url = totals_url
        self._client = httpx.AsyncClient(
            # The system's certificates, or those of SSL_CERT_FILE.
            verify=ssl.create_default_context(),
            timeout=timeout_s,
            # No proxy of the environment for addresses of this machine.
            trust_env=not is_loopback(urlsplit(url).hostname or ""),
            limits=httpx.Limits(max_connections=1),
        )

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with one_export(self._cursor.path.with_suffix(".lock"), f"the receiver of {self._cursor.path}"):
            try:
                self._headers()
            except TokenError as error:
                raise SinkError(str(error)) from error
            yield

    async def position(self) -> ExportPosition:
        return self._cursor.read()

    async def commit(self, rows: Sequence[Row]) -> None:
        body = _encoder.encode_lines(rows)
        headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
            "Idempotency-Key": hashlib.sha256(body).hexdigest(),
            "Export-Schema": self._dataset.schema,
            "Export-Range": f"{rows[0].position}-{rows[-1].position}",
        }
        await self._ask("POST", self._url, gzip.compress(body, GZIP_LEVEL, mtime=0), headers)
        await self._move(ExportPosition(rows[-1].position, rows[-1].fact_id))

    async def rewind(self, to: ExportPosition) -> None:
        if to.position < self._cursor.read().position:  # forward, it would leave rows out
            await self._move(to)

    async def compact(self, stopped: Callable[[], bool]) -> bool:
        return False  # the receiver's rows are the receiver's

    async def _move(self, to: ExportPosition) -> None:
        """Store the position `to`, durably. Raises Unavailable."""
        try:
            await in_thread(lambda: self._cursor.write(to))
        except OSError as error:
            raise Unavailable(f"{self._cursor.path} cannot be written: {error.strerror or error}") from error

    async def totals(self, through: ExportPosition) -> Totals:
        """Get the receiver's totals up to and including `through` from EXPORT_HTTP_TOTALS_URL.

        The receiver answers one JSON line per day and kind: `day`, `kind`, `rows`, and each sum of the dataset. Raises
        Unavailable; SinkError if the URL is not set or the answer cannot be read.
        """
        if not self._totals_url:
            raise SinkError(
                "EXPORT_HTTP_TOTALS_URL is not set, and only the receiver knows which rows it has. Set it to an "
                "address that answers ?through=<position> with a line of JSON per day and kind (see docs/export.md)"
            )
        answer = await self._ask("GET", str(httpx.URL(self._totals_url).copy_add_param("through", through.position)))
        totals: Totals = {}
        try:
            for line in msgspec.json.Decoder(dict[str, object]).decode_lines(answer.content):
                numbers = [msgspec.convert(line.get(name) or 0, int) for name in ("rows", *self._dataset.sums)]
                day = date.fromisoformat(msgspec.convert(line.get("day"), str))
                add(totals, (day, msgspec.convert(line.get("kind"), str)), numbers)
        except (msgspec.DecodeError, ValueError) as error:
            raise SinkError(
                f"{self._totals_url} sent an answer that cannot be compared: {error}; docs/export.md shows the form"
            ) from error
        return totals

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(
        self, method: str, url: str, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send a request, with the bearer token if there is one; return the answer if its status is 2xx.

        Raises Unavailable for any other answer, for none (no connection, or not the whole within `timeout_s`), and for
        a token that cannot be used.
        """
        try:
            async with asyncio.timeout(self._timeout_s):  # for the whole answer: the client's own is for each read
                answer = await self._client.request(
                    method, url, content=content, headers={**self._headers(), **(headers or {})}
                )
        except TokenError as error:
            raise Unavailable(str(error), lasting=True) from error
        except TimeoutError:
            raise Unavailable(f"the receiver sent no answer within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:  # such as an answer that is not encoded as it says
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            return answer
        status, text = answer.status_code, answer.content.decode(errors="replace")[:REASON_LENGTH]
        raise Unavailable(
            f"the receiver answered {status}: {text!r}" if text else f"the receiver answered {status}",
            # A refused request stays wrong when it is repeated, and a redirect is no acknowledgement.
            lasting=300 <= status < 500 and status not in (408, 429),
            retry_after_s=_retry_after(answer) if status in (429, 503) else 0.0,
        )

    def _headers(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": self._token.header()}


def _retry_after(answer: httpx.Response) -> float:
    """Return the seconds to wait that the header Retry-After asks for; 0 if it is missing, unreadable or in the past.

    The header has a number of seconds or a date (RFC 9110, section 10.2.3).
    """
    value = answer.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # such as of a year that is no date's
        return 0.0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
