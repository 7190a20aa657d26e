"""The board's ``/metrics``: which requests get it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from werkzeug.wrappers import Response

from ..metrics import Metrics
from ..protocol.problem import problem
from .settings import METRICS, Network


class MetricsPage:
    """Answers requests of some networks with the metrics, and refuses others.

    :param networks: the addresses that may read.
    :param trusts_proxy: whether ``REMOTE_ADDR`` in the environ is the address that a trusted proxy has named.
    """

    def __init__(self, networks: Sequence[Network], *, trusts_proxy: bool) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self._networks = networks
        self._trusts_proxy = trusts_proxy

    def answer(self, environ: dict[str, Any]) -> Response:
        """Return the metrics, or a 403."""
        if self._may_read(environ):
            return self.metrics.response(environ)
        return problem(403, f"The metrics may not be read from here; {METRICS} says from where.")

    def _may_read(self, environ: dict[str, Any]) -> bool:
        if not self._trusts_proxy and ("HTTP_X_FORWARDED_FOR" in environ or "HTTP_FORWARDED" in environ):
            return False  # the address is that of a proxy, and every client would have it
        try:
            address = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
        except ValueError:  # a Unix socket, or a name
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
