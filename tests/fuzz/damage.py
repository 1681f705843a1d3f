"""Damages a right input, as little as possible, so that it comes far into a reader."""

from collections.abc import Sequence
from random import Random
from typing import Final

TOKENS: Final = (
    *(b"\r\n", b"\n", b"\r", b"\0", b"\t", b" ", b":", b",", b";", b"=", b'"', b"\\", b"{", b"}", b"[", b"]", b"."),
    *(b"-1", b"0", b"00", b"1e9", b"9" * 20, b"9" * 400, b"0x10", b"+1", b"null", b"true", b"\xff", b"\xc0\x80"),
    *(
        "é".encode(),
        "💥".encode(),
        b"\xed\xa0\x80",
        b"\x1b[31m",
        b"%00",
        b"%2e",
        b"chunked",
        b"identity",
        b"100-continue",
    ),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"GET / HTTP/1.1\r\n\r\n"),
    *(b"Nats-Msg-Id: x@1\r\n", b"Fact-Stream: \r\n", b"NATS/1.0 503\r\n", b'{"type":"x"}', b"a" * 5_000),
)
"""What readers treat specially."""


def damaged(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """Return the input with one to four changes; now and then with a part of another one in it."""
    made = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(made))
        until = min(len(made), at + random.choice((1, 1, 2, 4, 16, 64)))
        match random.randrange(7):
            case 0:
                made[at:until] = b""
            case 1:
                made[at:at] = random.choice(TOKENS)
            case 2:
                made[at:until] = random.choice(TOKENS)
            case 3:
                made[at:until] = made[at:until] * 2
            case 4 if at < len(made):
                made[at] ^= 1 << random.randrange(8)
            case 5:
                other = random.choice(others)
                begin = random.randint(0, len(other))
                made[at:until] = other[begin : begin + random.choice((4, 16, 64, 256))]
            case _:
                del made[at:]
    return bytes(made)


def pieces(data: bytes, random: Random) -> list[bytes]:
    """Return the input in pieces, as a network may give it."""
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.choice((0, 1, 2, 5))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
