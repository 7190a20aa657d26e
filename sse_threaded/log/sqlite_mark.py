"""Backups that are put back: noticed by a mark beside the log's file that says how far it had come.

A file that was set back gives numbers again which clients have seen with other events, and cannot know it. But it
is behind its mark; and on another machine, where that is not, it is another file than it says of itself. Then its
ids begin a new epoch.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress

from .base import new_epoch


class Mark:
    """How far a log has come: its epoch and its newest number, in a hidden file among its doorbells.

    Any process may write it, and nobody reads half of one.

    :param path: the log's file.
    """

    def __init__(self, path: str) -> None:
        self._log = path
        self._path = os.path.join(path + "-bells", ".mark")
        self._is_mine = True  # whether this process may write it, as far as is known

    def agrees(self, meta: dict[str, str], read_last: Callable[[], int]) -> bool:
        """Whether nothing is to be begun: the file is the one it says it is, and was not set back.

        :param meta: what the file says of itself.
        :param read_last: gives its newest number.
        """
        marked = self._read()
        # The number after the mark, which may be another process's of just now.
        return meta.get("inode") == self._inode() and not _is_past(marked, meta["epoch"], read_last())

    def begin(self, meta: dict[str, str], known: str | None, last: int) -> bool:
        """Put a new epoch into ``meta`` if the file is a copy or was set back; returns whether it did.

        :param meta: what the file says of itself, complete; the caller has its write lock, and writes it.
        :param known: the epoch that it had; ``None`` for a new file.
        :param last: its newest number.
        """
        inode = self._inode()
        is_copy = meta.setdefault("inode", inode) != inode
        marked = self._read()
        if not is_copy and not _is_past(marked, meta["epoch"], last):
            return False
        is_begun = meta["epoch"] != known
        epoch = meta["epoch"] if is_begun else new_epoch()
        self._is_mine = self._write(epoch, last) or marked is None
        if not is_copy and not self._is_mine:
            return False  # the next process would find the old mark, and begin another epoch
        meta.update(inode=inode, epoch=epoch)
        return not is_begun

    def leave(self, epoch: str, read_last: Callable[[], int]) -> bool:
        """Write down how far the log has come; returns whether it was set back instead, while in use.

        :param read_last: gives its newest number.
        """
        if not self._is_mine:
            return False
        marked = self._read()
        last = read_last()  # after the mark, as above
        if _is_past(marked, epoch, last):
            return True
        if marked is None or marked[1] < last:
            self._write(epoch, last)
        return False

    def _inode(self) -> str:
        return str(os.stat(self._log).st_ino)

    def _read(self) -> tuple[str, int] | None:
        try:
            with open(self._path, encoding="ascii") as file:
                epoch, last = file.read().split("-")
            return epoch, int(last)
        except (OSError, ValueError):
            return None

    def _write(self, epoch: str, last: int) -> bool:
        new = f"{self._path}-{secrets.token_hex(4)}"
        try:
            with open(new, "x", encoding="ascii") as file:
                file.write(f"{epoch}-{last}")
            os.replace(new, self._path)
        except OSError:
            with suppress(OSError):
                os.unlink(new)
            return False
        return True


def _is_past(marked: tuple[str, int] | None, epoch: str, last: int) -> bool:
    """Whether a log that is there now cannot have left this mark."""
    return marked is not None and (marked[0] != epoch or marked[1] > last)
