"""Moves files and folders as one change."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from infra import files
from ops.errors import Unusable


class Move(NamedTuple):
    """A file or folder to be renamed from `old` to `new`; nothing may be at `new` yet."""

    old: Path
    new: Path


class HalfMoved(Unusable):
    """Not all was moved, and something could not be moved back. The message says what to move where."""


def move_all(moves: Sequence[Move]) -> None:
    """Make all moves, in their order and durably. The folders of the new places are made.

    If one fails (OSError) or is interrupted, those before it are moved back, folders of new places that are then empty
    are removed, and the exception is raised. Raises HalfMoved if one cannot be moved back.
    """
    done: list[Move] = []
    folders = {path.parent for move in moves for path in move}
    try:
        for move in moves:
            files.make_folder(move.new.parent)
            files.rename(move.old, move.new)
            done.append(move)
        for folder in folders:
            files.sync_folder(folder)
    except BaseException as error:
        _undo(done, error)
        for folder in folders:
            with contextlib.suppress(OSError):  # what failed may have been a sync
                files.sync_folder(folder)
        for move in moves:
            with contextlib.suppress(OSError):  # something is in it
                move.new.parent.rmdir()
        raise


def _undo(done: Sequence[Move], error: BaseException) -> None:
    left = []
    for move in reversed(done):
        try:
            files.rename(move.new, move.old)
        except OSError:
            left.append(f"{move.new} to {move.old}")
    if left:
        raise HalfMoved(f"{error}; what was moved before could not be moved back: move {', '.join(left)}") from error
