"""Answers questions for the streams of this process.

The pump's thread sees each question. A thread of its own answers, as an append may wait; it ends after that.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable

from ..errors import LogError
from ..log import EventLog, Record
from ..log.retention import MESSAGES
from ..protocol.event import json_line
from ..throttled_log import ThrottledLog
from .report import ProcessReport, StreamRow, answer, question_in

_log = logging.getLogger(__name__)
_throttled = ThrottledLog(_log)

# Returns how many streams there are, how many events wait for them, the id of the newest event that was
# handed out, and so many rows.
Look = Callable[[int], tuple[int, int, str, tuple[StreamRow, ...]]]


class Answering:
    """Answers the questions that come to one process.

    :param log: the log.
    :param look: looks at the streams of this process.
    """

    def __init__(self, log: EventLog, look: Look) -> None:
        self._eventlog = log
        self._look = look
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Begin again as another process. The threads of the parent are not here."""
        self._process = secrets.token_hex(4)
        self._lock = threading.Lock()  # guards the two below
        self._questions: dict[str, int] = {}  # how many rows each question wants
        self._is_answering = False

    def take(self, record: Record) -> None:
        """See a message between the processes. The pump's thread; it does not wait."""
        asked = question_in(record.data)
        if asked is None:
            return
        name, most = asked
        with self._lock:
            self._questions[name] = most
            if self._is_answering:
                return
            self._is_answering = True
        try:
            threading.Thread(target=self._answer_all, name="sse_threaded overview", daemon=True).start()
        except RuntimeError:  # the system gives no more threads; who asks sees that this process is missing
            with self._lock:
                self._questions.clear()
                self._is_answering = False

    def _answer_all(self) -> None:
        while True:
            with self._lock:
                if not self._questions:
                    self._is_answering = False
                    return
                name, most = self._questions.popitem()
            try:
                self._eventlog.append(MESSAGES, json_line(answer(name, self._report(most))))
            except LogError as error:
                fields = {"event": "overview_failed", "error": type(error).__name__}
                _throttled.warning(
                    "overview", "a question about the streams could not be answered: %s", error, extra=fields
                )
            except Exception:  # a defect, and later questions must be answered
                text = "a question about the streams could not be answered"
                _log.exception(text, extra={"event": "overview_failed"})

    def _report(self, most: int) -> ProcessReport:
        streams, waiting, position, rows = self._look(most)
        return ProcessReport(self._process, socket.gethostname(), os.getpid(), streams, waiting, position, rows)
