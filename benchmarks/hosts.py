"""Several machines on one: hosts with addresses of their own, what runs on them, and cutting one off.

Each host is a network namespace with two legs: the *front*, by which clients reach it, and the *back*, by which
hosts reach each other. A host is cut off at the switch behind its back leg, which then drops what comes and says
nothing; the host itself notices no more than that no answer comes. Needs root and Debian's iproute2.

Where the kernel refuses namespaces, hosts are addresses of the loopback interface, and a host's way to another
leads through a :class:`Wire` that can be cut.

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
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import redis

from sse_threaded.testing import request
from sse_threaded.testing.faults import ServerFailed
from sse_threaded.testing.processes import POLL_SECONDS, ChildProcess

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "deploy" / "gunicorn.conf.py"
_START_SECONDS = 30.0
_CHUNK = 65536
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
    """

    title = ""

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


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Namespaces(Network):
    """Network namespaces. Two bridges, in a namespace of their own, connect them.

    :raises OSError: there is no ``ip`` or ``bridge``.
    :raises CalledProcessError: the kernel refuses.
    """

    title = "each host a network namespace with its own addresses"

    def __init__(self) -> None:
        for program in ("ip", "bridge"):
            if shutil.which(program) is None:
                raise FileNotFoundError(f"{program} (apt-get install iproute2)")
        _sweep()
        number = next(_counter)
        self._name = f"sse{os.getpid()}-{number}"
        self._hosts: dict[str, int] = {}
        # 198.18.0.0/15 is set aside for measuring networks (RFC 2544), so no machine has it: 512 networks of /24,
        # the lower half of each for the fronts and the upper for the backs.
        place = (os.getpid() * 4 + number) % 512
        self._net = f"198.{18 + place // 256}.{place % 256}"
        self._switch = f"{self._name}-switch"
        _run("ip", "netns", "add", self._switch)
        try:
            for bridge in ("front", "back"):
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

    def close(self) -> None:
        """See :class:`Network`."""
        for name in (*self._hosts, "switch"):
            with suppress(subprocess.CalledProcessError):
                _run("ip", "netns", "delete", f"{self._name}-{name}")
        with suppress(subprocess.CalledProcessError):  # gone with the switch, sooner or later
            _run("ip", "link", "delete", f"{self._name}f")


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

    title = "each host an address of the loopback interface, its way to Redis a proxy (no network namespaces here)"

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


class Wire:
    """A TCP proxy that can be cut: then it takes everything and brings nothing.

    :param host: the address to listen on.
    :param to: where it leads.
    :ivar port: where it listens.
    """

    def __init__(self, host: str, to: tuple[str, int]) -> None:
        self._to = to
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        # Guards both.
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Bring nothing any more."""
        with self._lock:
            self._is_cut = True

    def heal(self) -> None:
        """Bring what comes on new connections; the old ones have lost some, so they end."""
        with self._lock:
            self._is_cut = False
            ended, self._open = self._open, set()
        for each in ended:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, and its connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept()
        self._listener.close()
        self.heal()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._to, 5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self._lock:
            self._open |= {near, far}
        back = threading.Thread(target=self._carry, args=(far, near), daemon=True)
        back.start()
        self._carry(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if not self._is_cut:
                    sink.sendall(data)
        if not self._is_cut:
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class Service:
    """A program on a host: started, killed, started again; a context manager.

    :param command: with its arguments, as :meth:`Network.on` made it.
    :param answers: whether it can be used by now.
    :param env: beside this process's.
    :ivar port: where it listens.
    """

    def __init__(
        self, command: Sequence[str], port: int, answers: Callable[[], bool], env: Mapping[str, str] | None = None
    ) -> None:
        self.port = port
        self._command = list(command)
        self._answers = answers
        self._env = {**os.environ, **(env or {})}
        self._output = tempfile.TemporaryFile()
        self._child: ChildProcess | None = None

    def start(self) -> None:
        """Start it, and wait until it answers.

        :raises ServerFailed: it does not, in time.
        """
        self._child = ChildProcess(self._command, output=self._output, env=self._env, cwd=None)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"{self._command} does not answer\n{self.output()}")
            time.sleep(POLL_SECONDS)

    def output(self) -> str:
        """What it has printed so far."""
        descriptor = self._output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    def signal(self, number: int) -> None:
        """Send it a signal; a gunicorn's master only."""
        assert self._child is not None
        self._child.signal(number)

    def kill(self) -> None:
        """Kill it and all its processes (SIGKILL), if it runs."""
        if self._child is not None:
            self._child.kill()

    def __enter__(self) -> Service:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._output.close()


def redis_on(network: Network, host: Host, directory: str, *flags: str) -> Service:
    """A redis-server that keeps its files in ``directory``.

    :param flags: further arguments, such as ``"--appendfsync", "always"``.
    """
    port = network.port(host, 6379)
    return _redis(network, host, port, ["--dir", directory, "--save", "", "--appendonly", "yes", *flags])


def sentinel_on(network: Network, host: Host, directory: str, master: tuple[str, int]) -> Service:
    """A Sentinel that watches ``master`` under the name ``board`` and has it replaced when it is gone for a second."""
    file = Path(directory) / "sentinel.conf"
    lines = [
        f"sentinel monitor board {master[0]} {master[1]} 1",
        "sentinel down-after-milliseconds board 1000",
        "sentinel failover-timeout board 5000",
    ]
    file.write_text("\n".join(lines) + "\n")
    return _redis(network, host, network.port(host, 26379), ["--dir", directory], str(file), "--sentinel")


def _redis(network: Network, host: Host, port: int, flags: Sequence[str], *first: str) -> Service:
    def answers() -> bool:
        try:
            with redis_client(host, port) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    # All addresses: clients come from the back, who looks at it from the front.
    addresses = [host.back] if host.back == host.front else [host.back, host.front]
    own = ["--bind", *addresses, "--port", str(port), "--protected-mode", "no"]
    names = [] if "--sentinel" in first else ["--replica-announce-ip", host.back]
    return Service(network.on(host, ["redis-server", *first, *own, *names, *flags]), port, answers)


def redis_client(host: Host, port: int) -> redis.Redis:
    """A client of the driver's, for looking, by the front."""
    return redis.Redis(host=host.front, port=port, socket_timeout=5, socket_connect_timeout=1, protocol=2)


def app_on(network: Network, host: Host, url: str, **settings: str) -> Service:
    """The board as ``deploy/gunicorn.conf.py`` has it: two parking workers.

    :param url: of the log, as ``host`` reaches it.
    :param settings: further variables of the environment, without ``SSE_THREADED_``.
    """
    port = network.port(host, 3000)

    def answers() -> bool:
        try:
            return request("GET", f"http://{host.front}:{port}/healthz", timeout=5).status == 200
        except OSError:
            return False

    env = {"SSE_THREADED_URL": url} | {f"SSE_THREADED_{name}": value for name, value in settings.items()}
    bind = f"{host.front}:{port}"
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONFIG), "--bind", bind, "--log-level", "warning"]
    return Service(network.on(host, command), port, answers, env)


PAUSE, GO_ON, RELOAD = signal.SIGSTOP, signal.SIGCONT, signal.SIGHUP
