"""Redis on a host of its own, optionally with a replica and a Sentinel."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack

import redis

from .network import Host
from .programs import PAUSE, RESUME, HostProgram, redis_client, redis_on, sentinel_on
from .store import Store
from .waiting import wait_until


class RedisStore(Store):
    """See :class:`Store`. The app hosts find the master by a Sentinel if there is a replica.

    :ivar redis: the program of the master.
    :ivar replica: the program of the replica.
    """

    name = "Redis"
    listeners_name = "sse_threaded-listener"

    def __enter__(self) -> RedisStore:
        with ExitStack() as resources:
            self.host = self.network.add("redis")
            self.redis = self._redis(resources, self.host, *self.flags)
            self.port = self.redis.port
            if self.replicated:
                self._replicate(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    def _redis(self, resources: ExitStack, host: Host, *flags: str) -> HostProgram:
        directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-"))
        return resources.enter_context(redis_on(self.network, host, directory, *flags))

    def _replicate(self, resources: ExitStack) -> None:
        self.replica_host = self.network.add("spare")
        host, port = self.network.address(self.replica_host, self.host, self.port)
        self.replica = self._redis(resources, self.replica_host, *self.flags, "--replicaof", f"{host} {port}")
        with redis_client(self.replica_host, self.replica.port) as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica is in step")
        self._sentinel_host = self.network.add("watch")
        directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="sse_threaded-"))
        master = (self.host.back, self.port)
        self._sentinel = resources.enter_context(sentinel_on(self.network, self._sentinel_host, directory, master))
        with redis_client(self._sentinel_host, self._sentinel.port) as client:
            wait_until(lambda: len(client.sentinel_slaves("board")) == 1, "the Sentinel has found the replica")

    def url(self, host: Host) -> str:
        """See :class:`Store`."""
        if self.replicated:
            address, port = self.network.address(host, self._sentinel_host, self._sentinel.port)
            return f"redis+sentinel://{address}:{port}/board"
        address, port = self.network.address(host, self.host, self.port)
        return f"redis://{address}:{port}/0"

    def own_url(self) -> str:
        """See :class:`Store`."""
        return f"redis://{self.host.front}:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a client of the driver, to inspect the master."""
        return redis_client(self.host, self.port)

    def kill(self) -> None:
        """See :class:`Store`."""
        self.redis.kill()

    def start(self) -> None:
        """See :class:`Store`."""
        self.redis.start()

    def pause(self) -> None:
        """See :class:`Store`."""
        self.redis.signal(PAUSE)

    def go_on(self) -> None:
        """See :class:`Store`."""
        self.redis.signal(RESUME)

    def fail_over(self) -> None:
        """See :class:`Store`. The Sentinel promotes the replica."""
        with redis_client(self.replica_host, self.replica.port) as client:
            wait_until(lambda: client.info("replication")["role"] == "master", "the replica has taken over")
        self.host, self.port = self.replica_host, self.replica.port

    def part(self, hosts: Sequence[Host], seconds: float) -> None:
        """See :class:`Store`. The Sentinel makes the old master a replica."""
        old, port = self.host, self.port
        self.network.part([old, *hosts])
        self.fail_over()
        time.sleep(seconds)
        self.network.join([old, *hosts])
        with redis_client(old, port) as client:
            wait_until(
                lambda: client.info("replication")["role"] == "slave", "the old master has become a replica"
            )

    def empty(self) -> None:
        """See :class:`Store`."""
        with self.client() as client:
            client.flushall()

    def listeners(self) -> int:
        """See :class:`Store`."""
        with self.client() as client:
            return sum(each["name"] == self.listeners_name for each in client.client_list())
