"""What is written in one turn leaves together, and before the end."""

import asyncio
from typing import cast

from infra.http.transport import CoalescingTransport


class Wire:
    """A transport that notes what is done to it."""

    def __init__(self) -> None:
        self.noted: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.noted.append(data)

    def close(self) -> None:
        self.noted.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.noted


async def a_turn() -> None:
    """Returns when whatever was to be called soon has been."""
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()


def gathered(wire: Wire) -> CoalescingTransport:
    return CoalescingTransport(cast(asyncio.Transport, wire), asyncio.get_running_loop())


async def test_what_is_written_in_one_turn_goes_out_together_and_in_order() -> None:
    wire = Wire()
    transport = gathered(wire)

    transport.write(b"head ")
    transport.write(b"body")
    assert wire.noted == []
    await a_turn()
    transport.write(b"next")
    await a_turn()

    assert wire.noted == [b"head body", b"next"]


async def test_nothing_written_is_lost_when_the_connection_is_closed_at_once() -> None:
    wire = Wire()
    transport = gathered(wire)

    transport.write(b"last words")
    transport.close()
    await a_turn()

    assert wire.noted == [b"last words", "closed"]
    assert transport.is_closing()
