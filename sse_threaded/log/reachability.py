"""Whether the server of a log answers, as the threads of one process find out.

While it does not answer, one thread tries and all others fail at once. Otherwise they would occupy the app's
threads, which requests without a log need.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import LogError


class Reachability:
    """Whether one server answers its client. Any thread may call the methods.

    :param forget: how many seconds after its last failure the server counts as reachable again.
    :param refusal: makes the error for a thread that does not try, as another one does.
    """

    def __init__(self, forget: float, refusal: Callable[[], LogError]) -> None:
        self._forget = forget
        self._refusal = refusal
        # Since when the server has not answered, and when that was last seen (monotonic). A call that may try
        # again does so for a time after the first of these. Of the other calls, the one that has
        # the lock finds out whether the server is back.
        self._away_since: float | None = None
        self._away_at = 0.0
        self._trying = threading.Lock()

    @contextmanager
    def attempt(self, retry_for: float) -> Iterator[float]:
        """Call the server in the block; gives for how many seconds to try again, if it does not answer.

        :param retry_for: the same, if it was reachable until now.
        :raises LogError: another thread tries.
        """
        since, now = self._away_since, time.monotonic()
        if since is not None and now - self._away_at > self._forget:
            since = self._away_since = None
        if since is not None:
            retry_for = max(0.0, retry_for - (now - since))
        tries = since is not None and not retry_for
        if tries and not self._trying.acquire(blocking=False):
            self._away_at = now
            raise self._refusal()
        try:
            yield retry_for
        finally:
            if tries:
                self._trying.release()

    def note_answer(self) -> None:
        """Note that the server answers. A refusal is an answer, too."""
        self._away_since = None

    def note_silence(self) -> None:
        """Note that the server does not answer."""
        self._away_at = time.monotonic()
        if self._away_since is None:
            self._away_since = self._away_at
