"""Three app hosts and their database."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

from .network import Host, Network
from .programs import HostProgram, app_on
from .store import Store

HOSTS = 3


class Deployment:
    """Three app hosts and their database, running; a context manager.

    :param network: the network of the hosts.
    :param make_store: makes the database.

    :ivar store: the database.
    :ivar apps: the app hosts, each with its program.
    :ivar urls: the app hosts, as ``http://address:port``.
    """

    def __init__(self, network: Network, make_store: Callable[[Network], Store]) -> None:
        self.network = network
        self.store = make_store(network)
        self._resources = ExitStack()
        self.apps: list[tuple[Host, HostProgram]] = []
        self.urls: list[str] = []

    def __enter__(self) -> Deployment:
        with ExitStack() as resources:
            resources.enter_context(self.store)
            for number in range(HOSTS):
                host = self.network.add(f"app{number}")
                settings = {"RETRY": "500", "HEARTBEAT": "5"}
                app = resources.enter_context(app_on(self.network, host, self.store.url(host), **settings))
                self.apps.append((host, app))
                self.urls.append(f"http://{host.front}:{app.port}")
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is not None:
            for _, app in self.apps:
                sys.stderr.write(app.output()[-5000:])
        self._resources.close()
