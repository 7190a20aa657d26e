"""gunicorn's server hooks, for its own gthread worker: a stream budget, and a farewell on every kind of end.

In ``gunicorn.conf.py``::

    from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit

An app with hooks of its own calls these from them. All runs in a worker's main thread.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from .process import close_all_when, hubs, parking_budget, process_budget, request_close_all
from .server.passthrough import joining

if TYPE_CHECKING:
    from types import FrameType

    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

# Threads kept for ordinary requests: an eighth of the pool, and two at least, as gunicorn may lend one for
# five seconds to a connection that has not sent its request yet.
_LEAST_RESERVE = 2
_RESERVE_SHARE = 8


def stream_limit(threads: int) -> int:
    """How many of a worker's ``threads`` streams may hold; 64 give 56, fewer than three give none."""
    return max(0, threads - max(_LEAST_RESERVE, threads // _RESERVE_SHARE))


def post_worker_init(worker: Worker, *, parks: bool = False) -> None:
    """Set the stream budget from ``threads``, and end streams when the worker is told to end.

    :param parks: whether the worker parks streams, so that they need connections and not threads; default
        ``False``.

    gunicorn calls no hook on SIGTERM, it waits up to ``graceful_timeout`` for responses to end by themselves.
    """
    if getattr(worker, "sse_threaded_ready", False):
        return  # the worker class has done it
    worker.sse_threaded_ready = True
    if parks:
        # A connection that holds a stream is one less for ordinary requests.
        parking_budget.limit = max(1, worker.worker_connections - max(_LEAST_RESERVE, worker.cfg.threads))
    else:
        worker.wsgi = joining(worker.wsgi)
    process_budget.limit = stream_limit(worker.cfg.threads)
    if process_budget.limit == 0 and not parks:
        worker.log.warning(
            "No streams: %s thread(s) a worker leave none beside ordinary requests; give it --threads 8 or more",
            worker.cfg.threads,
        )
    for hub in hubs():
        if hub.url == "memory://" and worker.cfg.workers > 1:
            worker.log.warning(
                "memory:// is in one process: of what one of %s workers publishes the pages of the others get "
                "nothing; write Hub('sqlite:///events.db'), or --workers 1",
                worker.cfg.workers,
            )
        own = hub.own_limit
        if own is not None and own > process_budget.limit and not parks:
            worker.log.warning(
                "max_streams=%s of %r leaves too few of %s threads for ordinary requests; %s are safe",
                own,
                hub,
                worker.cfg.threads,
                process_budget.limit,
            )
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        _chain(worker, signum)
    # max_requests and the loss of the master come without a signal.
    close_all_when(lambda: not worker.alive or os.getppid() != worker.ppid)


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """End what is still open, and close the log."""
    for hub in hubs():
        hub.close(timeout=1.0)


def _chain(worker: Worker, signum: int) -> None:
    previous: Any = signal.getsignal(signum)

    def handle(signum: int, frame: FrameType | None) -> None:
        # The main thread may be anywhere, also inside a lock: this takes none.
        request_close_all()
        queue = getattr(worker, "method_queue", None)
        if signum != signal.SIGTERM and queue is not None and worker.alive:
            # gthread's handler for a quick end locks the thread pool, for ever if it interrupts the main thread
            # in the midst of handing a connection to that pool; between two connections it cannot.
            queue.defer(previous, signum, frame)
        else:
            previous(signum, frame)

    signal.signal(signum, handle)
    # As gunicorn sets it: a system call of a request in flight goes on after SIGTERM.
    signal.siginterrupt(signum, signum != signal.SIGTERM)
