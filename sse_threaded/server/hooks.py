"""gunicorn's server hooks, for its own gthread and gevent workers: a stream budget, and a farewell at every end.

In ``gunicorn.conf.py``::

    from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit

An app with hooks of its own calls these from them. All runs in a worker's main thread.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import SafeAtoms
from gunicorn.workers.base_async import AsyncWorker

from ..fanout.lifecycle import (
    close_all_when,
    has_greenlets,
    hubs,
    parking_budget,
    process_budget,
    request_close_all,
)
from .access_atoms import OneLineAtoms
from .capacity import connection_limit, file_limit, kept_connections, stream_limit
from .request_body import checked
from .transparent_wrappers import joining

if TYPE_CHECKING:
    from types import FrameType

    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

# Where gunicorn counts streams as requests: how many times all streams should fit into max_requests.
_RESTART_FACTOR = 10

# Seconds that streams have at a worker's end, all hubs together.
_LAST_SECONDS = 1.0


def post_worker_init(worker: Worker, *, parks: bool = False) -> None:
    """Set the stream budget from ``threads`` and connections, and end streams when the worker is told to end.

    gevent's workers have no threads. There the budget comes from ``worker_connections``.

    :param parks: whether the worker parks streams, so that they need connections and not threads; default
        ``False``.

    gunicorn calls no hook on SIGTERM, it waits up to ``graceful_timeout`` for responses to end by themselves.
    """
    if getattr(worker, "sse_threaded_ready", False):
        return  # the worker class has done it
    worker.sse_threaded_ready = True
    if has_greenlets() and not isinstance(worker, AsyncWorker):
        worker.log.error(
            "The app has replaced threads by greenlets (monkey.patch_all), and this worker needs threads; "
            "leave that call out, or use gunicorn -k gevent"
        )
    for hub in hubs():
        hub.begin_anew_if_needed()
    _set_budgets(worker, parks)
    if getattr(worker.log, "atoms_wrapper_class", None) is SafeAtoms:
        worker.log.atoms_wrapper_class = OneLineAtoms
    if not parks:
        worker.wsgi = joining(checked(worker.wsgi))
        _warn_of_restarts(worker)
    _warn_of_hubs(worker, parks)
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        _chain(worker, signum)
    # max_requests and the loss of the master come without a signal.
    close_all_when(lambda: not worker.alive or os.getppid() != worker.ppid)


def _set_budgets(worker: Worker, parks: bool) -> None:
    threads = worker.cfg.threads
    # gunicorn's sync and tornado workers have no such number, as they answer one request at a time.
    connections: int = getattr(worker, "worker_connections", 1)
    files = file_limit()
    if files is not None:
        connections = min(connections, connection_limit(files))
    places, kind = _places(worker)
    kept = kept_connections(connections, threads)
    # A connection that holds a stream is one less for ordinary requests.
    process_budget.limit = min(stream_limit(places), connections - kept)
    if parks:
        parking_budget.limit = connections - kept
        worker.log.info(
            "Up to %s streams: %s of %s connections are kept for other requests",
            parking_budget.limit,
            kept,
            connections,
        )
        if not parking_budget.limit:
            worker.log.warning("No streams: %s connection(s) leave none; raise worker_connections", connections)
    elif process_budget.limit:
        worker.log.info(
            "Up to %s streams: %s of %s %ss are kept for other requests, and %s of %s connections",
            process_budget.limit,
            places - stream_limit(places),
            places,
            kind,
            kept,
            connections,
        )
    else:
        worker.log.warning(
            "No streams: %s %s(s) a worker leave none beside ordinary requests; give it --%ss 8 or more",
            places,
            kind,
            kind,
        )


def _places(worker: Worker) -> tuple[int, str]:
    """What a stream takes one of where it does not park: how many there are, and what they are."""
    # gevent's workers have no threads: each connection has a greenlet.
    if isinstance(worker, AsyncWorker):
        return worker.worker_connections, "worker-connection"
    return worker.cfg.threads, "thread"


def _warn_of_restarts(worker: Worker) -> None:
    # gunicorn counts a request before it calls the app, and a stream like any other. sse_threaded.worker does not.
    most, limit = worker.max_requests, process_budget.limit or 0
    if most < limit * _RESTART_FACTOR:
        worker.log.warning(
            "max_requests=%s is low for the %s streams a worker may hold: each one that returns counts, so "
            "workers may restart again and again; set it to %s or more, or use sse_threaded.worker.ThreadWorker",
            most,
            limit,
            limit * _RESTART_FACTOR,
        )


def _warn_of_hubs(worker: Worker, parks: bool) -> None:
    places, kind = _places(worker)
    for hub in hubs():
        if hub.url == "memory://" and worker.cfg.workers > 1:
            worker.log.warning(
                "memory:// is in one process: of what one of %s workers publishes the pages of the others get "
                "nothing; write Hub('sqlite:///events.db'), or --workers 1",
                worker.cfg.workers,
            )
        own = hub.own_limit
        if own is not None and process_budget.limit is not None and own > process_budget.limit and not parks:
            worker.log.warning(
                "max_streams=%s of %r leaves too few of %s %ss for ordinary requests; %s are safe",
                own,
                hub,
                places,
                kind,
                process_budget.limit,
            )


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """End what is still open, and close the logs; in a worker's process only.

    :mod:`sse_threaded.worker` calls it by itself.
    """
    if worker.pid != os.getpid():
        return  # gunicorn's master calls the hook for a worker that is gone; its own hubs are for workers to come
    request_close_all()
    deadline = time.monotonic() + _LAST_SECONDS
    for hub in hubs():
        hub.close(timeout=max(0.0, deadline - time.monotonic()))


def _chain(worker: Worker, signum: int) -> None:
    previous: Any = signal.getsignal(signum)

    def end_at_once(signum: int, frame: FrameType | None) -> None:
        conclude = getattr(worker, "conclude_streams", None)
        if conclude is not None:  # a worker that parks
            conclude()
        previous(signum, frame)

    def handle(signum: int, frame: FrameType | None) -> None:
        # The main thread may be anywhere, also inside a lock: this takes none.
        request_close_all()
        queue = getattr(worker, "method_queue", None)
        if signum != signal.SIGTERM and queue is not None and worker.alive:
            # gthread's handler for a quick end locks the thread pool, for ever if it interrupts the main thread
            # in the midst of handing a connection to that pool; between two connections it cannot.
            queue.defer(end_at_once, signum, frame)
        else:
            previous(signum, frame)

    signal.signal(signum, handle)
    # As gunicorn sets it: a system call of a request in flight goes on after SIGTERM.
    signal.siginterrupt(signum, signum != signal.SIGTERM)
