"""Several machines on one: hosts with addresses of their own, what runs on them, and cutting one off.

Each host is a network namespace with two legs: the *front*, by which clients reach it, and the *back*, by which
hosts reach each other. A host is cut off at the switch behind its back leg, which then drops what comes and says
nothing; the host itself notices no more than that no answer comes. Needs root and Debian's iproute2.

Where the kernel refuses namespaces, hosts are addresses of the loopback interface, and a host's way to another
leads through a :class:`.Wire` that can be cut.

::

    with open_network() as network:
        store, app = network.add("redis"), network.add("app")
        network.cut(app)
        network.heal(app)
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from .tcp_proxy import Wire

_counter = itertools.count()


class Host(NamedTuple):
    """A machine.

    :ivar front: its address for clients.
    :ivar back: its address for other hosts.
    """

    name: str
    front: str
    back: str


class Network:
    """Hosts, and the ways between them; a context manager.

    :ivar title: what a table says of it.
    :ivar can_part: whether it has :meth:`part` and :meth:`join`.
    """

    title = ""
    can_part = False

    def add(self, name: str) -> Host:
        """A new host."""
        raise NotImplementedError

    def on(self, host: Host, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` on ``host``, as the same process."""
        raise NotImplementedError

    def port(self, host: Host, usual: int) -> int:
        """A port to listen on there."""
        raise NotImplementedError

    def way(self, host: Host, to: Host, port: int) -> tuple[str, int]:
        """The address and port by which ``host`` reaches ``port`` of another."""
        raise NotImplementedError

    def cut(self, host: Host) -> None:
        """Cut it off from all other hosts, without a word; clients still reach it."""
        raise NotImplementedError

    def heal(self, host: Host) -> None:
        """Undo :meth:`cut`."""
        raise NotImplementedError

    def part(self, hosts: Collection[Host]) -> None:
        """Part them, who still reach each other, from all others."""
        raise NotImplementedError

    def join(self, hosts: Collection[Host]) -> None:
        """Undo :meth:`part`."""
        raise NotImplementedError

    def close(self) -> None:
        """Take all away; what runs there must have ended."""
        raise NotImplementedError

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_network() -> Network:
    """Namespaces, or where there can be none, addresses of the loopback interface."""
    try:
        return Namespaces()
    except (OSError, subprocess.CalledProcessError):
        return Loopback()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


class Namespaces(Network):
    """Network namespaces, connected by bridges in a namespace of their own.

    :raises OSError: there is no ``ip`` or ``bridge``.
    :raises CalledProcessError: the kernel refuses.
    """

    title = "each host a network namespace with its own addresses"
    can_part = True

    def __init__(self) -> None:
        for program in ("ip", "bridge"):
            if shutil.which(program) is None:
                raise FileNotFoundError(f"{program} (apt-get install iproute2)")
        _sweep()
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

    def way(self, host: Host, to: Host, port: int) -> tuple[str, int]:
        """See :class:`Network`."""
        return to.back, port

    def cut(self, host: Host) -> None:
        """See :class:`Network`."""
        self._set(host, "disabled")

    def heal(self, host: Host) -> None:
        """See :class:`Network`."""
        self._set(host, "forwarding")

    def _set(self, host: Host, state: str) -> None:
        # A bridge's port in this state drops in both directions, but the host's link stays up.
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
        with suppress(subprocess.CalledProcessError):  # gone with the switch, sooner or later
            _run("ip", "link", "delete", f"{self._name}f")


def _free_net(start: int) -> str:
    """The first three numbers of addresses that nobody has: the lower half for fronts, the upper for backs."""
    taken = _run("ip", "-o", "address")
    for place in range(start, start + 512):
        # 198.18.0.0/15 is set aside for measuring networks (RFC 2544): nobody's own network is there.
        net = f"198.{18 + place // 256 % 2}.{place % 256}"
        if f" {net}." not in taken:
            return net
    raise OSError("all networks are taken")


def _sweep() -> None:
    """Remove what a run has left that was killed."""
    with suppress(OSError):
        for name in os.listdir("/run/netns"):
            match = re.fullmatch(r"sse(\d+)-\d+-[a-z0-9-]+", name)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                with suppress(subprocess.CalledProcessError):
                    _run("ip", "netns", "delete", name)


class Loopback(Network):
    """Addresses of the loopback interface, and wires between them."""

    title = "each host an address of the loopback interface, cut off by a proxy (no network namespaces here)"

    def __init__(self) -> None:
        place = (os.getpid() * 4 + next(_counter)) % (200 * 256)
        self._net = f"127.{20 + place // 256}.{place % 256}"
        self._count = 0
        self._wires: list[tuple[Host, Wire]] = []

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

    def way(self, host: Host, to: Host, port: int) -> tuple[str, int]:
        """See :class:`Network`."""
        wire = Wire(host.back, (to.back, port))
        self._wires.append((host, wire))
        return host.back, wire.port

    def cut(self, host: Host) -> None:
        """See :class:`Network`."""
        for owner, wire in self._wires:
            if owner == host:
                wire.cut()

    def heal(self, host: Host) -> None:
        """See :class:`Network`."""
        for owner, wire in self._wires:
            if owner == host:
                wire.heal()

    def close(self) -> None:
        """See :class:`Network`."""
        for _, wire in self._wires:
            wire.close()
