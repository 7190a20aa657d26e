"""PostgreSQL on a host of its own, optionally with a replica."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import quote

from sse_threaded.log.postgres.schema import name
from sse_threaded.log.postgres.url import parse_url
from tests.harness.postgres_server import PostgresServer

from .delivery_check import EpochChain
from .network import Host
from .store import Store

SYNCHRONOUS = "synchronous"


class PostgresStore(Store):
    """See :class:`Store`. The flag ``synchronous`` makes every commit wait for the replica.

    The app hosts have the addresses of both servers. No program watches the servers, so this class promotes the
    replica.
    """

    name = "PostgreSQL"
    listeners_name = "sse_threaded listener"

    def __enter__(self) -> PostgresStore:
        with ExitStack() as resources:
            self.host = self.network.add("postgres")
            self.server = resources.enter_context(self._postgres(self.host))
            # Hosts connect from any address.
            self.server.allow("host all all all trust", "host replication all all trust")
            if self.replicated:
                self.replica_host = self.network.add("spare")
                source = self.network.address(self.replica_host, self.host, self.server.port)
                self.replica = resources.enter_context(self._postgres(self.replica_host, self.server, source))
            if SYNCHRONOUS in self.flags:
                self.server.make_synchronous()
            self._servers = [(self.host, self.server)]
            if self.replicated:
                self._servers.append((self.replica_host, self.replica))
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._resources.close()

    def _postgres(
        self, host: Host, copy_of: PostgresServer | None = None, source: tuple[str, int] | None = None
    ) -> PostgresServer:
        port = self.network.port(host, 5432)
        prefix = self.network.on(host, [])
        return PostgresServer(copy_of=copy_of, source=source, host=host.back, port=port, prefix=prefix)

    def url(self, host: Host) -> str:
        """See :class:`Store`."""
        places = [self.network.address(host, to, server.port) for to, server in self._servers]
        hosts = ",".join(f"{address}:{port}" for address, port in places)
        return f"postgresql://{self.server.user}@{hosts}/{self.server.database}?target_session_attrs=read-write"

    def own_url(self) -> str:
        """See :class:`Store`. It leads through a socket in the file system, which all namespaces share."""
        server = self.server
        place = f"host={quote(str(server.folder), safe='')}&port={server.port}"
        return f"postgresql://{server.user}@/{server.database}?{place}"

    def _names(self, statement: str) -> str:
        address = parse_url(self.own_url())
        return statement.format(**{each: name(address, each) for each in ("events", "numbers", "epochs", "state")})

    def kill(self) -> None:
        """See :class:`Store`. All processes stop first, so that none sees the end of another."""
        self.server.pause()
        self.server.kill()

    def start(self) -> None:
        """See :class:`Store`."""
        self.server.start()

    def pause(self) -> None:
        """See :class:`Store`."""
        self.server.pause()

    def go_on(self) -> None:
        """See :class:`Store`."""
        self.server.go_on()

    def fail_over(self) -> None:
        """See :class:`Store`."""
        self.replica.promote()
        self.host, self.server = self.replica_host, self.replica

    def part(self, hosts: Sequence[Host], seconds: float) -> None:
        """See :class:`Store`. The old server is killed before the hosts join again, as an operator must do."""
        old_host, old = self.host, self.server
        self.network.part([old_host, *hosts])
        self.fail_over()
        time.sleep(seconds)
        old.kill()
        self.network.join([old_host, *hosts])

    def empty(self) -> None:
        """See :class:`Store`."""
        # In the order in which an append uses them; else there may be a deadlock.
        self.server.ask(self._names("TRUNCATE {numbers}, {events}"))

    def listeners(self) -> int:
        """See :class:`Store`."""
        return len(self.server.sessions(self.listeners_name))

    def chain(self) -> EpochChain:
        """See :class:`Store`."""
        ((current,),) = self.server.ask(self._names("SELECT epoch FROM {state}"))
        return EpochChain(current, dict(self.server.ask(self._names("SELECT epoch, upto FROM {epochs}"))))
