"""The addresses of the board's operators: they may read ``/metrics``, or use ``/debug``."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from .settings import Network


class Operators:
    """Some networks.

    :param networks: the addresses.
    :param trusts_proxy: whether ``REMOTE_ADDR`` in the environ is the address that a trusted proxy has named.
    """

    def __init__(self, networks: Sequence[Network], *, trusts_proxy: bool) -> None:
        self._networks = networks
        self._trusts_proxy = trusts_proxy

    def include(self, environ: Mapping[str, Any]) -> bool:
        """Whether a request comes from one of the addresses."""
        if not self._trusts_proxy and ("HTTP_X_FORWARDED_FOR" in environ or "HTTP_FORWARDED" in environ):
            return False  # the address is that of a proxy, and every client would have it
        try:
            address = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
        except ValueError:  # a Unix socket, or a name
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
