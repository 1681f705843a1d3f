"""`orders archive --copy-to`: a generation is in the other place whole, read back, or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.archive.bucket import Bucket
from infra.settings import SettingsError
from ops.archive.copying import copy
from ops.errors import Found, Unreachable
from ops.progress import ProgressLines
from tests.infra.archive.test_archive import SPAN, archived, told
from tests.object_store import ObjectStore, object_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with object_store(tmp_path / "store") as opened:
        for name, value in opened.env.items():
            monkeypatch.setenv(name, value)
        yield opened


@pytest.fixture
def env(store: ObjectStore, tmp_path: Path) -> dict[str, str]:
    """Of a system with two archived generations in its folder."""
    folder = tmp_path / "data" / "archive"
    archived(folder)
    archived(folder, 1, [told(SPAN + 1)])
    return {"DATA_DIR": str(tmp_path / "data"), "ARCHIVE_ENDPOINT": store.env["ARCHIVE_ENDPOINT"]}


async def copied(env: dict[str, str], to: str, through: str | None = None) -> list[str]:
    return await copy(env, to, through, ProgressLines())


def manifests(store: ObjectStore) -> list[str]:
    return sorted(name for name in store.files() if name.endswith(".json"))


async def test_what_is_there_already_is_not_copied_again(env: dict[str, str], store: ObjectStore) -> None:
    url = store.env["ARCHIVE_URL"]

    assert await copied(env, url, "EVENTS") == ["EVENTS"]
    assert manifests(store) == ["EVENTS.json"]
    assert await copied(env, url) == ["EVENTS_1"]
    assert await copied(env, url) == []
    assert manifests(store) == ["EVENTS.json", "EVENTS_1.json"]


async def test_a_copy_that_is_not_what_was_read_gets_no_manifest(
    env: dict[str, str], store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Bucket._put

    def damaged(self: Bucket, key: str, path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        put(self, key, path)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "_put", damaged)
        with pytest.raises(Found, match=r"s3://.*part-000\.jsonl\.gz is not what its manifest says: EVENTS was not"):
            await copied(env, store.env["ARCHIVE_URL"])
    assert manifests(store) == []

    assert await copied(env, store.env["ARCHIVE_URL"]) == ["EVENTS", "EVENTS_1"]


async def test_a_damaged_file_is_not_copied(env: dict[str, str], store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "data" / "archive" / "EVENTS_1" / "part-000.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(Found, match=r"EVENTS_1/part-000\.jsonl\.gz is not what its manifest says: EVENTS_1 was not"):
        await copied(env, store.env["ARCHIVE_URL"])

    assert manifests(store) == ["EVENTS.json"]


class Killed(BaseException):
    """The process is killed here."""


@pytest.mark.parametrize("name", ["_put", "described", "publish"])
async def test_a_copy_goes_on_after_a_kill(
    env: dict[str, str], store: ObjectStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, name, killed)
        with pytest.raises(Killed):
            await copied(env, store.env["ARCHIVE_URL"])
    assert manifests(store) == []

    assert await copied(env, store.env["ARCHIVE_URL"]) == ["EVENTS", "EVENTS_1"]


async def test_another_archive_stays_as_it_is(env: dict[str, str], store: ObjectStore, tmp_path: Path) -> None:
    other = tmp_path / "other"
    archived(other, found=[told(7)])
    before = {path: path.read_bytes() for path in other.rglob("*.*")}

    with pytest.raises(Found, match=r"other has another archive, with another EVENTS: name an empty place"):
        await copied(env, str(other))

    assert {path: path.read_bytes() for path in other.rglob("*.*") if path.name != ".lock"} == before


async def test_what_cannot_be_meant_is_refused(env: dict[str, str], store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="EVENTS_7 is not in the archive"):
        await copied(env, store.env["ARCHIVE_URL"], "EVENTS_7")
    with pytest.raises(SettingsError, match="name another place"):
        await copied(env, str(tmp_path / "data" / "archive"))
    with pytest.raises(SettingsError, match="ARCHIVE_URL is no address of a bucket"):
        await copied(env, "s3://")
    store.stop()
    with pytest.raises(Unreachable, match="it takes no connection"):
        await copied(env, store.env["ARCHIVE_URL"])
