"""Files in memory of which a power cut leaves what was synced.

What is promised is what ext4 promises, and no more:
- fsync of a file keeps its data, and its name with all that was done to names before: the journal is written in order;
- fsync of a folder keeps what was done to its names, and all that was done to names before;
- a file renamed over another one has its data on the disk before the name changes (auto_da_alloc);
- nothing else is kept. No data is written back because time has passed, which is the worst that a disk may do.
A cut with luck keeps more: some of the names, and of each file the first of its writes, the last of them torn.
"""

import errno
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from stat import S_IFDIR, S_ISDIR
from typing import Final, NamedTuple

from tests.chaos.fuse import Attributes

ROOT: Final = 1  # the kernel's number for where it is mounted


class Write(NamedTuple):
    """Bytes at an offset; or, without any, the file's new size."""

    offset: int
    data: bytes | None

    def to(self, content: bytearray) -> None:
        if self.data is None:
            del content[self.offset :]
            content.extend(bytes(self.offset - len(content)))
        else:
            content.extend(bytes(max(0, self.offset - len(content))))
            content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(eq=False)
class Node:
    """A file or folder. `names` and `content` are its present state; `kept` and `synced` outlive a power cut."""

    number: int
    mode: int
    machine: str
    """The folder below the root, with a power supply of its own, to which it belongs; empty: the root's."""
    links: int = 1
    looked_up: int = 0
    changed_s: int = 0
    names: dict[bytes, tuple[int, "Node"]] = field(default_factory=dict)
    """By name: its place in a listing, and its node."""
    kept: dict[bytes, "Node"] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[Write] = field(default_factory=list)

    @property
    def is_folder(self) -> bool:
        return S_ISDIR(self.mode)

    @property
    def attributes(self) -> Attributes:
        return Attributes(self.number, len(self.content), self.mode, self.links, self.changed_s)

    def sync(self) -> None:
        for write in self.unsynced:
            write.to(self.synced)
        self.unsynced.clear()


class Change(NamedTuple):
    """An entry of the journal: these names of these folders got these nodes (None: the name was removed)."""

    names: tuple[tuple[Node, bytes, Node | None], ...]
    content: bytes | None = None
    """The content of the node that took another one's name."""

    def concerns(self, node: Node) -> bool:
        return any(node in (folder, found) for folder, _, found in self.names)

    def keep(self) -> None:
        for folder, name, found in self.names:
            if found is None:
                folder.kept.pop(name, None)
            else:
                folder.kept[name] = found
                if self.content is not None:
                    found.synced[:] = self.content
                    found.unsynced.clear()


