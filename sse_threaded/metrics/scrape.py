"""One answer to Prometheus: the metrics of all processes, and the state of the log at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..errors import LogError
from ..observer import ObservedHub

POSITION = "sse_threaded_log_position"

_END = "sse_threaded_log_end", "Number of the log's newest event. Read at the scrape."
_LAG = (
    "sse_threaded_log_lag_events",
    "Events that the process that is furthest behind has not handed out. Read at the scrape.",
)
_READABLE = "sse_threaded_log_readable", "1 if the log could be read at the scrape, else 0."


class Scrape(Collector):
    """The metrics of one answer.

    :param collect: returns the metrics that were counted.
    :param hubs: the hubs of this process.
    """

    def __init__(self, collect: Callable[[], Iterable[Metric]], hubs: Iterable[ObservedHub]) -> None:
        self._collect = collect
        self._hubs = hubs

    def collect(self) -> Iterator[Metric]:
        """Return all metrics."""
        positions: dict[str, float] = {}
        for metric in self._collect():
            if metric.name == POSITION:
                positions.update((sample.labels["log"], sample.value) for sample in metric.samples)
            yield metric
        yield from log_metrics(self._hubs, positions)


def log_metrics(hubs: Iterable[ObservedHub], positions: Mapping[str, float]) -> Iterator[Metric]:
    """Return the metrics about the logs of some hubs, read now.

    :param hubs: the hubs.
    :param positions: for each log's URL, the position of the process that is furthest behind.
    """
    end, lag, readable = (GaugeMetricFamily(*about, labels=["log"]) for about in (_END, _LAG, _READABLE))
    for url, hub in {hub.url: hub for hub in hubs}.items():
        try:
            last = hub.log_end()
        except LogError:
            readable.add_metric([url], 0)
            continue
        readable.add_metric([url], 1)
        end.add_metric([url], last)
        if url in positions:
            # Since the log was read, a later event may have been handed out.
            lag.add_metric([url], max(last - positions[url], 0))
    yield from (end, lag, readable)
