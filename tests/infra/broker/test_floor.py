"""When a service asks the archive's bucket, and what it may go on with while the bucket is away."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from nats.js.api import StreamConfig, StreamInfo, StreamState

from infra.archive.errors import ArchiveDamaged, ArchiveUnreachable
from infra.archive.places import Folder
from infra.archive.reader import Archive
from infra.broker import archive_label, floor
from infra.broker.client import BrokerClient
from infra.broker.errors import BrokerMisconfigured
from infra.broker.floor import check_archive, is_archived, look_if_behind
from infra.broker.numbering import stream_name
from infra.settings import Settings
from tests.infra.archive.test_archive import SPAN, archived, told

NC = cast(BrokerClient, None)
STATE = StreamState(messages=0, bytes=0, first_seq=0, last_seq=0, consumer_count=0)


class Far(Folder):
    """A place that is asked over a network, which may be down; it counts the looks."""

    near = False

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = False
        self.looks = 0

    def look(self) -> list[tuple[str, str]]:
        assert threading.current_thread() is not threading.main_thread(), "it stops the loop"
        self.looks += 1
        if self.away:
            raise ArchiveUnreachable("the bucket is away")
        return super().look()


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Far:
    async def none(*_: object) -> None:
        """The broker has no such message."""

    monkeypatch.setattr(archive_label, "stored_message", none)
    return Far(tmp_path)


def infos(far: Far, *numbers: int, labelled: int | None = None) -> list[StreamInfo]:
    """These generations, the newest with the label that generation `labelled` left the broker."""
    found = [StreamInfo(StreamConfig(stream_name(n), metadata={}), STATE, created=datetime.now(UTC)) for n in numbers]
    if labelled is not None:
        digest = Archive(far.path).digest_of(labelled)
        found[-1].config.metadata = {archive_label.KEY: f"{stream_name(labelled)} {digest}"}
    return found


async def test_a_process_asks_once_and_then_only_if_the_streams_say_that_more_is_archived(far: Far) -> None:
    archive = Archive(far)
    await look_if_behind(NC, archive, infos(far, 0))
    await look_if_behind(NC, archive, infos(far, 0, 1))
    assert far.looks == 1

    archived(far.path)
    await look_if_behind(NC, archive, infos(far, 0, 1))  # its stream is still there
    assert (far.looks, archive.first_kept) == (1, 0)
    await look_if_behind(NC, archive, infos(far, 1, labelled=0))
    await look_if_behind(NC, archive, infos(far, 1, labelled=0))
    assert (far.looks, archive.first_kept) == (2, 1)


@pytest.mark.parametrize(
    ("numbers", "labelled"),
    [([], None), ([1], None), ([0, 1], 0)],
    ids=["no stream", "the first is gone", "the first is there again"],
)
async def test_while_the_bucket_is_away_nothing_is_taken_for_lost(
    far: Far, numbers: Sequence[int], labelled: int | None
) -> None:
    archive = Archive(far)
    await look_if_behind(NC, archive, infos(far, 0))
    archived(far.path)
    far.away = True

    await look_if_behind(NC, archive, infos(far, 0))  # as far as is known, all is there
    with pytest.raises(ArchiveUnreachable):
        await look_if_behind(NC, archive, infos(far, *numbers, labelled=labelled))
    far.away = False
    await look_if_behind(NC, archive, infos(far, *numbers, labelled=labelled))
    assert archive.first_kept == 1


async def test_a_start_without_the_bucket_waits_also_if_nothing_is_archived(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(far)
    monkeypatch.setattr(floor, "archive_of", lambda _: archive)
    far.away = True

    with pytest.raises(BrokerMisconfigured, match="the bucket is away"):
        await check_archive(NC, Settings(port=1), infos(far, 0))
    far.away = False
    await check_archive(NC, Settings(port=1), infos(far, 0))


async def test_a_generation_that_is_gone_is_asked_for_unless_it_is_known(
    far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(far)
    monkeypatch.setattr(floor, "archive_of", lambda _: archive)
    await asyncio.to_thread(archive.look)
    archived(far.path)

    assert (await is_archived(Settings(port=1), 0), far.looks) == (True, 2)
    far.away = True
    assert (await is_archived(Settings(port=1), 0), far.looks) == (True, 2)
    with pytest.raises(BrokerMisconfigured, match="the bucket is away"):
        await is_archived(Settings(port=1), 1)
    far.away = False
    archived(far.path, 1, [told(SPAN + 1)])
    assert await is_archived(Settings(port=1), 1)
    assert not await is_archived(Settings(port=1), 2)


async def test_another_archive_is_refused_after_a_look(far: Far, tmp_path: Path) -> None:
    archived(far.path)
    other = Archive(Far(tmp_path / "other"))

    with pytest.raises(ArchiveDamaged, match=r"EVENTS is archived, but the archive .*/other has not that one"):
        await look_if_behind(NC, other, infos(far, 1, labelled=0))
