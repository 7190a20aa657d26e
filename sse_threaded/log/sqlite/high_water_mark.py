"""The high-water mark: a small file beside the log's file that says how far the log has come.

It shows when the log's file goes back: a person put a backup into it, or removed its ``-wal``. Such a file would
give numbers again that clients have seen with other events. The file itself cannot know this, but it is behind its
mark. On another machine there is no mark, and the file's inode differs from the one that the file says. In all
these cases the ids begin a new epoch.

Each transaction reserves its numbers in the mark before it commits, so the mark is never behind the file. Any
thread of any process may use the mark. A thread that writes it has the write lock of the log's file.
"""

from __future__ import annotations

import logging
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ...errors import LogUnusable
from ..doorbell import make_folder
from ..event_id import new_epoch

_log = logging.getLogger(__name__)

WENT_BACK = "a backup was put into the file while in use, or its mark was removed; restart the server"

# The name in sse_meta that says whether the mark was written. If it was and is missing now, it is unknown how far
# the log had come.
_KEY = "mark"


class _Content(NamedTuple):
    """The content of a mark."""

    epoch: str
    committed: int  # all numbers up to this one belong to committed transactions
    reserved: int  # a transaction that was about to commit had numbers up to this one
    may_roll_back: bool = False  # this transaction is the app's own, and the log does not know how it ends

    def encode(self) -> bytes:
        # The length is always the same, as it is overwritten in place. The checksum shows a half-written one.
        text = b"%b %018d %018d %d" % (self.epoch.encode(), self.committed, self.reserved, self.may_roll_back)
        return b"%b %08x\n" % (text, zlib.crc32(text))


# Stands for a mark that this user must not read.
_UNREADABLE = _Content("", 0, 0)

_READ_AND_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC

_SIZE = len(_UNREADABLE._replace(epoch="letter").encode())


