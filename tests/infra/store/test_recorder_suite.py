"""The `eventsourcing` library's own recorder tests, run against our SQLite store."""

import tempfile
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from eventsourcing.tests import persistence as suite

from tests.infra.store.recorder import SyncAggregateRecorder, SyncApplicationRecorder

R = TypeVar("R", bound=SyncAggregateRecorder)


class _OnAFileOfOurs(suite.RecorderTestCase):
    """Streams are named by text, not by UUIDs."""

    def new_originator_id(self) -> str:
        return f"test-{uuid4()}"

    def opened(self, recorder: type[R]) -> R:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        opened = recorder(Path(folder.name) / "events.sqlite")
        self.addCleanup(opened.close)
        return opened


class TestAsAnAggregateRecorder(_OnAFileOfOurs, suite.AggregateRecorderTestCase):
    def create_recorder(self) -> SyncAggregateRecorder:
        return self.opened(SyncAggregateRecorder)


class TestAsAnApplicationRecorder(_OnAFileOfOurs, suite.ApplicationRecorderTestCase[SyncApplicationRecorder]):
    def create_recorder(self) -> SyncApplicationRecorder:
        return self.opened(SyncApplicationRecorder)
