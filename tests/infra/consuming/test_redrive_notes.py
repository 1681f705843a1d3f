"""What is noted of redrives: a message of DEAD that is no dead letter, one for a key, whatever others write there."""

from datetime import UTC, datetime

import msgspec
import pytest

from infra.broker.stored import StoredMessage
from infra.consuming.dead_letter import DEAD, PREFIX, stream_config
from infra.consuming.redrive_notes import RedriveNote, by_letter, note_in, put_note
from infra.consuming.stored_dead_letters import read, read_notes
from infra.settings import Settings, load
from tests.shop import Shop

AT = datetime(2026, 1, 31, tzinfo=UTC)
NOTE = RedriveNote(7, 2, AT, "a try", "ValueError: no")


def stored(subject: str, body: bytes) -> StoredMessage:
    return StoredMessage(9, subject, body, b"", 0)


def test_a_note_is_read_as_it_was_written() -> None:
    assert note_in(stored("dead.point.k1.redriven", msgspec.json.encode(NOTE))) == NOTE
    assert by_letter([NOTE]) == {7: NOTE}


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b"[" * 5_000, b'{"letter":"x"}'])
def test_what_is_no_note_is_a_dead_letter(body: bytes) -> None:
    assert note_in(stored("dead.point.k1.redriven", body)) is None
    assert note_in(stored("dead.point.k1", msgspec.json.encode(NOTE))) is None


def note(letter: int, reason: str, times: int = 1) -> RedriveNote:
    return RedriveNote(letter, times, AT, reason, "ValueError: no")


async def test_a_note_counts_the_redrives_of_one_dead_letter_and_is_replaced(broker: Shop) -> None:
    async with broker.broker() as nc:
        js = nc.jetstream()
        await js.add_stream(stream_config(load(Settings, "point", 8003, broker.env)))
        one, other = f"{PREFIX}.point.k1", f"{PREFIX}.point.k2"
        await js.publish(one, b"{}", headers={"Dead-Attempts": "4"})
        await put_note(nc, js, one, note(1, "first"))
        await put_note(nc, js, other, note(5, "other"))
        await put_note(nc, js, one, note(1, "second"))
        assert [found async for found in read_notes(nc)] == [note(5, "other"), note(1, "second", times=2)]

        await put_note(nc, js, one, note(2, "third"))
        await put_note(nc, js, f"{PREFIX}.point.*", note(9, "a wildcard"))
        assert [found async for found in read_notes(nc)] == [note(5, "other"), note(2, "third")]

        await put_note(nc, js, other, None)
        await put_note(nc, js, other, None)
        assert [found async for found in read_notes(nc)] == [note(2, "third")]
        assert [found.sequence async for found in read(nc, f"{PREFIX}.>")] == [1]
        assert (await js.stream_info(DEAD)).state.messages == 2
