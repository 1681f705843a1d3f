"""The readers that get what anybody may have written, each with right inputs and what it may raise."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

import jwt

from contracts.fact import DECODE_ERRORS
from contracts.origin import ForeignMessage, header, heard, log_fields, origin
from contracts.wire import MSG_ID, NAMES, POSITION, STREAM, VERSION, decode, encode
from infra.auth.key_set import MOST_BYTES, KeySet, parse_key_set
from infra.auth.principal import TokenRefused
from infra.auth.tokens import TokenRules, TokenVerifier
from infra.broker.stored import StoredMessage
from infra.consuming.dead_letter_message import headers_of, parsed
from infra.consuming.redrive_notes import note_in
from infra.http.framing import RequestReader
from infra.http.grammar import MAX_BODY_BYTES
from infra.http.problems import Problem
from infra.request_span import parse_traceparent
from tests.contracts.examples import WRITTEN
from tests.fuzz.damage import pieces
from tests.issuer import AUDIENCE, NAME, Issuer


class Target(NamedTuple):
    """A reader: right inputs for it, and a function that gives it one; that raises if a promise is broken."""

    right: Sequence[bytes]
    read: Callable[[bytes, Random], Any]


HEAD: Final = b"\r\n\r\n|"
"""Between headers and body in an input that has both."""


def _relayed(number: int) -> bytes:
    fact = WRITTEN[number]
    stream = fact.stream
    names = {MSG_ID: f"{stream}@7", STREAM: stream, VERSION: "7", POSITION: "12"}
    head = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in names.items())
    subject = f"{NAMES[type(fact)]}.{getattr(fact, fact.key_field)}"
    return subject.encode() + b"|" + head.encode().removesuffix(b"\r\n") + HEAD + encode(fact)


def _read_fact(data: bytes, _: Random) -> None:
    subject, _bar, rest = data.partition(b"|")
    head, _bar, body = rest.partition(HEAD)
    on, head = subject.decode("utf-8", "replace"), head + b"\r\n\r\n"
    its_id = header(head, MSG_ID.encode())
    with contextlib.suppress(ForeignMessage, *DECODE_ERRORS):
        fact, heard_as = heard(on, its_id, head, body)
        assert decode(encode(fact)) == fact
        assert "@" in heard_as
    with contextlib.suppress(ForeignMessage):
        origin(on, its_id, head, body)
    assert all(isinstance(value, str) for value in log_fields(on, its_id, body).values())


def _letter() -> bytes:
    message = StoredMessage(3, "point.used.o1", b"garbage", b"NATS/1.0\r\nTheir-Own: x\r\n\r\n", 1)
    made = parsed(message)._replace(error="ValueError: no", stack="a\nb", attempts=4, at=parsed(message).at)
    return "".join(f"{name}: {value}\r\n" for name, value in headers_of(made).items()).encode("latin-1", "replace")


def _read_letter(data: bytes, _: Random) -> None:
    message = StoredMessage(3, "dead.point.o1", data, b"NATS/1.0\r\n" + data + b"\r\n\r\n", 1)
    first = parsed(message)
    assert parsed(message, whole=False).error == first.error
    assert all(value.isprintable() for value in headers_of(first).values())
    note_in(message)


REQUESTS: Final = (
    b"GET /orders/o1?limit=2 HTTP/1.1\r\nHost: localhost\r\nX-User-Id: u1\r\n\r\n",
    b"POST /orders HTTP/1.1\r\nHost: localhost:8001\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
    b'{"lines": []}',
    b"POST /orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
    b"5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
)


def _requests(parts: Sequence[bytes]) -> list[Any]:
    """What a reader makes of these pieces: the requests, and at last why it stopped, if it did."""
    reader, found = RequestReader(MAX_BODY_BYTES), []
    for part in parts:
        reader.feed(part)
        try:
            while (request := reader.next_request()) is not None:
                found.append((request.method, request.target, request.headers, bytes(request.body), request.keep_alive))
        except Problem as problem:
            return [*found, problem.body.status]
    return found


def _read_requests(data: bytes, random: Random) -> None:
    """However the bytes come, they are the same requests: else a proxy could take another part for a request."""
    whole, parted = _requests([data]), _requests(pieces(data, random))
    assert parted == whole
    for request in whole[:-1]:
        for name, value in request[2]:
            assert not {0, 10, 13} & {*name, *value}


ISSUER: Final = Issuer("EdDSA")
KEYS: Final = parse_key_set(json.dumps(ISSUER.jwks).encode())


class _Keys:
    version, look_at = 0, float("inf")
    trouble: str | None = None

    async def current(self) -> KeySet:
        return KEYS

    newer = current


VERIFIER: Final = TokenVerifier(_Keys(), TokenRules(NAME, AUDIENCE, 30.0, 3_600.0))


def _is_kept_back(token: str, said: str) -> None:
    assert len(token) < 20 or token not in said


def _read_token(data: bytes, _: Random) -> None:
    token = data.decode("utf-8", "replace")
    try:
        found = asyncio.run(VERIFIER.verify(token))
    except TokenRefused as refused:
        said = str(refused)
        _is_kept_back(token, said)
        return
    claims = jwt.decode(token, options={"verify_signature": False})
    assert found.subject == claims["sub"]


def _read_key_set(data: bytes, _: Random) -> None:
    with contextlib.suppress(ValueError):
        found = parse_key_set(data)
        assert found.keys
        assert len(data) <= MOST_BYTES


def _read_traceparent(data: bytes, _: Random) -> None:
    parse_traceparent(data)


TARGETS: Final = {
    "facts": Target([_relayed(number) for number in range(len(WRITTEN))], _read_fact),
    "dead letters": Target([_letter()], _read_letter),
    "requests": Target(REQUESTS, _read_requests),
    "tokens": Target([ISSUER.token("ops:read").encode(), ISSUER.unsigned().encode()], _read_token),
    "keys": Target([json.dumps(ISSUER.jwks).encode(), json.dumps(Issuer().jwks).encode()], _read_key_set),
    "traces": Target([b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"], _read_traceparent),
}
