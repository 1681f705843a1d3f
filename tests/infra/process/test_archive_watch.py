"""While the archive's bucket cannot be read, `/readyz` warns, and the log has a line when that begins and ends."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from infra.archive.errors import ArchiveUnreachable
from infra.archive.places import Folder
from infra.process.archive_watch import ArchiveWatch, watch
from infra.settings import Settings

AWAY = "the archive's bucket s3://a/b cannot be used: it takes no connection"


class Far(Folder):
    """A place that can be reached, or not."""

    near = False
    away = False

    async def ask(self) -> None:
        if self.away:
            raise ArchiveUnreachable(AWAY)


def running(**settings: Any) -> Any:
    return SimpleNamespace(settings=Settings(port=1, **settings), closing=asyncio.Event(), warnings=[], tasks=[])


async def test_it_warns_while_the_place_is_away(tmp_path: Path) -> None:
    place, runtime = Far(tmp_path), running()
    watched = ArchiveWatch(runtime, place)
    told, lines = [], []
    for place.away in (False, True, True, False):
        with capture_logs() as logged:
            await watched.ask()
        told.append([text for source in runtime.warnings for text in source()])
        lines.append([line["event"] for line in logged])

    assert told == [[], [AWAY], [AWAY], []]
    assert lines == [[], ["the archive cannot be read"], [], ["the archive can be read again"]]


async def test_it_asks_until_the_process_closes(tmp_path: Path) -> None:
    place, runtime = Far(tmp_path), running()
    place.away = True
    watched = ArchiveWatch(runtime, place)
    runtime.closing.set()

    (run,) = runtime.tasks
    await run()

    assert watched.warnings() == [AWAY]


async def test_a_folder_needs_no_watch(tmp_path: Path) -> None:
    runtime = running(archive_dir=str(tmp_path))

    watch(runtime)

    assert (runtime.warnings, runtime.tasks) == ([], [])
