"""Reads facts in several generations of the stream, as one history."""

from collections.abc import AsyncIterator, Sequence

from infra.broker.leader import Leader, Published


async def read_back(leaders: Sequence[Leader], subject: str, end: int | None = None) -> AsyncIterator[list[Published]]:
    """Yield the facts on this subject in lists, the last list first: back from the sequence `end`, included.

    Within a list they are in stream order. `end` None: from the stream's end. `leaders` are those of the generations,
    the oldest first; `end` is in the last of them. See `Leader.read_back`.
    """
    for leader in reversed(leaders):
        async for facts in leader.read_back(subject, end):
            yield facts
        end = None


async def read_on(leaders: Sequence[Leader], subject: str, begin: int = 0) -> AsyncIterator[list[Published]]:
    """Yield the facts on this subject from the sequence `begin` on, in the stream's order. See `Leader.read_on`.

    `leaders` are those of the generations, the oldest first.
    """
    for leader in leaders:
        async for facts in leader.read_on(subject, max(begin, leader.first_sequence)):
            yield facts
