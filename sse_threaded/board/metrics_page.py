"""The board's ``/metrics``: which requests get it."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from werkzeug.wrappers import Response

from ..metrics import Metrics
from ..protocol.problem import problem
from .operators import Operators
from .settings import METRICS


class MetricsPage:
    """Answers requests of operators with the metrics, and refuses others.

    :param operators: may read.
    """

    def __init__(self, operators: Operators) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self._operators = operators

    def answer(self, environ: dict[str, Any]) -> Response:
        """Return the metrics, or a 403."""
        if self._operators.include(environ):
            return self.metrics.response(environ)
        return problem(403, f"The metrics may not be read from here; {METRICS} says from where.")
