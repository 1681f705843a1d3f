"""Finds where each request on a connection begins and ends, by RFC 9112, in a bounded buffer.

What decides where a request ends also decides who sent the next one. So nothing else does: `RequestReader` hands out
whole requests only, and refuses whatever it does not understand. Decision 32 has the reasons.
"""

from typing import Final, NamedTuple

from infra.http.chunks import ChunkedBody
from infra.http.grammar import (
    FIELDS,
    HOST,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_LENGTH_DIGITS,
    NEVER_IN_A_HEAD,
    REQUEST_LINE,
    long_head,
    malformed,
    too_large,
)
from infra.http.problems import Problem

_DECIDING: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})


class HttpRequest(NamedTuple):
    """One whole request. `target` is the path with the query, `version` is 1.0 or 1.1.

    The names of `headers` are lower-case, their values are without blanks at the ends. A trailer is not among them.
    """

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    body: bytearray
    keep_alive: bool


class _HeaderSection(NamedTuple):
    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    length: int
    chunked: bool
    expects_continue: bool


class RequestReader:
    """Takes the bytes of one connection and returns its requests, one after another, each of them whole.

    It keeps at most one head, one body, and what was fed last: feed no more while a request is still unanswered.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._searched = 0  # bytes at the buffer's beginning in which the end of the head is not
        self._head: _HeaderSection | None = None
        self._chunks: ChunkedBody | None = None

    @property
    def begun(self) -> bool:
        """Whether a part of a request was received that `next_request` has not returned."""
        return bool(self._buffer) or self._head is not None

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body of the request that has begun."""
        return self._head is not None and self._head.expects_continue and not self._buffer

    def feed(self, data: memoryview | bytes) -> None:
        self._buffer += data

    def next_request(self) -> HttpRequest | None:
        """Return the next request, None if it is not complete. Raises Problem; the connection must then be closed."""
        head = self._head or self._read_head()
        if head is None:
            return None
        self._head = head
        if self._chunks is not None:
            body = self._chunks.take_from(self._buffer)
        elif len(self._buffer) < head.length:
            body = None
        else:
            body = self._buffer[: head.length]
            del self._buffer[: head.length]
        if body is None:
            return None
        self._head = self._chunks = None
        return HttpRequest(head.method, head.target, head.version, head.headers, body, head.keep_alive)

    def _read_head(self) -> _HeaderSection | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):  # some clients send an empty line after a body
            del buffer[:2]
            self._searched = 0
        end = buffer.find(b"\r\n\r\n", self._searched, MAX_HEAD_BYTES)
        if end < 0:
            _check_unfinished(buffer, self._searched)
            self._searched = max(0, len(buffer) - 3)
            return None
        head = _parse_head(bytes(buffer[: end + 2]))
        del buffer[: end + 4]
        self._searched = 0
        if head.length > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        self._chunks = ChunkedBody(self._max_body_bytes) if head.chunked else None
        return head


def _check_unfinished(buffer: bytearray, searched: int) -> None:
    """Raise Problem if these bytes of a head whose end is not there yet can't become a head."""
    if NEVER_IN_A_HEAD.search(buffer, max(0, searched - 1), MAX_HEAD_BYTES):
        raise malformed("the bytes are no HTTP/1.1 request: lines end with CR LF and have no control characters")
    line_end = buffer.find(b"\r\n", 0, MAX_HEAD_BYTES)
    if line_end >= 0 and not REQUEST_LINE.match(buffer):
        raise _no_request_line()
    if len(buffer) > MAX_HEAD_BYTES:
        if line_end < 0:
            raise Problem(
                414, "uri-too-long", f"a request line has at most {MAX_HEAD_BYTES} bytes; the connection is closed"
            )
        raise long_head(f"the headers have at most {MAX_HEAD_BYTES} bytes together")


def _no_request_line() -> Problem:
    return malformed('the first line is no request line of HTTP/1.1, such as "GET /readyz HTTP/1.1"')


def _parse_head(raw: bytes) -> _HeaderSection:
    """Parse a head; `raw` ends with its last line's CR LF. Raises Problem."""
    line = REQUEST_LINE.match(raw)
    if line is None:
        raise _no_request_line()
    if not FIELDS.fullmatch(raw, line.end()):
        at = raw.count(b"\r\n", 0, FIELDS.match(raw, line.end()).end()) + 1  # type: ignore[union-attr]
        raise malformed(f'line {at} of the request is no header line of HTTP/1.1, "Name: value"')
    lines = raw[line.end() : -2].split(b"\r\n") if line.end() < len(raw) else []
    if len(lines) > MAX_FIELDS:
        raise long_head(f"a request has at most {MAX_FIELDS} header lines")
    headers = [(name.lower(), value.strip(b"\t ")) for name, _, value in [each.partition(b":") for each in lines]]
    method, authority, target, minor = line.groups()
    if authority is None:
        good = target.startswith(b"/") or (target, method) == (b"*", b"OPTIONS")
    else:
        good = target != b"*" and authority != b"" and not authority.startswith(b":")
    if not good:
        raise _no_request_line()
    version = "1.0" if minor == b"0" else "1.1"
    deciding: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _DECIDING:
            deciding.setdefault(name, []).append(value)
    _check_host(deciding.get(b"host", []), version)
    if authority is not None:  # RFC 9112, 3.2.2: it counts, and what Host says does not
        headers = [(b"host", authority), *((name, value) for name, value in headers if name != b"host")]
    options = b",".join(deciding.get(b"connection", [])).lower()
    keep_alive = version == "1.1" and b"close" not in [option.strip(b"\t ") for option in options.split(b",")]
    chunked = _is_chunked(deciding.get(b"transfer-encoding", []), version)
    if chunked and b"content-length" in deciding:
        raise malformed("a request has a Content-Length or a Transfer-Encoding, never both")
    length = _length(deciding.get(b"content-length", []))
    expects = version == "1.1" and [value.lower() for value in deciding.get(b"expect", [])] == [b"100-continue"]
    if not target.startswith(b"/") and target != b"*":
        target = b"/" + target
    return _HeaderSection(method.decode(), target, version, headers, keep_alive, length, chunked, expects)


def _check_host(hosts: list[bytes], version: str) -> None:
    if len(hosts) != 1 and (hosts or version != "1.0"):
        raise malformed(f"a request has exactly one header Host, this one has {len(hosts) or 'none'}")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise malformed("the header Host is no name or address, with or without a port")


def _is_chunked(codings: list[bytes], version: str) -> bool:
    if not codings:
        return False
    if version == "1.0":
        raise malformed("a request of HTTP/1.0 has no Transfer-Encoding")
    coding = b",".join(codings).lower()
    if coding == b"chunked":
        return True
    if coding.rpartition(b",")[2].strip(b"\t ") == b"chunked":
        raise Problem(
            501, "unknown-transfer-coding", "the only Transfer-Encoding here is chunked; the connection is closed"
        )
    raise malformed("the last Transfer-Encoding of a request is chunked")


def _length(lengths: list[bytes]) -> int:
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > MAX_LENGTH_DIGITS:
        raise malformed("a request has at most one header Content-Length, and it is a number")
    return int(lengths[0])
