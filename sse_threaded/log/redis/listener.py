"""The newest events of a Redis log in the memory of this process, brought by one connection and one thread.

The thread waits in ``XREAD`` and rings when something came. It is the process's one listening connection: when
that is cut off, or Redis restarts, it connects anew and goes on from where it was; meanwhile :meth:`Feed.page`
says so.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from itertools import islice
from operator import attrgetter

from redis import exceptions

from ...errors import HistoryGone, LogError, LogUnavailable
from ..doorbell import Doorbell
from ..record import Page, Record, page_of
from .client import RedisServer, SharedServer
from .scripts import NEW_EPOCH, STATE

_log = logging.getLogger(__name__)

# Milliseconds that one XREAD waits. An answer that does not come shows a cut connection, and after each of them
# the thread looks whether Redis is still the same.
_BLOCK_MS = 1000
_NO_WAIT = None

# Entries of one answer: an entry may have a megabyte.
_ENTRIES = 16

# How many are kept, for a pump that is busy, and how many characters.
_KEPT, _KEPT_CHARACTERS = 2000, 8 * 1024 * 1024

# The greatest second part of an entry's id.
_LAST_ENTRY = 2**64 - 1

# Seconds between two tries to connect, doubling from the first to the last, each of them between a half and one
# and a half: all processes lose the same server at once.
_FIRST_RETRY, _LAST_RETRY = 0.05, 2.0

# Seconds until the Sentinels are asked again who the master is; where they did not answer, as that may take
# seconds in which no event comes.
_MASTER_LOOK, _NO_SENTINEL = 1.0, 30.0


class Gaps:
    """The gaps in a log's numbers, each where a server may have lost what it had acknowledged.

    :param text: as the scripts return them.
    """

    def __init__(self, text: bytes = b"") -> None:
        # The last number before each, and the last in it.
        self._bounds: dict[int, int] = {}
        for gap in text.split(b",") if text else ():
            before, _, last = gap.partition(b":")
            self._bounds[int(before)] = int(last)

    def hold(self, sequence: int) -> bool:
        """Whether the event with this number is lost."""
        return any(before < sequence < last for before, last in self._bounds.items())

    def follows(self, sequence: int, before: int) -> bool:
        """Whether nothing can be missing between the two."""
        while sequence != before + 1 and before in self._bounds:
            before = self._bounds[before]
        return sequence == before + 1


class Feed:
    """What comes, for one log.

    :param server: whose connections are the feed's own.
    :param others: that of all others; it hears when Redis answers again, and when the master is another.
    :param on_new_epoch: called where Redis has begun anew; :meth:`renew` is to follow.
    """

    def __init__(self, server: RedisServer, others: SharedServer, on_new_epoch: Callable[[], None]) -> None:
        self._server = server
        self._others = others
        self._on_new_epoch = on_new_epoch
        self._begin()

    def _begin(self) -> None:
        self._stop = threading.Event()
        # Guards all below.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next_look = 0.0  # at who the master is (monotonic)
        self._doorbells: list[Doorbell] = []
        self._failure: str | None = None
        self.renew(None)

    def renew(self, epoch: str | None) -> None:
        """Go on with another epoch: what came so far is of a log that is gone."""
        with self._lock:
            self._epoch = epoch
            self._records: list[Record] = []
            self._length = 0  # characters
            # They hold all that came after the first number, up to the second; None as long as that is not known.
            self._start: int | None = None
            self._end: int | None = None
            # The newest number there was, when Redis was last looked at: from here, and by anybody.
            self._announced = self._expected = 0
            self.gaps = Gaps()

    @property
    def is_running(self) -> bool:
        """Whether somebody listens."""
        return self._thread is not None

    def start(self, epoch: str) -> Doorbell:
        """A new doorbell; the first starts the thread."""
        doorbell = Doorbell()
        if self._thread is None:
            self.renew(epoch)
        with self._lock:
            self._doorbells = [bell for bell in self._doorbells if not bell.closed] + [doorbell]
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sse_threaded listener", daemon=True)
                thread.start()
                self._thread = thread
        return doorbell

    def page(self, after: int) -> Page | None:
        """One page of what came after ``after``, ``None`` if the log itself must be asked.

        :raises HistoryGone: ``after`` is not in the log any more: another server took over, without it.
        :raises LogUnavailable: nothing more is here, and Redis cannot be reached.
        """
        with self._lock:
            if self._start is not None and self._end is not None:
                if after > max(self._end, self._expected) or self.gaps.hold(after):
                    raise HistoryGone("beyond")
                if after < self._start:
                    return None
                first = bisect_right(self._records, after, key=attrgetter("sequence"))
                if first < len(self._records):
                    return page_of(islice(self._records, first, None))
            if self._failure is not None:
                raise LogUnavailable(self._server.url, self._failure)
        return Page()

    def is_to_have(self, last: int) -> None:
        """Take note that Redis has events up to this number, some of which may not have come yet."""
        with self._lock:
            self._expected = max(self._expected, last)

    def ring(self) -> None:
        """Wake who listens here."""
        for doorbell in self._doorbells:
            doorbell.ring()

    def stop(self) -> None:
        """End the thread, which may take a second; idempotent."""
        self._stop.set()

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread stayed with the parent."""
        self._server.after_fork_in_child()
        self._lock = threading.Lock()
        self._begin()

    # The thread.

    def _run(self) -> None:
        wait = _FIRST_RETRY
        while not self._stop.is_set():
            try:
                self._look()
                self._listen(_NO_WAIT)
                self._recover()
                wait = _FIRST_RETRY
                while not self._stop.is_set():
                    self._listen(_BLOCK_MS)
                    self._look_for_master()
            except Exception as error:
                # Whatever it is, streams wait and this goes on.
                self._server.close()
                self._fail(error)
                self._stop.wait(wait * (0.5 + secrets.randbelow(1000) / 1000))
                wait = min(wait * 2, _LAST_RETRY)
        self._server.close()

    def _recover(self) -> None:
        with self._lock:
            recovered = self._failure is not None
            self._failure = None
        if recovered:
            self._others.is_back()
            self.ring()

    def _look_for_master(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        try:
            changed = self._server.look_for_master()
        except (exceptions.RedisError, OSError):
            self._next_look = now + _NO_SENTINEL
            return
        self._next_look = now + _MASTER_LOOK
        if changed:
            self._others.let_go()
            self._look()

    def _fail(self, error: Exception) -> None:
        error = error if isinstance(error, LogError) else self._server.meaning(error)
        if not isinstance(error, LogError):
            _log.error("the listener failed", exc_info=error)
        with self._lock:
            self._failure = error.reason if isinstance(error, LogError) else "the listener failed"
        self.ring()

    def _look(self, *, idle: bool = False) -> None:
        """See whether the log is still the one it was, and has what came from it."""
        epoch = self._epoch
        try:
            last, gaps = self._server.run(STATE, [epoch])
        except exceptions.ResponseError as error:
            if NEW_EPOCH not in str(error):
                raise
            self._on_new_epoch()
            self.ring()
            self._stop.wait(_FIRST_RETRY)  # until who has the old epoch in hand is done with it
            return
        with self._lock:
            if epoch != self._epoch:
                return
            self.gaps = Gaps(gaps)
            last = int(last)
            # Nothing comes though there is something: who trimmed the feed, or evicted it?
            stuck = idle and self._end is not None and self._end < self._announced
            if stuck and self.gaps.follows(last + 1, self._end or 0):
                stuck = False  # the next will come from behind a gap
            if self._end is None or self._end > last or self.gaps.hold(self._end) or stuck:
                self._restart(last)
            self._announced = self._expected = last
        if not idle:
            self.ring()

    def _listen(self, wait: int | None) -> None:
        epoch, end = self._epoch, self._end
        if end is None:
            self._look()
            return
        feed = f"{self._server.meta.removesuffix('meta')}{epoch}:feed"
        answer = self._server.newest(feed, f"{end}-{_LAST_ENTRY}", _ENTRIES, wait)
        if not answer:
            if wait is not None:
                self._look(idle=True)
            return
        records = [record_of(entry, fields) for entry, fields in answer]
        if not self._add(epoch, records):
            self._look()  # numbers may have been left out on purpose
            if not self._add(epoch, records):
                with self._lock:
                    self._restart(records[-1].sequence)
        self.ring()

    def _add(self, epoch: str | None, records: list[Record]) -> bool:
        """Take in what came, if nothing is missing before or in it; returns whether that is so."""
        with self._lock:
            if epoch != self._epoch or self._end is None:
                return True  # it is of no interest any more
            before = self._end
            for record in records:
                if not self.gaps.follows(record.sequence, before):
                    return False
                before = record.sequence
            self._records += records
            self._length += sum(len(record.data) for record in records)
            self._end = before
            while len(self._records) > 1 and (len(self._records) > _KEPT or self._length > _KEPT_CHARACTERS):
                half = len(self._records) // 2
                self._start = self._records[half - 1].sequence
                self._length -= sum(len(record.data) for record in self._records[:half])
                del self._records[:half]
            return True

    # With the lock held.

    def _restart(self, position: int) -> None:
        self._records = []
        self._length = 0
        self._start = self._end = position


def record_of(entry: bytes, fields: dict[bytes, bytes], channel: str | None = None) -> Record:
    """The event in an entry of a stream."""
    event = fields.get(b"e")
    return Record(
        int(entry.partition(b"-")[0]),
        fields[b"c"].decode() if channel is None else channel,
        None if event is None else event.decode(),
        fields[b"d"].decode(),
    )
