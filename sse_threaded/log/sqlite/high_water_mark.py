"""The mark beside the log's file: how far the log has come, so that a file that goes back is noticed.

A file that went back (a backup was put into it, or its ``-wal`` was removed) would give numbers again that
clients have seen with other events. The file cannot know this, but it is behind its mark. On another machine the
mark is missing, and the file has another inode than it says. In all these cases its ids begin a new epoch.

Each transaction writes the mark before it commits, so the mark is never behind the file. Any thread of any process
may use it; a thread that writes it has the write lock of the log's file.
"""

from __future__ import annotations

import logging
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ..doorbell import make_folder
from ..event_id import new_epoch

_log = logging.getLogger(__name__)

# The key of sse_meta that says whether the mark was written. If it was and is missing, nobody knows how far the
# log had come.
_KEY = "mark"


class _Reading(NamedTuple):
    epoch: str
    settled: int  # all numbers up to this one belong to committed transactions
    promised: int  # a transaction that was about to commit had numbers up to this one

    def encode(self) -> bytes:
        # Always of the same length, as it is overwritten in place. The checksum shows a half-written one.
        text = b"%b %018d %018d" % (self.epoch.encode(), self.settled, self.promised)
        return b"%b %08x\n" % (text, zlib.crc32(text))


# What stands for a mark that this user may not read.
_UNKNOWN = _Reading("", 0, 0)

_FOR_BOTH = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC

_SIZE = len(_UNKNOWN._replace(epoch="letter").encode())


