"""Metrics of hubs in Prometheus' format; needs the extra ``metrics``.

    metrics = Metrics()
    hub = Hub(Path(__file__).with_name("events.db"), observers=[metrics])
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": MetricsApp(metrics)})

``docs/metrics.md`` has the meaning of each metric. With several worker processes, set the environment variable
``PROMETHEUS_MULTIPROC_DIR``. Then each process can answer for all of them.
"""

from .app import MetricsApp
from .metrics import Metrics

__all__ = ["Metrics", "MetricsApp"]
