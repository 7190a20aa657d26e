"""Three app hosts and their Redis, optionally with a replica and a Sentinel."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import redis

from sse_threaded import open_log
from sse_threaded.errors import LogError
from sse_threaded.testing.processes import POLL_SECONDS

from .network import Host, Network
from .programs import HostProgram, app_on, redis_client, redis_on, sentinel_on

HOSTS = 3
_WAIT_SECONDS = 30.0


class Deployment:
    """Three app hosts and their Redis, running; a context manager.

    :param network: the network of the hosts.
    :param flags: further arguments of redis-server.
    :param replicated: whether there is a replica, and a Sentinel by which the app hosts find the master.

    :ivar apps: the app hosts, each with its program.
    :ivar urls: the app hosts, as ``http://address:port``.
    :ivar redis_host: the host of the master, ``redis`` its program, and ``redis_port`` its port.
    :ivar replica_host: the host of the replica, and ``replica`` its program.
    """

    def __init__(self, network: Network, flags: Sequence[str] = (), *, replicated: bool = False) -> None:
        self.network = network
        self._flags = flags
        self._replicated = replicated
        self._resources = ExitStack()
        self.apps: list[tuple[Host, HostProgram]] = []
        self.urls: list[str] = []

    def __enter__(self) -> Deployment:
        with ExitStack() as resources:
            self.redis_host = self.network.add("redis")
            self.redis = self._redis(resources, self.redis_host, *self._flags)
            self.redis_port = self.redis.port
            if self._replicated:
                self._replicate(resources)
            for number in range(HOSTS):
                host = self.network.add(f"app{number}")
                settings = {"RETRY": "500", "HEARTBEAT": "5"}
                app = resources.enter_context(app_on(self.network, host, self.log_url(host), **settings))
                self.apps.append((host, app))
                self.urls.append(f"http://{host.front}:{app.port}")
            self._resources = resources.pop_all()
        return self

    def _redis(self, resources: ExitStack, host: Host, *flags: str) -> HostProgram:
        directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-"))
        return resources.enter_context(redis_on(self.network, host, directory, *flags))

    def _replicate(self, resources: ExitStack) -> None:
        self.replica_host = self.network.add("spare")
        host, port = self.network.address(self.replica_host, self.redis_host, self.redis.port)
        self.replica = self._redis(resources, self.replica_host, *self._flags, "--replicaof", f"{host} {port}")
        with redis_client(self.replica_host, self.replica.port) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica is in step")
        self.sentinel_host = self.network.add("watch")
        directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-"))
        master = (self.redis_host.back, self.redis.port)
        self.sentinel = resources.enter_context(sentinel_on(self.network, self.sentinel_host, directory, master))
        with redis_client(self.sentinel_host, self.sentinel.port) as client:
            wait_until(lambda: len(client.sentinel_slaves("board")) == 1, "the Sentinel has found the replica")

    def log_url(self, host: Host) -> str:
        """Return the URL of the log, as ``host`` reaches it."""
        if self._replicated:
            address, port = self.network.address(host, self.sentinel_host, self.sentinel.port)
            return f"redis+sentinel://{address}:{port}/board"
        address, port = self.network.address(host, self.redis_host, self.redis.port)
        return f"redis://{address}:{port}/0"

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            for _, app in self.apps:
                sys.stderr.write(app.output()[-5000:])
        self._resources.close()

    def ids_in_log(self, boards: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids that the log has of each board."""
        log = open_log(f"redis://{self.redis_host.front}:{self.redis_port}/0")
        try:
            found: dict[str, list[str]] = {}
            for board in boards:
                after, ids = 0, found.setdefault(board, [])
                while page := log.read(after, channels=[board]):
                    after = page[-1].sequence
                    ids += [log.event_id(each.sequence) for each in page]
            return found
        finally:
            log.close()

    def wait_for_failover(self) -> None:
        """Wait until the replica is the master. From then on, ``redis_host`` is its host."""
        with redis_client(self.replica_host, self.replica.port) as client:
            wait_until(lambda: client.info("replication")["role"] == "master", "the replica has taken over")
        self.redis_host, self.redis_port = self.replica_host, self.replica.port


def wait_until(condition: Callable[[], object], what: str, seconds: float = _WAIT_SECONDS) -> None:
    """Wait until ``condition()`` is true. An unreachable Redis counts as false.

    :raises AssertionError: it does not become true in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (redis.ConnectionError, redis.TimeoutError, LogError):
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {seconds:g} seconds: {what}")
        time.sleep(POLL_SECONDS)