class Mark:
    """A log's epoch and newest numbers, in a hidden file among its doorbells.

    :param path: the log's file.
    """

    def __init__(self, path: str) -> None:
        self._log_path = path
        self._folder = path + "-bells"
        self._path = os.path.join(self._folder, ".mark")
        self._has_warned = False
        # What this process has promised last, which most often is what it finds. Guarded by the file's write lock.
        self._last, self._last_data = _UNKNOWN, b""

    def agrees(self, meta: dict[str, str], read_last: Callable[[], int]) -> bool:
        """Whether nothing is to be done: the file is the one it says it is, and did not go back. Needs no lock.

        :param meta: what the file says of itself.
        :param read_last: gives its newest number.
        """
        marked = self._read()
        last = read_last()  # after the mark: another process may append between the two
        if meta.get("inode") != self._inode() or _KEY not in meta:
            return False
        if marked is None:
            return meta[_KEY] == "no"
        if marked is _UNKNOWN:
            return True
        return meta[_KEY] == "yes" and marked.epoch == meta["epoch"] and marked.promised <= last

    def begin(self, meta: dict[str, str], known: str | None, last: int, *, wal_is_empty: bool) -> int | None:
        """Decide under the write lock whether the log goes on; put what has changed into ``meta``.

        Returns the number after which to go on, ``last`` or a later one; ``None`` if a known log begins anew.

        :param meta: what the file says of itself, complete; the caller writes it.
        :param known: the epoch that it had; ``None`` for a new file.
        :param last: its newest number.
        :param wal_is_empty: whether SQLite has nothing that is not in the file itself yet.
        """
        inode = self._inode()
        is_copy = meta.setdefault("inode", inode) != inode
        marked = self._read()
        if meta["epoch"] == known and not is_copy and not _is_past(marked, meta, last, wal_is_empty):
            if marked is _UNKNOWN:
                meta[_KEY] = "yes"
                return last
            # A promise whose transaction did not commit, or whose commit is gone: nobody gets that number again.
            reached = max(last, marked.promised) if marked else last
            meta[_KEY] = "yes" if self._replace(_Reading(known, reached, reached)) or marked else "no"
            return reached
        is_begun = meta["epoch"] != known  # already, for another reason
        epoch = meta["epoch"] if is_begun else new_epoch()
        is_written = self._replace(_Reading(epoch, last, last))
        if not is_written and not is_copy and marked:
            return last  # the next process would find the old mark, and begin another epoch
        meta.update({"inode": inode, "epoch": epoch, _KEY: "yes" if is_written else "no"})
        return last if is_begun else None

    def promise(self, epoch: str, number: int, settled: int | None) -> bool:
        """Note that a transaction is about to commit; returns whether that number can be given.

        It cannot where the log has had it already: then the file went back while it was in use.

        :param epoch: the log's, as far as this process knows.
        :param number: the newest event's in the transaction, which has the write lock.
        :param settled: numbers up to this one are known to be committed; ``None`` for not known.
        """
        try:
            # Not with _opened() and one call for each step: each append comes by here.
            descriptor = os.open(self._path, _FOR_BOTH)
            try:
                data = os.pread(descriptor, _SIZE, 0)
                marked = self._last if data == self._last_data else _decode(data)
                if marked is not None:
                    if marked.epoch != epoch or number <= marked.settled:
                        return False
                    settled = max(marked.settled, settled or 0)
                reading = _Reading(epoch, settled or 0, number)
                encoded = reading.encode()
                if len(data) == _SIZE and os.pwrite(descriptor, encoded, 0) == _SIZE:
                    self._last, self._last_data = reading, encoded
                    return True
            finally:
                os.close(descriptor)
        except OSError:
            pass
        self._replace(_Reading(epoch, settled or 0, number))
        return True

    def settle(self, epoch: str, last: int) -> None:
        """Note that the newest committed number is ``last``, and that nothing else is about to commit.

        The caller has the write lock.
        """
        with suppress(OSError), _opened(self._path, os.O_WRONLY) as descriptor:
            if _overwrite(descriptor, _Reading(epoch, last, last)):
                return
        self._replace(_Reading(epoch, last, last))

    def is_past(self, epoch: str, last: int) -> bool:
        """Whether others have gone on with another epoch, or beyond ``last``."""
        marked = self._read()
        return marked is not None and marked is not _UNKNOWN and (marked.epoch != epoch or marked.promised > last)

    def sync(self) -> None:
        """Let it outlast a power cut."""
        with suppress(OSError), _opened(self._path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)

    def is_settled(self, epoch: str, last: int) -> bool:
        """Whether it says so already."""
        return self._read() in (_Reading(epoch, last, last), _UNKNOWN)

    def is_ahead(self, epoch: str, read_last: Callable[[], int]) -> bool:
        """Whether the file went back while in use. Needs no lock.

        :param read_last: gives its newest number.
        """
        marked = self._read()
        if not marked or marked is _UNKNOWN:
            return False
        return marked.epoch != epoch or marked.settled > read_last()

    def _inode(self) -> str:
        return str(os.stat(self._log_path).st_ino)

    def _read(self) -> _Reading | None:
        try:
            with _opened(self._path, os.O_RDONLY) as descriptor:
                return _decode(os.pread(descriptor, _SIZE, 0))
        except PermissionError:
            return _UNKNOWN
        except OSError:
            return None

    def _replace(self, reading: _Reading) -> bool:
        """Make a new one that outlasts a power cut; returns whether that could be done."""
        new = f"{self._path}-{secrets.token_hex(4)}"
        try:
            mode = os.stat(self._log_path).st_mode & 0o666
            make_folder(self._folder, mode)
            with open(new, "xb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(reading.encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
            with _opened(self._folder, os.O_RDONLY) as folder:
                os.fsync(folder)
        except OSError as error:
            with suppress(OSError):
                os.unlink(new)
            if not self._has_warned:
                self._has_warned = True
                risk = "where the log's file goes back unnoticed, ids are given again"
                _log.warning("%s cannot be written (%s); %s", self._path, error, risk)
            return False
        return True


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _overwrite(descriptor: int, reading: _Reading) -> bool:
    """Write it in place, which takes a microsecond and no room on the disk; returns whether it has that form."""
    is_of_this_form = os.fstat(descriptor).st_size == _SIZE
    return is_of_this_form and os.pwrite(descriptor, reading.encode(), 0) == _SIZE


def _decode(data: bytes) -> _Reading | None:
    try:
        text = data.decode("ascii")
        if "-" in text:  # of an earlier release
            epoch, _, last = text.partition("-")
            return _Reading(epoch, int(last), int(last))
        epoch, settled, promised, _ = text.split()
        reading = _Reading(epoch, int(settled), int(promised))
    except ValueError:
        return None
    return reading if reading.encode() == data else None


def _is_past(marked: _Reading | None, meta: dict[str, str], last: int, wal_is_empty: bool) -> bool:
    """Whether a log that is there now cannot have left this mark."""
    if marked is None:
        return meta.get(_KEY) == "yes"
    if marked is _UNKNOWN:
        return False
    # A promise without its event: the process died before the commit, or what SQLite had committed was removed.
    is_lost = wal_is_empty and marked.promised > last
    return marked.epoch != meta["epoch"] or marked.settled > last or is_lost
