"""MessageParser hands over what the library's parser would, wherever the reads end."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from infra.broker.client import MessageParser

HEAD = b"NATS/1.0\r\nNats-Msg-Id: order-o1@1\r\n\r\n"

LINES = [
    b"MSG talk.one 1 5\r\nhello\r\n",
    b"MSG talk.one 12 reply.to 0\r\n\r\n",
    b"MSG a 1 5 3\r\nabc\r\n",  # a reply subject of digits
    b"MSG  spaced   1    2\r\nab\r\n",
    b"HMSG talk.two 3 %d %d\r\n%bbody\r\n" % (len(HEAD), len(HEAD) + 4, HEAD),
    b"HMSG talk.two 3 _INBOX.x.1 %d %d\r\n%bMSG 1\r\n\r\n" % (len(HEAD), len(HEAD) + 7, HEAD),
    b"HMSG talk.three 4 16 16\r\nNATS/1.0 404\r\n\r\n\r\n",
    b"HMSG \x0b 4 16 16\r\nNATS/1.0 404\r\n\r\n\r\n",
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'Permissions Violation'\r\n",
    b"-ERR 'Unknown Protocol Operation'\r\n",
    b'INFO {"server_id": "one", "max_payload": 1048576}\r\n',
]


class Wire:
    """What a parser hands over."""

    def __init__(self) -> None:
        self.got: list[object] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.got.append((sid, subject, reply, data, headers or b""))

    async def _process_ping(self) -> None:
        self.got.append("ping")

    async def _process_pong(self) -> None:
        self.got.append("pong")

    async def _process_err(self, text: str) -> None:
        self.got.append(text.lower())  # the library's parser lower-cases it

    async def _process_info(self, info: dict[str, object]) -> None:
        self.got.append(info)


async def parsed(kind: type[Parser], reads: list[bytes]) -> list[object]:
    wire = Wire()
    parser = kind(wire)
    for read in reads:
        await parser.parse(read)
    assert not parser.buf
    return wire.got


async def test_a_stream_that_is_cut_anywhere_gives_the_same() -> None:
    stream = b"".join(LINES)
    expected = await parsed(Parser, [stream])
    assert len(expected) == len(LINES) - 1  # +OK says nothing

    for cut in range(1, len(stream)):
        assert await parsed(MessageParser, [stream[:cut], stream[cut:]]) == expected


@given(
    lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=12),
    cuts=st.lists(st.floats(0, 1), max_size=8),
)
async def test_any_stream_in_any_reads_gives_what_the_librarys_parser_gives(
    lines: list[bytes], cuts: list[float]
) -> None:
    stream = b"".join(lines)
    ends = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]

    got = await parsed(MessageParser, [stream[start:end] for start, end in pairwise(ends)])

    assert got == await parsed(Parser, [stream])


async def test_a_message_in_many_reads_comes_whole() -> None:
    body = bytes(range(256)) * 4096
    stream = b"MSG big 1 %d\r\n%b\r\n" % (len(body), body)
    reads = [stream[at : at + 1_000] for at in range(0, len(stream), 1_000)]

    assert await parsed(MessageParser, reads) == [(1, b"big", b"", body, b"")]


@pytest.mark.parametrize("line", [b"HELLO\r\n", b"MSG a 1\r\n", b"MSG a b c d e 5\r\n", b"HMSG a 1 x 5\r\n"])
async def test_what_is_no_line_of_the_protocol_is_refused_as_by_the_library(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        await parsed(MessageParser, [line])


async def test_errors_keep_their_case_whatever_is_read_with_them() -> None:
    class Errors(Wire):
        async def _process_err(self, text: str) -> None:
            self.got.append(text)

    stream = b"".join((b"-ERR 'One'\r\n", LINES[0], b"-ERR 'Two'\r\n-ERR 'Three'\r\nPONG\r\n", LINES[4]))
    for cut in range(len(stream)):
        wire = Errors()
        parser = MessageParser(wire)
        await parser.parse(stream[:cut])
        await parser.parse(stream[cut:])
        assert [got for got in wire.got if isinstance(got, str)] == ["'One'", "'Two'", "'Three'", "pong"]


async def test_an_error_while_a_message_is_handed_over_loses_none_of_the_next() -> None:
    class Clumsy(Wire):
        async def _process_msg(self, *message: object) -> None:
            self.got.append(message)
            if len(self.got) == 1:
                raise ValueError("bad")

    wire = Clumsy()
    parser = MessageParser(wire)
    with pytest.raises(ValueError, match="bad"):
        await parser.parse(LINES[0] + LINES[1])
    await parser.parse()

    assert [message[3] for message in wire.got if isinstance(message, tuple)] == [b"hello", b""]
