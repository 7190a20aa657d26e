"""Signals that tell a worker to end: its streams have their farewell before gunicorn's own handler runs."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from ..fanout.lifecycle import request_close_all
from . import versions

if TYPE_CHECKING:
    from types import FrameType

    from gunicorn.workers.base import Worker


def end_streams_on(signum: int, worker: Worker) -> None:
    """Begin the end of all streams when this signal comes, then call the handler that the signal has now.

    The worker's main thread calls this, and the handler.
    """
    previous: Any = signal.getsignal(signum)

    def end_at_once(signum: int, frame: FrameType | None) -> None:
        conclude = getattr(worker, "conclude_streams", None)
        if conclude is not None:  # a worker that parks
            conclude()
        previous(signum, frame)

    def handle(signum: int, frame: FrameType | None) -> None:
        # The main thread may be anywhere, also where it holds a lock: this takes none.
        request_close_all()
        call_soon = getattr(worker, "call_soon", None)
        if signum != signal.SIGTERM and call_soon is None:
            # gthread's handler for a quick end locks the thread pool. If it interrupts the main thread while that
            # gives the pool a connection, it waits for ever. Between two connections it cannot.
            call_soon = versions.gthread_call_soon(worker)
        if signum != signal.SIGTERM and call_soon is not None and worker.alive:
            call_soon(partial(end_at_once, signum, frame))
        else:
            previous(signum, frame)

    signal.signal(signum, handle)
    # As gunicorn does: a system call of a request at work goes on after SIGTERM.
    signal.siginterrupt(signum, signum != signal.SIGTERM)