class Volatile:
    """A `tests.chaos.fuse.Files`. Each folder below the root is a machine's disk."""

    def __init__(self, machines: list[str]) -> None:
        self._nodes: dict[int, Node] = {}
        self._last_number = ROOT - 1
        self._last_place = 0
        self._journals: dict[str, list[Change]] = {machine: [] for machine in machines}
        self.full: set[str] = set()
        """Machines whose disk takes no more writes."""
        self.lost_writes = 0
        """The number of writes that power cuts have dropped so far."""
        root = self._new(S_IFDIR | 0o755, "")
        for machine in machines:
            self._name(root, machine.encode(), self._new(S_IFDIR | 0o755, machine))

    # Files ------------------------------------------------------------------------------------------------------------

    def attributes(self, node: int) -> Attributes:
        return self._node(node).attributes

    def look_up(self, folder: int, name: bytes) -> Attributes:
        found = self._named(self._node(folder), name)
        found.looked_up += 1
        return found.attributes

    def forget(self, node: int, times: int) -> None:
        found = self._nodes.get(node)
        if found is not None and found.number != ROOT:
            found.looked_up -= times
            self._let_go(found)

    def make(self, folder: int, name: bytes, mode: int) -> Attributes:
        parent = self._node(folder)
        self._must_have_room(parent)
        if name in parent.names:
            raise OSError(errno.EEXIST, "exists")
        if not parent.machine:
            raise OSError(errno.EPERM, "the machines are given")
        made = self._new(mode, parent.machine)
        made.looked_up = 1
        self._name(parent, name, made)
        self._journals[parent.machine].append(Change(((parent, name, made),)))
        return made.attributes

    def remove(self, folder: int, name: bytes, *, is_folder: bool) -> None:
        parent = self._node(folder)
        found = self._named(parent, name)
        if found.is_folder != is_folder:
            raise OSError(errno.ENOTDIR if is_folder else errno.EISDIR, "of the other kind")
        if found.names:
            raise OSError(errno.ENOTEMPTY, "not empty")
        if not parent.machine:
            raise OSError(errno.EPERM, "the machines are given")
        del parent.names[name]
        self._journals[parent.machine].append(Change(((parent, name, None),)))
        found.links = 0
        self._let_go(found)

    def rename(self, folder: int, name: bytes, to_folder: int, to_name: bytes) -> None:
        parent, to_parent = self._node(folder), self._node(to_folder)
        found, replaced = self._named(parent, name), to_parent.names.get(to_name)
        if parent.machine != to_parent.machine or not parent.machine:
            raise OSError(errno.EXDEV, "another machine")
        if replaced is not None and replaced[1].names:
            raise OSError(errno.ENOTEMPTY, "not empty")
        if replaced is not None and replaced[1] is found:
            return
        del parent.names[name]
        self._name(to_parent, to_name, found)
        content = None if replaced is None or found.is_folder else bytes(found.content)
        self._journals[parent.machine].append(Change(((parent, name, None), (to_parent, to_name, found)), content))
        if replaced is not None:
            replaced[1].links = 0
            self._let_go(replaced[1])

    def set_mode(self, node: int, mode: int) -> None:
        found = self._node(node)
        found.mode = found.mode & ~0o7777 | mode & 0o7777

    def resize(self, node: int, size: int) -> None:
        self._do(self._node(node), Write(size, None))

    def read(self, node: int, offset: int, size: int) -> bytes:
        return bytes(self._node(node).content[offset : offset + size])

    def write(self, node: int, offset: int, data: bytes) -> None:
        found = self._node(node)
        self._must_have_room(found)
        self._do(found, Write(offset, data))

    def sync(self, node: int) -> None:
        found = self._node(node)
        found.sync()
        if not found.machine:
            return
        journal = self._journals[found.machine]
        last = max((n for n, change in enumerate(journal, 1) if change.concerns(found)), default=0)
        for change in journal[:last]:
            change.keep()
        del journal[:last]

    def entries(self, folder: int, after: int) -> Iterator[tuple[int, bytes, Attributes]]:
        for name, (place, found) in list(self._node(folder).names.items()):
            if place > after:
                yield place, name, found.attributes

    # Power ------------------------------------------------------------------------------------------------------------

    def cut(self, machine: str, luck: random.Random | None = None) -> None:
        """Cut the power of this machine; no process may have a file of it open. All that is left is synced, in new
        nodes.

        With `luck` some of the unsynced writes are left, too.
        """
        journal = self._journals[machine]
        for change in journal[: luck.randint(0, len(journal)) if luck else 0]:
            change.keep()
        journal.clear()
        (_, root) = self._nodes[ROOT].names[machine.encode()]
        left = self._left(root, luck)
        root.names, root.kept = left.names, left.kept

    def _left(self, node: Node, luck: random.Random | None) -> Node:
        content, kept = bytearray(node.synced), 0
        if luck and node.unsynced:
            kept = luck.randint(0, len(node.unsynced))
            for write in node.unsynced[:kept]:
                write.to(content)
            if kept < len(node.unsynced) and (torn := node.unsynced[kept]).data:
                Write(torn.offset, torn.data[: luck.randrange(len(torn.data))]).to(content)
        self.lost_writes += len(node.unsynced) - kept
        left = self._new(node.mode, node.machine)
        left.content, left.synced = content, bytearray(content)
        for name, found in node.kept.items():
            child = self._left(found, luck)
            left.kept[name] = child
            self._name(left, name, child)
        return left

    # Nodes ------------------------------------------------------------------------------------------------------------

    def _new(self, mode: int, machine: str) -> Node:
        self._last_number += 1
        node = self._nodes[self._last_number] = Node(self._last_number, mode, machine, changed_s=int(time.time()))
        return node

    def _node(self, number: int) -> Node:
        try:
            return self._nodes[number]
        except KeyError:
            raise OSError(errno.ESTALE, "lost in a power cut") from None

    def _named(self, folder: Node, name: bytes) -> Node:
        try:
            return folder.names[name][1]
        except KeyError:
            raise OSError(errno.ENOENT, "no such name") from None

    def _name(self, folder: Node, name: bytes, node: Node) -> None:
        self._last_place += 1
        folder.names.pop(name, None)
        folder.names[name] = (self._last_place, node)

    def _let_go(self, node: Node) -> None:
        """Drop a node that is not visible any more. The folders that keep its name still have what a cut would leave of
        it.
        """
        if node.links == 0 and node.looked_up <= 0:
            self._nodes.pop(node.number, None)

    def _do(self, node: Node, write: Write) -> None:
        write.to(node.content)
        node.unsynced.append(write)
        node.changed_s = int(time.time())

    def _must_have_room(self, node: Node) -> None:
        if node.machine in self.full:
            raise OSError(errno.ENOSPC, "full")
