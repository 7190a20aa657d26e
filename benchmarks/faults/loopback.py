"""Hosts as addresses of the loopback interface; see :mod:`.network`.

It serves where the kernel allows no namespaces. Each connection of a host to another host goes through a proxy,
which can be cut.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Sequence

from .network import Host, Network
from .tcp_proxy import TcpProxy

_counter = itertools.count()


class Loopback(Network):
    """Addresses of the loopback interface, with proxies between them."""

    title = "each host is an address of the loopback interface, cut off by a proxy (no network namespaces here)"

    def __init__(self) -> None:
        place = (os.getpid() * 4 + next(_counter)) % (200 * 256)
        self._net = f"127.{20 + place // 256}.{place % 256}"
        self._count = 0
        self._proxies: list[tuple[Host, TcpProxy]] = []

    def add(self, name: str) -> Host:
        """See :class:`Network`."""
        self._count += 1
        address = f"{self._net}.{self._count}"
        return Host(name, address, address)

    def on(self, host: Host, command: Sequence[str]) -> list[str]:
        """See :class:`Network`."""
        return list(command)

    def port(self, host: Host, usual: int) -> int:
        """See :class:`Network`."""
        with socket.socket() as probe:
            probe.bind((host.back, 0))
            port: int = probe.getsockname()[1]
            return port

    def address(self, host: Host, to: Host, port: int) -> tuple[str, int]:
        """See :class:`Network`."""
        proxy = TcpProxy(host.back, (to.back, port))
        self._proxies.append((host, proxy))
        return host.back, proxy.port

    def cut(self, host: Host) -> None:
        """See :class:`Network`."""
        for owner, proxy in self._proxies:
            if owner == host:
                proxy.cut()

    def heal(self, host: Host) -> None:
        """See :class:`Network`."""
        for owner, proxy in self._proxies:
            if owner == host:
                proxy.heal()

    def close(self) -> None:
        """See :class:`Network`."""
        for _, proxy in self._proxies:
            proxy.close()
