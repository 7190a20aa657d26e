"""How many streams a worker of gunicorn's may hold, and warnings where its settings do not fit streams.

A worker's main thread runs all of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gunicorn.workers.base_async import AsyncWorker

from ..fanout.lifecycle import hubs, parking_budget, process_budget
from .capacity import connection_limit, file_limit, kept_connections, stream_limit

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

# Where gunicorn counts streams as requests: how many times all streams should fit into max_requests.
_RESTART_FACTOR = 10


def set_budgets(worker: Worker, parks: bool) -> None:
    """Set both budgets of the process, and log them.

    :param parks: whether the worker parks streams.
    """
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
    """How many threads a worker has, or their like: a stream that does not park takes one. And their name."""
    # gevent's workers have no threads: each connection has a greenlet.
    if isinstance(worker, AsyncWorker):
        return worker.worker_connections, "worker-connection"
    return worker.cfg.threads, "thread"


def warn_of_restarts(worker: Worker) -> None:
    """Warn of a low ``max_requests``, where streams count toward it."""
    # gunicorn counts each request, also that of a stream, before it calls the app. sse_threaded.worker does not.
    most, limit = worker.max_requests, process_budget.limit or 0
    if most < limit * _RESTART_FACTOR:
        worker.log.warning(
            "max_requests=%s is low for the %s streams that a worker may hold. A page counts when it reconnects, "
            "so workers may restart over and over. Set it to %s or more, or use sse_threaded.worker.ThreadWorker",
            most,
            limit,
            limit * _RESTART_FACTOR,
        )


def warn_of_hubs(worker: Worker, parks: bool) -> None:
    """Warn of hubs that do not fit the worker's settings.

    :param parks: whether the worker parks streams.
    """
    places, kind = _places(worker)
    for hub in hubs():
        if hub.url == "memory://" and worker.cfg.workers > 1:
            worker.log.warning(
                "memory:// is in one process: what one of %s workers publishes does not reach the pages of the "
                "others; write Hub('sqlite:///events.db'), or --workers 1",
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
