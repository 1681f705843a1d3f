"""Where a request ends: the same however the bytes arrive, as another strict reader sees it, or refused."""

import random
from unittest.mock import Mock

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.http import framing
from infra.http.answers import GENERIC
from infra.http.framing import HttpRequest, RequestReader
from infra.http.grammar import MAX_HEAD_BYTES, REQUEST_LINE
from infra.http.problems import Problem
from tests.infra.http.framing_cases import CHUNKED, REFUSED, TWO, WHOLE
from tests.infra.http.wire import question

MAX_BODY_BYTES = 16 << 10


def read(*parts: bytes) -> tuple[list[HttpRequest], int | None]:
    """The requests in what arrives in these parts, and the status of the refusal at their end."""
    reader, found = RequestReader(MAX_BODY_BYTES), []
    for part in parts:
        reader.feed(part)
        try:
            while (request := reader.next_request()) is not None:
                found.append(request)
        except Problem as problem:
            return found, problem.body.status
    return found, None


def in_parts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(("data", "bodies"), WHOLE.values(), ids=WHOLE)
def test_a_request_is_whole_and_has_its_own_body(data: bytes, bodies: list[bytes], size: int) -> None:
    requests, refused = read(*in_parts(data, size))

    assert [bytes(request.body) for request in requests] == bodies
    assert refused is None


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED)
def test_what_is_doubtful_is_refused(data: bytes, status: int, size: int) -> None:
    assert read(*in_parts(data, size)) == ([], status)


@pytest.mark.parametrize("case", ["a long request line", "a long header", "a long body"])
def test_what_is_too_long_is_refused_with_the_documented_answer(case: str) -> None:
    data, status = REFUSED[case]
    reader = RequestReader(MAX_BODY_BYTES)
    reader.feed(data)

    with pytest.raises(Problem) as refused:
        reader.next_request()

    assert refused.value.body == GENERIC[status].body


def test_a_reader_keeps_no_more_than_a_head() -> None:
    reader = RequestReader(MAX_BODY_BYTES)
    reader.feed(b"GET / HTTP/1.1\r\nX-A: ")
    fed = 0
    with pytest.raises(Problem, match="at most 16384 bytes"):  # noqa: PT012  # which of the calls raises is the question
        while reader.next_request() is None:
            reader.feed(b"a" * 1_000)
            fed += 1_000

    assert fed <= MAX_HEAD_BYTES + 1_000


def test_a_request_line_is_checked_once_however_slowly_the_headers_come(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Mock(match=Mock(side_effect=REQUEST_LINE.match))
    monkeypatch.setattr(framing, "REQUEST_LINE", checked)

    ((request,), refused) = read(*in_parts(question(b"", b"X-A: " + b"a" * 100), 1))

    assert (request.target, refused) == (b"/echo", None)
    assert checked.match.call_count == 2  # when it has come, and with the whole head


def test_small_chunks_are_refused_with_the_next_step() -> None:
    reader = RequestReader(MAX_BODY_BYTES)
    reader.feed(REFUSED["too many small chunks"][0])

    with pytest.raises(Problem, match="at most 4096 bytes together: send the body in larger chunks"):
        reader.next_request()


def test_names_are_small_values_are_trimmed_and_trailers_are_no_headers() -> None:
    head = [b"X-User-ID: \t ann \t ", b"Idempotency-Key:k 1", CHUNKED]
    ((request,), _) = read(question(b"0\r\nX-User-Id: bob\r\n\r\n", *head, line=b"POST /echo?a=%20 HTTP/1.1"))

    assert (request.method, request.target, request.version) == ("POST", b"/echo?a=%20", "1.1")
    assert request.headers == [
        (b"host", b"test"),
        (b"content-type", b"application/json"),
        (b"x-user-id", b"ann"),
        (b"idempotency-key", b"k 1"),
        (b"transfer-encoding", b"chunked"),
    ]


def test_the_host_of_an_absolute_target_is_the_host() -> None:
    ((request,), _) = read(question(b"{}", TWO, line=b"POST HTTP://shop:8001?a HTTP/1.1"))

    assert request.target == b"/?a"
    assert [value for name, value in request.headers if name == b"host"] == [b"shop:8001"]


@pytest.mark.parametrize(
    ("line", "header", "stays"),
    [
        (b"GET / HTTP/1.1", b"Accept: */*", True),
        (b"GET / HTTP/1.1", b"Connection: keep-alive", True),
        (b"GET / HTTP/1.1", b"Connection: TE, Close", False),
        (b"GET / HTTP/1.1", b"Connection: closed", True),
        (b"GET / HTTP/1.0", b"Connection: keep-alive", False),
    ],
)
def test_a_connection_stays_open_unless_the_client_says_otherwise(line: bytes, header: bytes, stays: bool) -> None:
    ((request,), _) = read(question(b"", header, line=line))

    assert request.keep_alive is stays


def test_a_client_that_waits_to_be_told_to_go_on_is_known_until_its_body_comes() -> None:
    reader = RequestReader(MAX_BODY_BYTES)
    reader.feed(question(b"", b"Expect: 100-continue", TWO))

    assert reader.next_request() is None
    assert reader.expects_continue
    reader.feed(b"{")
    assert not reader.expects_continue


# Against another reader -----------------------------------------------------------------------------------------------

PIECES = [
    *(b"POST /echo HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"POST /echo HTTP/1.0\r\n"),
    *(b"Host: test\r\n", b"Host : test\r\n", b"X-A: b\r\n", b" c\r\n", b"Connection: Upgrade\r\n", b"Upgrade: h2c\r\n"),
    *(b"Content-Length: 2\r\n", b"Content-Length: 5\r\n", b"Content-Length: 02\r\n", b"Content-Length: 2, 2\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"\r\n", b"\n", b"\r", b" ", b"{}"),
    *(b"2\r\n{}\r\n", b"5\r\nhello\r\n", b"2;a\r\n{}\r\n", b"0\r\n\r\n", b"0\r\nX-A: b\r\n\r\n"),
]
BEGIN = b"POST /echo HTTP/1.1\r\nHost: test\r\n"
LIKELY = [
    *(BEGIN, b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    *(b"\r\n", b"{}", b"2\r\n{}\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nX-A: b\r\n\r\n", BEGIN + b"\r\n"),
]
"""Many lists of these are requests."""


def as_h11_reads(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Method, target and body of each request that h11 finds; it stops where it sees a mistake."""
    found: list[tuple[bytes, bytes, bytes]] = []
    while True:
        while data.startswith(b"\r\n"):  # h11 does not know that empty lines may come first
            data = data[2:]
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        line, body = (b"", b""), b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    line = (event.method, event.target)
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return found
        except h11.ProtocolError:
            return found
        found.append((*line, body))
        data = bytes(connection.trailing_data[0])


@settings(max_examples=2_000, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=16) | st.lists(st.sampled_from(LIKELY), max_size=16),
    st.integers(0, 2**32),
)
def test_what_is_read_is_what_another_strict_reader_reads(pieces: list[bytes], seed: int) -> None:
    data = b"".join(pieces)
    whole, refused = read(data)
    cuts = sorted(random.Random(seed).sample(range(len(data) + 1), min(3, len(data))))
    parts = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    assert read(*parts) == (whole, refused)
    seen = [(request.method.encode(), request.target, bytes(request.body)) for request in whole]
    assert as_h11_reads(data)[: len(seen)] == seen
