"""Several hosts on one machine: the interface.

::

    with open_network() as network:
        store, app = network.add("redis"), network.add("app")
        network.cut(app)
        network.heal(app)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import NamedTuple


class Host(NamedTuple):
    """A host.

    :ivar name: its name, such as ``"redis"``.
    :ivar front: its address for clients.
    :ivar back: its address for other hosts.
    """

    name: str
    front: str
    back: str


class Network:
    """Hosts and the connections between them; a context manager.

    :ivar title: its description in reports.
    :ivar can_part: whether it supports :meth:`part` and :meth:`join`.
    """

    title = ""
    can_part = False

    def add(self, name: str) -> Host:
        """Add a host."""
        raise NotImplementedError

    def on(self, host: Host, command: Sequence[str]) -> list[str]:
        """Return the command that runs ``command`` on ``host``, as the same process."""
        raise NotImplementedError

    def port(self, host: Host, usual: int) -> int:
        """Return a port to listen on, on ``host``.

        :param usual: the usual port of the program.
        """
        raise NotImplementedError

    def address(self, host: Host, to: Host, port: int) -> tuple[str, int]:
        """Return the address and port by which ``host`` reaches ``port`` of another host."""
        raise NotImplementedError

    def cut(self, host: Host) -> None:
        """Drop all packets between the host and all other hosts. Clients still reach it."""
        raise NotImplementedError

    def heal(self, host: Host) -> None:
        """Undo :meth:`cut`."""
        raise NotImplementedError

    def part(self, hosts: Collection[Host]) -> None:
        """Drop all packets between these hosts and all others. These hosts still reach each other."""
        raise NotImplementedError

    def join(self, hosts: Collection[Host]) -> None:
        """Undo :meth:`part`."""
        raise NotImplementedError

    def close(self) -> None:
        """Remove all hosts. Their programs must have ended."""
        raise NotImplementedError

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
