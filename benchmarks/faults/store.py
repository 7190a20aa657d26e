"""The database of the app hosts, on hosts of its own: the interface. Redis and PostgreSQL implement it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from sse_threaded import open_log

from .delivery_check import EpochChain
from .network import Host, Network


class Store:
    """The database: one server, and optionally a replica of it; a context manager, running inside.

    :param network: the network of the hosts.
    :param flags: settings of the server.
    :param replicated: whether there is a replica.

    :ivar name: of the database, for reports.
    :ivar listeners_name: how the listening connections of this package are named there.
    :ivar host: the host of the server that takes changes.
    :ivar replica_host: the host of the replica.
    """

    name: ClassVar[str]
    listeners_name: ClassVar[str]
    host: Host
    replica_host: Host

    def __init__(self, network: Network, flags: Sequence[str] = (), *, replicated: bool = False) -> None:
        self.network = network
        self.flags = flags
        self.replicated = replicated

    def __enter__(self) -> Store:
        raise NotImplementedError

    def __exit__(self, *exception: object) -> None:
        raise NotImplementedError

    def url(self, host: Host) -> str:
        """Return the URL of the log, as ``host`` reaches it."""
        raise NotImplementedError

    def own_url(self) -> str:
        """Return the URL of the server that takes changes, as this process reaches it."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill all processes of the server (SIGKILL)."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        raise NotImplementedError

    def pause(self) -> None:
        """Let the server hang (SIGSTOP)."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Undo :meth:`pause`."""
        raise NotImplementedError

    def fail_over(self) -> None:
        """Wait until the replica has taken over. From then on, :attr:`host` is its host."""
        raise NotImplementedError

    def part(self, hosts: Sequence[Host], seconds: float) -> None:
        """Cut the server and these hosts off from all others, which fail over, and join them again.

        :param seconds: how long they are apart after the replica has taken over.
        """
        raise NotImplementedError

    def empty(self) -> None:
        """Delete all events."""
        raise NotImplementedError

    def listeners(self) -> int:
        """Return how many connections of listeners there are."""
        raise NotImplementedError

    def chain(self) -> EpochChain | None:
        """Return the epochs of the log, if they are a chain."""
        return None

    def ids_in_log(self, boards: Sequence[str]) -> dict[str, list[str]]:
        """Return the ids that the log has of each board."""
        log = open_log(self.own_url())
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
