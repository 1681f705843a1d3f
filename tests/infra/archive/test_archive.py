"""Files and manifests of the archive: what is written is read back, byte for byte, and no change goes unnoticed."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.archive.bucket import Bucket
from infra.archive.errors import ArchiveDamaged
from infra.archive.lines import ArchivedMessage, line, messages
from infra.archive.manifest import (
    FORMAT,
    ArchivedFile,
    ArchivedLog,
    GenerationManifest,
    LogRange,
    NameCount,
    chain_of,
    encoded,
    file_name,
    log_of,
    missing_before,
)
from infra.archive.places import ArchivePlace, Folder
from infra.archive.reader import Archive, Block
from infra.archive.writing import FileWriter
from infra.settings import Settings, load
from tests.object_store import ObjectStore, object_store

HEAD = b"NATS/1.0\r\nNats-Msg-Id: account-ann@1\r\nOdd: \xff\r\n\r\n"
SPAN = 1_000_000_000


def told(n: int, subject: str = "point.charged.ann", body: bytes = b"{}", head: bytes = HEAD) -> ArchivedMessage:
    return ArchivedMessage(n, subject, body, head, 1_700_000_000_000_000_000 + n)


def runs(*pairs: tuple[int, int], last_id: str = "account-ann@9") -> LogRange:
    return LogRange([*pairs], sum(last - first + 1 for first, last in pairs), last_id)


def archived(
    at: Path | ArchivePlace,
    number: int = 0,
    found: list[ArchivedMessage] | None = None,
    logs: dict[str, LogRange] | None = None,
    *,
    block: int = 3,
) -> GenerationManifest:
    """Archive these messages as a generation, after those that are archived already."""
    archive = Archive(at)
    stream = "EVENTS" if number == 0 else f"EVENTS_{number}"
    found = [told(n) for n in range(1, 11)] if found is None else found
    with FileWriter(archive.place.writing_folder(stream), block_messages=block, part_bytes=200) as writer:
        writer.add(found)
        files = writer.finish()
    archive.place.add(stream, files)
    names = {one.subject.rpartition(".")[0]: one for one in found}
    previous = archive.last_digest
    manifest = GenerationManifest(
        format=FORMAT,
        number=number,
        stream=stream,
        created="then",
        archived_at="now",
        first_sequence=found[0].sequence,
        last_sequence=found[-1].sequence,
        messages=len(found),
        foreign=0,
        removed=0,
        logs=logs or {"point": runs((1, 10))},
        names={
            name: NameCount(
                sum(one.subject.rpartition(".")[0] == name for one in found), last.sequence, last.stored_ns // 1_000
            )
            for name, last in names.items()
        },
        files=files,
        previous=previous,
        chain=chain_of(previous, files),
    )
    archive.place.publish(file_name(stream), encoded(manifest))
    return manifest


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArchivePlace]:
    """Where an archive is: a folder, or a bucket of a real store."""
    if request.param == "folder":
        yield Folder(tmp_path / "archive")
        return
    with object_store(tmp_path / "store") as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        yield bucket(store, tmp_path)


def bucket(store: ObjectStore, data_dir: Path, **env: str) -> Bucket:
    return Bucket(load(Settings, "nats", 4_222, {**store.env, "DATA_DIR": str(data_dir), **env}))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"a":"\xea\xb0\x80"}', b"\xff\xfe", b"\n\r\x00\x85"])
@pytest.mark.parametrize("head", [b"", HEAD, b"NATS/1.0\r\nA: b\r\n\r\n"])
def test_a_message_comes_back_byte_for_byte(body: bytes, head: bytes) -> None:
    message = told(7, "point.\\xff.ann", body, head)

    assert messages(line(message).splitlines()) == [message]
    assert line(message).count(b"\n") == 1


def test_what_is_text_is_text_in_the_file(tmp_path: Path) -> None:
    archived(tmp_path, found=[told(1, body=b'{"at":"now"}', head=b"NATS/1.0\r\nA: b\r\n\r\n")])

    (text,) = gzip.decompress((tmp_path / "EVENTS" / "part-000.jsonl.gz").read_bytes()).splitlines()

    assert json.loads(text)["body"] == '{"at":"now"}'


def test_all_messages_are_read_in_their_order_over_blocks_and_parts(place: ArchivePlace) -> None:
    manifest = archived(place)

    assert [one.name for one in manifest.files][:2] == ["part-000.jsonl.gz", "part-001.jsonl.gz"]
    read = [one for chunk in Archive(place).read(manifest) for one in chunk]
    assert read == [told(n) for n in range(1, 11)]


def test_a_key_is_found_by_the_index_alone(place: ArchivePlace) -> None:
    found = [told(n, f"order.confirmed.o{n % 5}") for n in range(1, 31)]
    manifest = archived(place, found=found, block=1)
    archive = Archive(place)

    assert len(archive.blocks(manifest, ["o3"])) == 6
    read = [
        one.sequence for chunk in archive.read(manifest, ["order.confirmed.o3", "order.canceled.o3"]) for one in chunk
    ]
    assert read == [3, 8, 13, 18, 23, 28]
    assert not list(archive.read(manifest, ["order.confirmed.nobody"]))


def test_bounds_and_wildcards_select(place: ArchivePlace) -> None:
    found = [told(n, ("order.confirmed.x", "point.used.x")[n % 2]) for n in range(1, 11)]
    manifest = archived(place, found=found)
    archive = Archive(place)

    def read(*subjects: str, **bounds: int) -> list[int]:
        return [one.sequence for chunk in archive.read(manifest, subjects, **bounds) for one in chunk]

    assert read("point.>") == read("*.used.x") == [1, 3, 5, 7, 9]
    assert read("point.used.*", first=4, last=7) == [5, 7]
    assert read(first=4, last=5) == [4, 5]
    assert read(since_ns=found[7].stored_ns) == [8, 9, 10]


# The chain ------------------------------------------------------------------------------------------------------------


def test_without_a_manifest_nothing_is_archived(tmp_path: Path) -> None:
    with FileWriter(tmp_path / "EVENTS") as writer:
        writer.add([told(1)])
        writer.finish()

    archive = Archive(tmp_path)
    assert (archive.manifests, archive.first_kept, archive.log_of("point")) == ([], 0, ArchivedLog())
    assert Archive(tmp_path / "none").first_kept == 0


def test_a_manifest_is_found_once_it_is_there(place: ArchivePlace) -> None:
    archive = Archive(place)
    assert archive.first_kept == 0
    archived(place)
    archive.look()
    assert archive.first_kept == 1
    archived(place, 1, [told(SPAN + 1)], {"point": runs((11, 11), last_id="account-ann@11")})
    archive.look()
    assert (archive.first_kept, archive.log_of("point")) == (2, ArchivedLog(11, 11, "account-ann@11"))
    assert archive.manifests[1].previous
    assert [one.number for one in archive.manifests] == [0, 1]


def test_generations_are_in_the_order_of_their_numbers(place: ArchivePlace) -> None:
    for number in range(12):
        archived(place, number, [told(number * SPAN + 1)])

    assert [one.number for one in Archive(place).manifests] == [*range(12)]


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda folder: (folder / "EVENTS.json").unlink(),
            "EVENTS_1.json, or the one before it, was changed or is missing",
        ),
        (
            lambda folder: changed(folder / "EVENTS.json", '"messages": 10', '"messages": 11'),
            "EVENTS_1.json, or the one",
        ),
        (lambda folder: changed(folder / "EVENTS_1.json", '"sha256": "', '"sha256": "0'), "EVENTS_1.json, or the one"),
        (lambda folder: (folder / "EVENTS_1.json").write_bytes(b"{"), "EVENTS_1.json cannot be read"),
        (lambda folder: changed(folder / "EVENTS_1.json", '"format": 1', '"format": 2'), "format 2, and this version"),
        (lambda folder: (folder / "EVENTS_2.json").write_bytes((folder / "EVENTS.json").read_bytes()), "EVENTS_2.json"),
        (lambda folder: (folder / "EVENTS_2.json").symlink_to(folder / "not mounted"), "EVENTS_2.json cannot be read"),
    ],
)
def test_a_changed_manifest_is_refused_with_the_next_step(
    tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    archived(tmp_path)
    archived(tmp_path, 1, [told(SPAN + 1)])
    damage(tmp_path)

    with pytest.raises(ArchiveDamaged, match=said):
        _ = Archive(tmp_path).manifests


def test_a_folder_that_cannot_be_read_is_told_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "archive").touch()

    with pytest.raises(ArchiveDamaged, match=r"archive cannot be read: Not a directory\. Put a copy of the archive"):
        _ = Archive(tmp_path / "archive").manifests


def test_other_files_in_the_folder_are_no_manifests(tmp_path: Path) -> None:
    archived(tmp_path)
    for name in ("notes.json", "EVENTS.json.json", "EVENTS_01.json", "EVENTS copy.json", ".json"):
        (tmp_path / name).write_text("{}")

    assert [one.number for one in Archive(tmp_path).manifests] == [0]


@pytest.mark.parametrize("name", ["part-000.jsonl.gz", "index.sqlite"])
@pytest.mark.parametrize("content", [None, b"", b"not what it was"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes | None) -> None:
    manifest = archived(tmp_path)
    path = tmp_path / "EVENTS" / name
    path.unlink() if content is None else path.write_bytes(content)

    with pytest.raises(ArchiveDamaged, match=f"{name} of the archive cannot be read"):
        list(Archive(tmp_path).read(manifest))


def test_a_line_that_is_nested_too_deeply_is_damage(tmp_path: Path) -> None:
    manifest = archived(tmp_path)
    name, nested = "part-000.jsonl.gz", b"[" * 100_000 + b"]" * 100_000
    content = gzip.compress(b'{"sequence":1,"stored_ns":2,"subject":"a.b","more":%b}' % nested)
    (tmp_path / "EVENTS" / name).write_bytes(content)

    with pytest.raises(ArchiveDamaged, match=rf"{name} of the archive cannot be read: .*\. Put a copy of the archive"):
        Archive(tmp_path).block(manifest, Block(name, 0, len(content), 1, 1, 2))


# Logs -----------------------------------------------------------------------------------------------------------------


def test_a_log_is_archived_up_to_its_first_gap(tmp_path: Path) -> None:
    first = archived(tmp_path, 0, logs={"point": runs((1, 4), (7, 10))})
    assert log_of([first], "point") == ArchivedLog(4, 10, "account-ann@9")
    assert missing_before([first], first) == ["position 5 of point_svc's log"]

    second = archived(tmp_path, 1, [told(SPAN + 1)], {"point": runs((5, 6), (11, 12), last_id="account-ann@12")})
    assert log_of([first, second], "point") == ArchivedLog(12, 12, "account-ann@12")
    assert missing_before([first, second], first) == missing_before([first, second], second) == []
    assert log_of([first, second], "coupon") == ArchivedLog()


def test_the_chain_has_every_file() -> None:
    one = ArchivedFile("a", 1, "00")

    assert len({chain_of("", []), chain_of("", [one]), chain_of("x", [one]), chain_of("", [one, one])}) == 4
