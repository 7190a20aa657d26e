"""The WSGI app that answers Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .metrics import Metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class MetricsApp:
    """A WSGI app that answers each GET with the metrics; mount it where only Prometheus can reach it.

    :param metrics: the metrics. Any thread may call the app.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        response: WSGIApplication = self._metrics.response(environ)
        return response(environ, start_response)
