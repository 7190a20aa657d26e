"""gunicorn's server hooks, for its own gthread and gevent workers: a stream budget, and a farewell at every end.

In ``gunicorn.conf.py``::

    from sse_threaded.gunicorn_hooks import child_exit, on_starting, post_worker_init, worker_exit

An app with hooks of its own calls these in them. ``on_starting`` and ``child_exit`` are for metrics only, and
gunicorn's master runs them. A worker's main thread runs the others.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import SafeAtoms
from gunicorn.workers.base_async import AsyncWorker

from ..fanout.lifecycle import close_all_when, has_greenlets, hubs, request_close_all
from ..metrics_directory import VARIABLE, directory, forget, prepare
from .access_atoms import OneLineAtoms
from .end_signals import end_streams_on
from .request_body import checked
from .stream_budgets import set_budgets, warn_of_hubs, warn_of_restarts
from .transparent_wrappers import joining

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

# Seconds that streams have at a worker's end, all hubs together.
_LAST_SECONDS = 1.0


def post_worker_init(worker: Worker, *, parks: bool = False) -> None:
    """Set the stream budget from ``threads`` and connections, and end streams when the worker ends.

    gevent's workers have no threads. There the budget comes from ``worker_connections``.

    gunicorn calls no hook on SIGTERM. It waits up to ``graceful_timeout`` for responses to end by themselves.

    :param parks: whether the worker parks streams, so that they need connections and not threads; default
        ``False``.
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
    set_budgets(worker, parks)
    if getattr(worker.log, "atoms_wrapper_class", None) is SafeAtoms:
        worker.log.atoms_wrapper_class = OneLineAtoms
    if not parks:
        worker.wsgi = joining(checked(worker.wsgi))
        warn_of_restarts(worker)
    warn_of_hubs(worker, parks)
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        end_streams_on(signum, worker)
    # max_requests and the loss of the master come without a signal.
    close_all_when(lambda: not worker.alive or os.getppid() != worker.ppid)


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """End the streams that are still open, and close the logs; in a worker's process only.

    :mod:`sse_threaded.worker` calls it by itself.
    """
    if worker.pid != os.getpid():
        return  # gunicorn's master calls the hook for a worker that is gone; its own hubs are for workers to come
    request_close_all()
    deadline = time.monotonic() + _LAST_SECONDS
    for hub in hubs():
        hub.close(timeout=max(0.0, deadline - time.monotonic()))


def on_starting(server: Arbiter) -> None:
    """Prepare the directory of the metrics, if there is one: remove the files of an earlier run."""
    prepare_metrics(server.cfg, server.log)


def prepare_metrics(cfg: Any, log: Any) -> None:
    """Prepare the directory of the metrics. gunicorn's master calls it before its first fork.

    :param cfg: gunicorn's settings.
    :param log: gunicorn's logger.
    """
    # A master that replaces another one (SIGUSR2) goes on with its counters.
    if directory() is None or "GUNICORN_PID" in os.environ:
        return
    try:
        prepare(keeps_own=cfg.preload_app)
    except OSError as error:
        log.error("Cannot prepare the directory in %s: %s", VARIABLE, error)


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Forget the gauges of a worker that has ended, such as the number of its streams. Its counters stay.

    Without this hook they are forgotten at the next scrape.
    """
    forget(worker.pid)
