"""The observer that counts with prometheus_client.

Any thread may call it; :mod:`sse_threaded.observer` has the threads. The names and labels of the metrics are a
public interface: docs/metrics.md lists them.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from werkzeug.wrappers import Response

from ..fanout.stream_state import EndReason
from ..metrics_directory import VARIABLE, complete_files, directory, forget_dead
from ..observer import ANSWERED, Cause, Ending, Kind, ObservedHub, Observer, Publication, Stream
from ..protocol.problem import problem
from ..protocol.request import HasEnviron
from .process_lock import process_lock
from .scrape import Scrape

# Seconds. The first is that of a log in memory, the last that of a log that cannot be reached.
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Events of a replay. The last is how many events a channel has by default.
_EVENTS = (0, 1, 5, 10, 50, 100, 500, 1000, 5000, 10_000)

# The reasons of HistoryGone, which every engine gives.
_RESETS = ("malformed", "epoch", "beyond", "expired")

_ALONE = (
    "This server has several processes, and each counts for itself. Set PROMETHEUS_MULTIPROC_DIR to a directory "
    "for all of them, in the environment in which the server starts."
)


class Metrics(Observer):
    """The metrics of one hub or several, for ``Hub(observers=[...])``.

    If the environment variable ``PROMETHEUS_MULTIPROC_DIR`` names a directory, the processes share it, and the
    answer of each has the sums of all. Set the variable before prometheus_client is imported.

    :param registry: where the metrics are registered; default ``None``: prometheus_client's own registry. Then an
        app that serves its own metrics serves these, too.
    :raises ValueError: the registry has such metrics already, or the variable was set too late.
    :raises OSError: the directory cannot be created.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = REGISTRY if registry is None else registry
        path = directory()
        self._is_shared = path is not None
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
        try:
            self._make()
        except ValueError as error:
            if "Duplicated timeseries" not in str(error):
                raise
            raise ValueError("this registry has such metrics already; give all hubs the same Metrics") from None
        if path is not None and not (path / f"counter_{os.getpid()}.db").exists():
            raise ValueError(f"{VARIABLE} was set after prometheus_client was imported; set it before")
        # A list, not a WeakSet: one step of the interpreter copies it.
        self._references: list[weakref.ref[ObservedHub]] = []
        self._pid = 0
        self._open: dict[Kind, int] = {}
        with process_lock():
            self._begin_if_forked()

    def _make(self) -> None:
        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"sse_threaded_{name}", about, labels, registry=self._registry)

        def gauge(name: str, about: str, *labels: str, mode: Any = "livesum") -> Gauge:
            return Gauge(f"sse_threaded_{name}", about, labels, registry=self._registry, multiprocess_mode=mode)

        def histogram(name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"sse_threaded_{name}", about, registry=self._registry, buckets=buckets)

        open_now = gauge("streams_open", "Streams and long polls that are open now.", "kind")
        opened = counter("streams_opened", "Streams and long polls that have begun.", "kind")
        ended = counter("streams_ended", "Streams and long polls that have ended.", "kind", "reason")
        refused = counter("streams_refused", "Requests for events that got no stream.", "cause")
        resets = counter("resets", "Events 'reset', by which clients load the state again.", "reason")
        events_sent = counter("events_sent", "Events that were handed on, once for each client.", "kind")
        bytes_sent = counter("sent_bytes", "Bytes of the events in sse_threaded_events_sent_total.", "kind")
        # All series exist from the beginning, so that a rate sees the first event, too.
        self._open_now = {kind: open_now.labels(kind) for kind in Kind}
        self._opened = {kind: opened.labels(kind) for kind in Kind}
        reasons = (*map(str, EndReason), ANSWERED)
        self._ended = {(kind, reason): ended.labels(kind, reason) for kind in Kind for reason in reasons}
        self._refused = {cause: refused.labels(cause) for cause in Cause}
        self._resets = {reason: resets.labels(reason) for reason in _RESETS}
        self._events_sent = {kind: events_sent.labels(kind) for kind in Kind}
        self._bytes_sent = {kind: bytes_sent.labels(kind) for kind in Kind}
        self._replays = histogram(
            "replay_events", "Events that were replayed to a stream until it had all.", _EVENTS
        )
        self._published = counter("events_published", "Events that hubs of these processes have published.")
        self._publish_errors = counter("publish_errors", "Calls that published nothing, by exception.", "error")
        self._publish_seconds = histogram(
            "publish_duration_seconds", "Time of a call that has published events.", _SECONDS
        )
        self._events_read = counter("events_read", "Events that pumps have read from the log, in each process.")
        self._hand_out_seconds = histogram(
            "hand_out_duration_seconds", "Time in which a pump hands events to all its streams.", _SECONDS
        )
        self._delivery_seconds = histogram(
            "delivery_duration_seconds",
            "From a call of publish until all streams of the same process had the event.",
            _SECONDS,
        )
        self._read_errors = counter("log_read_errors", "Failed attempts of pumps to read the log.")
        self._pump_failures = counter("pump_failures", "Defects after which all streams of a process have ended.")
        self._cut = counter("connections_cut", "Connections of clients that did not take their last bytes.")
        self._waiting = gauge("waiting_events", "Events that wait for clients, of all streams together.")
        self._longest = gauge(
            "longest_queue_events", "Events that wait for the client for which most wait.", mode="livemax"
        )
        self._limit = gauge("streams_limit", "Streams that the processes take; 0 if there is no limit.")
        self._position = gauge(
            "log_position",
            "Number of the newest event that the process that is furthest behind has handed out.",
            "log",
            mode="livemin",
        )

    def _begin_if_forked(self) -> None:
        """Set the gauges of this process, which may have the number of one that has died. With the lock held."""
        pid = os.getpid()
        if pid != self._pid:
            self._pid = pid
            self._open = dict.fromkeys(Kind, 0)
            for each in (*self._open_now.values(), self._waiting, self._longest, self._limit):
                each.set(0)

    # See Observer for the threads.

    def hub_made(self, hub: ObservedHub) -> None:
        """See :class:`Observer`."""
        self._references.append(weakref.ref(hub, self._references.remove))

    def stream_opened(self, stream: Stream) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._begin_if_forked()
            self._opened[stream.kind].inc()
            self._change_open(stream.kind, 1)

    def stream_ended(self, ending: Ending) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._begin_if_forked()
            self._ended[ending.stream.kind, ending.reason].inc()
            self._change_open(ending.stream.kind, -1)

    def _change_open(self, kind: Kind, change: int) -> None:
        self._open[kind] += change
        self._open_now[kind].set(self._open[kind])

    def stream_refused(self, cause: Cause) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._refused[cause].inc()

    def stream_caught_up(self, kind: Kind, events: int) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._replays.observe(events)

    def reset_sent(self, reason: str) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._resets[reason].inc()

    def sent(self, kind: Kind, events: int, size: int) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._events_sent[kind].inc(events)
            self._bytes_sent[kind].inc(size)

    def published(self, begun: object, publication: Publication) -> None:
        """See :class:`Observer`."""
        with process_lock():
            if publication.error is None:
                self._published.inc(publication.events)
                self._publish_seconds.observe(publication.seconds)
            else:
                self._publish_errors.labels(type(publication.error).__name__).inc()

    def handed_out(self, hub: ObservedHub, position: int, events: int, seconds: float) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._events_read.inc(events)
            self._hand_out_seconds.observe(seconds)
            self._position.labels(hub.url).set(position)

    def delivered(self, seconds: Sequence[float]) -> None:
        """See :class:`Observer`."""
        with process_lock():
            for each in seconds:
                self._delivery_seconds.observe(each)

    def second_passed(self, hub: ObservedHub, position: int) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._position.labels(hub.url).set(position)
        self._look()

    def read_failed(self) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._read_errors.inc()

    def pump_failed(self) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._pump_failures.inc()

    def connections_cut(self, count: int) -> None:
        """See :class:`Observer`."""
        with process_lock():
            self._cut.inc(count)

    @property
    def _hubs(self) -> tuple[ObservedHub, ...]:
        found = (reference() for reference in tuple(self._references))
        return tuple(hub for hub in found if hub is not None)

    def _look(self) -> None:
        """Read the gauges that no single fact changes."""
        hubs = self._hubs
        queues = [hub.queues() for hub in hubs]
        limit = max((hub.max_streams or 0 for hub in hubs), default=0)
        with process_lock():
            self._begin_if_forked()
            self._waiting.set(sum(each.waiting for each in queues))
            self._longest.set(max((each.most for each in queues), default=0))
            self._limit.set(limit)

    # Any thread.

    def response(self, request: HasEnviron | dict[str, Any]) -> Response:
        """Return the answer to a scrape: the metrics of all processes.

        The status is 500 if the server has several processes that do not share a directory.

        :param request: Werkzeug's, Flask's or Django's request, or the WSGI environ.
        """
        environ = request if isinstance(request, dict) else request.environ
        if environ.get("wsgi.multiprocess") and not self._is_shared:
            return problem(500, _ALONE)
        hubs = self._hubs
        for hub in hubs:
            hub.report()
        self._look()
        if self._is_shared:
            forget_dead()
            collector: Any = MultiProcessCollector  # it has no annotations
            counted: Callable[[], Iterable[Metric]] = partial(collector.merge, complete_files(), accumulate=True)
        else:
            counted = self._registry.collect
        registry = CollectorRegistry()
        registry.register(Scrape(counted, hubs))
        response: Response = Response.from_app(make_wsgi_app(registry), environ)
        response.headers["Cache-Control"] = "no-store"
        return response
