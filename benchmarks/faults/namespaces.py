"""Hosts as network namespaces; see :mod:`.network`.

Each host has two interfaces: the *front*, by which clients reach it, and the *back*, by which hosts reach each
other. To cut a host off, the bridge behind its back interface drops all its packets silently. The host itself only
notices that no answer comes. Needs root and Debian's iproute2.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress

from .network import Host, Network

_counter = itertools.count()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


class Namespaces(Network):
    """Network namespaces, connected by bridges in another namespace.

    :raises OSError: ``ip`` or ``bridge`` is not installed.
    :raises CalledProcessError: the kernel refuses.
    """

    title = "each host is a network namespace with its own addresses"
    can_part = True

    def __init__(self) -> None:
        for program in ("ip", "bridge"):
            if shutil.which(program) is None:
                raise FileNotFoundError(f"{program} (apt-get install iproute2)")
        _remove_leftovers()
        number = next(_counter)
        self._name = f"sse{os.getpid()}-{number}"
        self._hosts: dict[str, int] = {}
        self._net = _free_net(os.getpid() * 4 + number)
        self._switch = f"{self._name}-switch"
        _run("ip", "netns", "add", self._switch)
        try:
            for bridge in ("front", "back", "parted"):
                _run("ip", "-n", self._switch, "link", "add", bridge, "type", "bridge")
                _run("ip", "-n", self._switch, "link", "set", bridge, "up")
            own = f"{self._name}f"
            _run("ip", "link", "add", own, "type", "veth", "peer", "name", "f0", "netns", self._switch)
            _run("ip", "-n", self._switch, "link", "set", "f0", "master", "front", "up")
            _run("ip", "addr", "add", f"{self._net}.1/25", "dev", own)
            _run("ip", "link", "set", own, "up")
        except BaseException:
            self.close()
            raise

    def add(self, name: str) -> Host:
        """See :class:`Network`."""
        number = self._hosts[name] = len(self._hosts) + 2
        host = Host(name, f"{self._net}.{number}", f"{self._net}.{128 + number}")
        space = f"{self._name}-{name}"
        _run("ip", "netns", "add", space)
        _run("ip", "-n", space, "link", "set", "lo", "up")
        for leg, address in (("front", host.front), ("back", host.back)):
            port = f"{leg[0]}{number}"
            veth = ("type", "veth", "peer", "name", leg, "netns", space)
            _run("ip", "-n", self._switch, "link", "add", port, *veth)
            _run("ip", "-n", self._switch, "link", "set", port, "master", leg, "up")
            _run("ip", "-n", space, "addr", "add", f"{address}/25", "dev", leg)
            _run("ip", "-n", space, "link", "set", leg, "up")
        return host

    def on(self, host: Host, command: Sequence[str]) -> list[str]:
        """See :class:`Network`."""
        return ["ip", "netns", "exec", f"{self._name}-{host.name}", *command]

    def port(self, host: Host, usual: int) -> int:
        """See :class:`Network`."""
        return usual

    def address(self, host: Host, to: Host, port: int) -> tuple[str, int]:
        """See :class:`Network`."""
        return to.back, port

    def cut(self, host: Host) -> None:
        """See :class:`Network`."""
        self._set(host, "disabled")

    def heal(self, host: Host) -> None:
        """See :class:`Network`."""
        self._set(host, "forwarding")

    def _set(self, host: Host, state: str) -> None:
        # In the state "disabled" the port of the bridge drops packets in both directions, but the link of the host
        # stays up.
        _run("bridge", "-n", self._switch, "link", "set", "dev", f"b{self._hosts[host.name]}", "state", state)

    def part(self, hosts: Collection[Host]) -> None:
        """See :class:`Network`."""
        self._move(hosts, "parted")

    def join(self, hosts: Collection[Host]) -> None:
        """See :class:`Network`."""
        self._move(hosts, "back")

    def _move(self, hosts: Collection[Host], bridge: str) -> None:
        for host in hosts:
            _run("ip", "-n", self._switch, "link", "set", f"b{self._hosts[host.name]}", "master", bridge)

    def close(self) -> None:
        """See :class:`Network`."""
        for name in (*self._hosts, "switch"):
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "delete", f"{self._name}-{name}")
        with suppress(subprocess.CalledProcessError):  # the kernel deletes it with the switch, sooner or later
            _run("ip", "link", "delete", f"{self._name}f")


def _free_net(start: int) -> str:
    """Return the first three numbers of unused addresses: the lower half for fronts, the upper half for backs."""
    taken = _run("ip", "-o", "address")
    for place in range(start, start + 512):
        # 198.18.0.0/15 is reserved for measuring networks (RFC 2544), so no real network uses it.
        net = f"198.{18 + place // 256 % 2}.{place % 256}"
        if f" {net}." not in taken:
            return net
    raise OSError("all networks are in use")


def _remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed."""
    with suppress(OSError):
        for name in os.listdir("/run/netns"):
            match = re.fullmatch(r"sse(\d+)-\d+-[a-z0-9-]+", name)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                with suppress(subprocess.CalledProcessError):
                    _run("ip", "netns", "delete", name)
