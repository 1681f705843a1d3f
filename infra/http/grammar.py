"""The grammar of a request (RFC 9112), its bounds, and the answers to what breaks them.

A repetition never gives back what it has taken (`*+`), except in CHUNK, whose line is short. So a long line costs time
in proportion to its length.
"""

import re
from typing import Final

from infra.http.problems import Problem

MAX_BODY_BYTES: Final = 16 << 10
MAX_HEAD_BYTES: Final = 16 << 10
"""Of the request line and all header lines together; of the trailers of a body, too."""
MAX_FIELDS: Final = 100
MAX_EMPTY_LINES: Final = 2
"""Before a request; RFC 9112, 2.2: at least one."""
MAX_CHUNK_LINE_BYTES: Final = 1 << 10
MAX_CHUNK_LINES_BYTES: Final = 4 << 10
"""Of the lines with the sizes and extensions of a body's chunks together, so at most 1,365 chunks."""
MAX_LENGTH_DIGITS: Final = 19
REQUEST_S: Final = 10
"""From a request's first byte to its last."""

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HOST_PATTERN: Final = rb"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*+)(?::[0-9]{0,5}+)?"
_TARGET: Final = rb"(?:[Hh][Tt][Tt][Pp][Ss]?://(%b))?([/?][!-\"$-~]*+|\*|)" % _HOST_PATTERN

REQUEST_LINE: Final = re.compile(rb"(%b{1,32}+) %b HTTP/1\.([0-9])\r\n" % (_TOKEN, _TARGET))
FIELD: Final = re.compile(rb"%b++:[\t\x20-\x7e\x80-\xff]*+" % _TOKEN)
FIELDS: Final = re.compile(rb"(?:%b\r\n)*+" % FIELD.pattern)
HOST: Final = re.compile(_HOST_PATTERN)
CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
NEVER_IN_A_HEAD: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?![\n])(?!\Z)")


def malformed(detail: str) -> Problem:
    """Return a problem to raise: 400, because this request cannot be taken; the connection is then closed."""
    return Problem(400, "malformed-request", f"{detail}; the connection is closed")


def too_large(max_bytes: int) -> Problem:
    return Problem(413, "request-too-large", f"a body has at most {max_bytes} bytes; the connection is closed")


def long_line() -> Problem:
    detail = f"a request line has at most {MAX_HEAD_BYTES} bytes; the connection is closed"
    return Problem(414, "uri-too-long", detail)


def long_head(detail: str = f"the headers have at most {MAX_HEAD_BYTES} bytes together") -> Problem:
    return Problem(431, "request-header-fields-too-large", f"{detail}; the connection is closed")


def request_timeout(request_s: float) -> Problem:
    detail = f"the request was not complete after {request_s:g} s; the connection is closed"
    return Problem(408, "request-timeout", detail)