class HighWaterMark:
    """A log's epoch and newest numbers, in a hidden file in the folder of its doorbells.

    :param path: the log's file.
    :param url: the log's, for messages.
    :ivar has_reserved: whether this process has reserved a number.
    :ivar went_back: whether the file went back while this process used it; then nothing may be appended.
    """

    def __init__(self, path: str, url: str) -> None:
        self.has_reserved = False
        self.went_back = False
        self._url = url
        self._log_path = path
        self._folder = path + "-bells"
        self._path = os.path.join(self._folder, ".mark")
        self._has_warned = False
        # The last reading that this process wrote, and its bytes; no file has the bytes ``None``. A process mostly
        # finds the same ones. The file's write lock guards both.
        self._last: _Content | None = None
        self._last_data: bytes | None = None

    # When a process opens the log.

    def agrees(self, meta: dict[str, str], read_last: Callable[[], int]) -> bool:
        """Whether the file is the one that it says, and did not go back. Needs no lock.

        :param meta: the values of the file's own table ``sse_meta``.
        :param read_last: returns its newest number.
        """
        mark = self._read()
        last = read_last()  # after the mark: another process may append between the two
        if meta.get("inode") != self._inode() or _KEY not in meta:
            return False
        if mark is None:
            return meta[_KEY] == "no"
        if mark is _UNREADABLE:
            return True
        return meta[_KEY] == "yes" and mark.epoch == meta["epoch"] and mark.reserved <= last

    def decide_epoch(
        self, meta: dict[str, str], known: str | None, last: int, *, wal_is_empty: bool
    ) -> int | None:
        """Decide under the write lock whether the log goes on or begins a new epoch; change ``meta`` accordingly.

        Returns the number after which the log goes on, ``last`` or a later one. It is ``None`` if the epoch of a
        known log ends here.

        :param meta: the values of the file's own table ``sse_meta``, complete; the caller writes them.
        :param known: the epoch that it had; ``None`` for a new file.
        :param last: its newest number.
        :param wal_is_empty: whether all that SQLite has committed is in the file itself.
        """
        inode = self._inode()
        is_copy = meta.setdefault("inode", inode) != inode
        mark = self._read()
        if meta["epoch"] == known and not is_copy and not _went_back(mark, meta, last, wal_is_empty):
            if mark is _UNREADABLE:
                meta[_KEY] = "yes"
                return last
            # Numbers that were reserved without a commit, or whose commit is gone: no event gets them again.
            reached = max(last, mark.reserved) if mark else last
            meta[_KEY] = "yes" if self._replace(_Content(known, reached, reached)) or mark else "no"
            return reached
        has_new_epoch = meta["epoch"] != known  # already, for another reason
        epoch = meta["epoch"] if has_new_epoch else new_epoch()
        is_written = self._replace(_Content(epoch, last, last))
        if not is_written and not is_copy and mark:
            return last  # the next process would find the old mark, and begin another epoch
        meta.update({"inode": inode, "epoch": epoch, _KEY: "yes" if is_written else "no"})
        return last if has_new_epoch else None

    # While the log is in use.

    def reserve(self, epoch: str, number: int, committed: int | None, *, may_roll_back: bool = False) -> None:
        """Write that a transaction is about to commit.

        :param epoch: the log's, as this process knows it.
        :param number: of the newest event in the transaction, which has the write lock.
        :param committed: numbers up to this one are known to be committed; ``None`` if that is not known.
        :param may_roll_back: whether the app ends this transaction, by a commit or not; default ``False``.
        :raises LogUnusable: the log has had this number: the file went back while it was in use.
        """
        self.has_reserved = True  # even if the commit fails: then close() takes the number back
        try:
            # Not with _opened() and a call for each step: each append does this.
            descriptor = os.open(self._path, _READ_AND_WRITE)
            try:
                data = os.pread(descriptor, _SIZE, 0)
                mark = self._last if data == self._last_data else _decode(data)
                if mark is not None:
                    if mark.epoch != epoch or number <= mark.committed:
                        self.went_back = True
                        raise LogUnusable(self._url, WENT_BACK)
                    committed = max(mark.committed, committed or 0)
                reading = _Content(epoch, committed or 0, number, may_roll_back)
                encoded = reading.encode()
                if len(data) == _SIZE and os.pwrite(descriptor, encoded, 0) == _SIZE:
                    self._last, self._last_data = reading, encoded
                    return
            finally:
                os.close(descriptor)
        except OSError:
            pass  # it is gone: write a new one, as the next process would begin an epoch without it
        self._replace(_Content(epoch, committed or 0, number, may_roll_back))

    def commit(self, epoch: str, last: int) -> None:
        """Write that the newest committed number is ``last``, and that no other transaction is about to commit.

        The caller has the write lock.
        """
        with suppress(OSError), _opened(self._path, os.O_WRONLY) as descriptor:
            if _overwrite(descriptor, _Content(epoch, last, last)):
                return
        self._replace(_Content(epoch, last, last))

    def sync(self) -> None:
        """Let the mark outlast a power cut. Call it outside of a transaction: it may take some milliseconds."""
        with suppress(OSError), _opened(self._path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)

    def is_up_to_date(self, epoch: str, last: int) -> bool:
        """Whether the mark says already that ``last`` is the newest committed number, or cannot be read."""
        return self._read() in (_Content(epoch, last, last), _UNREADABLE)

    def is_ahead(self, epoch: str, read_last: Callable[[], int]) -> bool:
        """Whether the mark is ahead of the file: the file went back while it was in use. Needs no lock.

        :param read_last: returns the file's newest number.
        """
        mark = self._read()
        if not mark or mark is _UNREADABLE:
            return False
        return mark.epoch != epoch or mark.committed > read_last()

    def is_beyond(self, epoch: str, last: int) -> bool:
        """Whether other processes have gone on with another epoch, or with numbers beyond ``last``."""
        mark = self._read()
        return mark is not None and mark is not _UNREADABLE and (mark.epoch != epoch or mark.reserved > last)

    def _inode(self) -> str:
        return str(os.stat(self._log_path).st_ino)

    def _read(self) -> _Content | None:
        try:
            with _opened(self._path, os.O_RDONLY) as descriptor:
                return _decode(os.pread(descriptor, _SIZE, 0))
        except PermissionError:
            return _UNREADABLE
        except OSError:
            return None

    def _replace(self, reading: _Content) -> bool:
        """Make a new mark that outlasts a power cut; returns whether that worked."""
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
                risk = "if the log's file goes back, no process notices, and ids are given again"
                fields = {"event": "mark_not_written", "error": type(error).__name__}
                _log.warning("%s cannot be written (%s); %s", self._path, error, risk, extra=fields)
            return False
        return True


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _overwrite(descriptor: int, reading: _Content) -> bool:
    """Write it in place, which takes a microsecond and no room on the disk.

    Returns ``False`` if the mark has another form, of an earlier release.
    """
    has_this_form = os.fstat(descriptor).st_size == _SIZE
    return has_this_form and os.pwrite(descriptor, reading.encode(), 0) == _SIZE


def _decode(data: bytes) -> _Content | None:
    try:
        text = data.decode("ascii")
        if "-" in text:  # written by an earlier release
            epoch, _, last = text.partition("-")
            return _Content(epoch, int(last), int(last))
        fields, _, checksum = text.rstrip("\n").rpartition(" ")
        epoch, committed, reserved, *rest = fields.split()  # an earlier release had no more
        if checksum == f"{zlib.crc32(fields.encode()):08x}" and text.endswith("\n"):
            return _Content(epoch, int(committed), int(reserved), rest == ["1"])
    except ValueError:
        pass
    return None


def _went_back(mark: _Content | None, meta: dict[str, str], last: int, wal_is_empty: bool) -> bool:
    """Whether the file is behind its mark, or has lost its mark."""
    if mark is None:
        return meta.get(_KEY) == "yes"
    if mark is _UNREADABLE:
        return False
    # A reserved number without its event: the process died before the commit, or the committed event was removed.
    # Or the app rolled its transaction back.
    is_lost = wal_is_empty and mark.reserved > last and not mark.may_roll_back
    return mark.epoch != meta["epoch"] or mark.committed > last or is_lost
