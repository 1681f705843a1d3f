"""An archive in a bucket, on a real S3-compatible store: objects whole or not at all, and no change unnoticed."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.archive import bucket as bucket_module
from infra.archive import credentials
from infra.archive.bucket import Bucket
from infra.archive.errors import ArchiveDamaged, ArchiveTaken, ArchiveUnreachable
from infra.archive.manifest import INDEX, ArchivedFile, GenerationManifest
from infra.archive.reader import Archive
from infra.archive.writing import described
from infra.broker.errors import ArchiveUnusable
from infra.broker.floor import archived_log
from infra.local.services import ROOT
from infra.settings import Settings, load
from tests.infra.archive.test_archive import SPAN, archived, bucket, told
from tests.object_store import BUCKET, KEY_ID, SECRET, ObjectStore, object_store

TLS = ROOT / "tests" / "infra" / "broker" / "tls"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with object_store(tmp_path / "store") as opened:
        for name, value in opened.env.items():
            monkeypatch.setenv(name, value)
        yield opened


@pytest.fixture
def place(store: ObjectStore, tmp_path: Path) -> Bucket:
    return bucket(store, tmp_path / "data")


def read(place: Bucket, manifest: GenerationManifest, *subjects: str) -> list[int]:
    return [one.sequence for chunk in Archive(place).read(manifest, subjects) for one in chunk]


# Writing --------------------------------------------------------------------------------------------------------------


def test_files_are_named_by_their_content_and_described_as_the_store_has_them(
    store: ObjectStore, place: Bucket
) -> None:
    manifest = archived(place)

    names = {f"EVENTS/{file.sha256}/{file.name}" for file in manifest.files}
    assert store.files().keys() == {*names, "EVENTS.json"}
    assert [place.described("EVENTS", file) for file in manifest.files] == manifest.files


def test_a_large_file_is_one_object_in_the_end(
    store: ObjectStore, place: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * (25 << 10)  # more than one piece of 5 MiB, the least that a store takes
    monkeypatch.setattr(bucket_module, "PIECE", 5 << 20)
    path = place.writing_folder("EVENTS") / "part-000.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    file = described(path)

    place.add("EVENTS", [file])

    assert list(store.files().values()) == [content]
    assert place.described("EVENTS", file) == file


def test_of_two_archivers_at_once_one_has_the_manifest(place: Bucket, store: ObjectStore, tmp_path: Path) -> None:
    archived(place)
    before = store.files()

    with pytest.raises(ArchiveTaken, match=r"EVENTS\.json is there already: another run has archived it meanwhile"):
        archived(bucket(store, tmp_path / "other"), found=[told(1)])

    assert store.files().items() >= before.items()  # the other one's files have other names
    place.publish("EVENTS.json", before["EVENTS.json"])  # a repeat, as after a lost answer, changes nothing
    assert store.files().items() >= before.items()


# Reading --------------------------------------------------------------------------------------------------------------


def test_an_index_is_fetched_once_and_the_least_used_ones_leave_the_cache(
    store: ObjectStore, place: Bucket, tmp_path: Path
) -> None:
    manifest = archived(place)
    cached = tmp_path / "data" / "archive-cache" / "files"
    for path in cached.iterdir():
        path.unlink()

    assert read(place, manifest, "point.charged.ann") == [*range(1, 11)]
    assert [path.name for path in cached.iterdir()] == [index_of(manifest).sha256]
    store.stop()
    assert place.whole("EVENTS", index_of(manifest)).read_bytes()[:6] == b"SQLite"

    store.start()
    small = bucket(store, tmp_path / "data", ARCHIVE_CACHE_BYTES=f"{1 << 20}")
    small._cache._most_bytes = 1
    later = archived(small, 1, [told(SPAN + 1)])
    assert [path.name for path in cached.iterdir()] == [index_of(later).sha256]
    assert read(small, manifest) == [*range(1, 11)]


def index_of(manifest: GenerationManifest) -> ArchivedFile:
    return next(file for file in manifest.files if file.name == INDEX)


def test_a_changed_copy_in_the_cache_is_fetched_again(store: ObjectStore, place: Bucket, tmp_path: Path) -> None:
    manifest = archived(place)
    (copy,) = (tmp_path / "data" / "archive-cache" / "files").iterdir()
    copy.write_bytes(b"x" * copy.stat().st_size)

    assert read(bucket(store, tmp_path / "data"), manifest) == [*range(1, 11)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "is missing. Put a copy of the archive back"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "of the archive"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "of the archive"),
    ],
    ids=["missing", "changed", "shorter"],
)
@pytest.mark.parametrize("name", ["part-000.jsonl.gz", INDEX])
def test_a_damaged_object_is_named(
    store: ObjectStore, place: Bucket, tmp_path: Path, name: str, damage: Callable[[Path], object], said: str
) -> None:
    manifest = archived(place)
    (object_,) = store.objects.glob(f"EVENTS/*/{name}")
    damage(object_)

    with pytest.raises(ArchiveDamaged, match=said) as raised:
        read(bucket(store, tmp_path / "fresh"), manifest)
    assert name in str(raised.value)
    assert not isinstance(raised.value, ArchiveUnreachable)


def test_a_manifest_that_is_missing_breaks_the_chain(store: ObjectStore, place: Bucket) -> None:
    archived(place)
    archived(place, 1, [told(SPAN + 1)])
    (store.objects / "EVENTS.json").unlink()

    with pytest.raises(ArchiveDamaged, match=r"EVENTS_1\.json, or the one before it, was changed or is missing"):
        Archive(place).look()


# A bucket that cannot be used -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another-secret"}, "403 SignatureDoesNotMatch. Check its credentials"),
        ({"AWS_ACCESS_KEY_ID": "AKIDOFNOBODY"}, "404 XAdminUserNotFound. Check its credentials"),
        ({"ARCHIVE_URL": "s3://another-bucket/saga"}, "404 NoSuchBucket. There is no such bucket: make it"),
    ],
    ids=["secret", "key", "bucket"],
)
def test_a_refusal_says_bucket_cause_and_next_step_and_no_secret(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], said: str
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    refused = bucket(store, tmp_path, **env)

    for ask in (
        refused.look,
        lambda: refused.read_manifests(["EVENTS.json"]),
        lambda: refused.publish("EVENTS.json", b""),
    ):
        with pytest.raises(ArchiveUnreachable, match=said) as raised:
            ask()
        text = str(raised.value)
        assert f"the archive's bucket {env.get('ARCHIVE_URL', f's3://{BUCKET}/')}" in text
        assert not [one for one in (SECRET, KEY_ID, *env.values()) if one in text.replace(refused.title, "")]
        assert raised.value.__cause__ is None  # its text has them
        assert "\n" not in text


@pytest.mark.parametrize("name", ["AWS_SKIP_SIGNATURE", "AWS_CHECKSUM_ALGORITHM", "AWS_SERVER_SIDE_ENCRYPTION"])
def test_a_variable_that_the_library_cannot_read_is_named_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = load(Settings, "nats", 4_222, {"ARCHIVE_URL": "s3://shop/saga", "DATA_DIR": str(tmp_path)})
    monkeypatch.setenv(name, "perhaps")

    with pytest.raises(ArchiveUnusable) as raised:
        archived_log(settings, "point")
    assert str(raised.value) == (
        f"the archive's bucket s3://shop/saga cannot be used: the value of {name} is none that the library takes. "
        "Correct or unset it, and start this again"
    )


def test_a_store_that_hangs_does_not_stop_the_threads_beside(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "READ_S", 0.5)
    monkeypatch.setattr(bucket_module, "RETRIES", 0)
    place = bucket(store, tmp_path)
    store.pause()
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(place.look)
        turns = 0
        while not looking.done():
            time.sleep(0.01)
            turns += 1
        assert isinstance(looking.exception(), ArchiveUnreachable)
    assert turns > 2  # a library that holds Python's lock while it waits gives one
    store.go_on()


def test_a_store_that_is_away_or_hangs_is_told_in_bounded_time(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_module, "READ_S", 0.3)
    monkeypatch.setattr(bucket_module, "RETRIES", 1)
    place = bucket(store, tmp_path)
    store.pause()
    with pytest.raises(ArchiveUnreachable, match=r"no answer in time\. Does its store run at ARCHIVE_ENDPOINT"):
        place.look()
    store.go_on()
    store.stop()
    with pytest.raises(ArchiveUnreachable, match="it takes no connection"):
        place.look()
    store.start()
    assert place.look() == []


def test_credentials_come_from_the_profile_in_awss_file(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials"
    path.write_text(f"[shop]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_PROFILE", "shop")

    assert bucket(store, tmp_path).look() == []


def test_the_file_is_not_read_for_each_request(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
    reads = []

    def read_profile() -> dict[str, str]:
        reads.append("read")
        return profile

    monkeypatch.setattr(credentials, "_profile", read_profile)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    place = bucket(store, tmp_path)
    place.look()
    reads.clear()

    until = time.monotonic() + 0.3  # within 0.1 s the library asks for no credentials anew, whenever they expire
    while time.monotonic() < until:
        place.look()
    assert reads == []


def test_a_store_with_a_certificate_of_an_unknown_authority_is_refused_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store(tmp_path / "store", TLS) as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)

        with pytest.raises(ArchiveUnreachable, match=r"its certificate is not accepted\. Set SSL_CERT_FILE"):
            bucket(store, tmp_path).look()
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "authority.pem"))
        assert bucket(store, tmp_path).look() == []


def test_a_store_is_not_asked_without_tls_by_the_librarys_variable(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.env["ARCHIVE_ENDPOINT"])

    with pytest.raises(ArchiveUnreachable, match=r"without TLS\. Set ARCHIVE_ENDPOINT in place of AWS_ENDPOINT_URL"):
        bucket(store, tmp_path, ARCHIVE_ENDPOINT="").look()


def test_a_cache_that_cannot_be_written_is_told(store: ObjectStore, place: Bucket, tmp_path: Path) -> None:
    manifest = archived(place)
    (tmp_path / "file").touch()

    with pytest.raises(ArchiveUnreachable, match=r"file/files.*, cannot be used: Not a directory\. Make room there"):
        read(bucket(store, tmp_path, ARCHIVE_CACHE_DIR=str(tmp_path / "file")), manifest)


# Whether it can be reached --------------------------------------------------------------------------------------------


async def test_a_bucket_that_can_be_read_is_reached_also_an_empty_one(place: Bucket) -> None:
    await place.ask()
    archived(place)
    await place.ask()


async def test_a_bucket_that_cannot_be_read_is_told_as_a_reader_tells_it(
    store: ObjectStore, place: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in ({"ARCHIVE_URL": "s3://another"}, {"ARCHIVE_ENDPOINT": "http://127.0.0.1:9"}):
        other = bucket(store, tmp_path / "data", **setting)
        with pytest.raises(ArchiveUnreachable) as read:
            other.look()
        with pytest.raises(ArchiveUnreachable) as reached:
            await other.ask()
        assert str(reached.value) == str(read.value)

    monkeypatch.setattr(bucket_module, "REACH_S", 0.05)
    store.pause()
    with pytest.raises(ArchiveUnreachable, match=r"cannot be used: no answer in time\. Does its store run"):
        await place.ask()
