"""A network that drops all packets. A stopped PostgreSQL is another case: its kernel acknowledges them.

Each host is a network namespace; without root, or where the kernel refuses, an address of the loopback interface.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import unittest

from benchmarks.faults.network import Host, Network
from benchmarks.faults.network_choice import open_network
from tests.harness.own_network import own_network
from tests.harness.postgres_server import PostgresServer
from tests.support import ROOT, enter, wait_until

ONCE = True  # the kernel decides

_PORT = 5432

# Says each second or so how a statement, a commit and a listener fare.
_CLIENT = """
import sys, time
from sse_threaded import LogUnavailable
from sse_threaded.log.postgres.client import PostgresClient
from sse_threaded.log.postgres.listener import Listener
from sse_threaded.log.postgres.timeouts import Timeouts
from sse_threaded.log.postgres.url import parse_url

quick = Timeouts(connect=0.5, answer=0.5, write=0.5, retry=0.5, forget=0.1, look=0.2, poll=0.2)
address = parse_url(sys.argv[1])
client = PostgresClient(address, quick)
listener = Listener(address, client, lambda: client.run("SELECT 1"), quick)
listener.open_doorbell()
while True:
    try:
        client.run("SELECT 1")
        with client.transaction() as session:
            session.run("SELECT 1")
        statement = "ok"
    except LogUnavailable as error:
        statement = type(error).__name__
    state = "failed" if listener.failure else "listening" if listener._notifications else "connecting"
    print(statement, state, "numberer" if listener.is_numberer else "", flush=True)
    time.sleep(0.1)
"""


class Client:
    """A process on a host that asks again and again."""

    def __init__(self, test: unittest.TestCase, network: Network, host: Host, url: str) -> None:
        command = network.on(host, [sys.executable, "-c", _CLIENT, url])
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        test.addCleanup(self._end)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_for(self, *lines: str) -> None:
        """Wait until it says one of these lines from now on."""
        begin = len(self.lines)

        def says() -> bool:
            return bool({*lines} & {*self.lines[begin:]})

        wait_until(says, timeout=60, message=f"{lines}, not {self.lines[-3:]}")


class NetworkTest(unittest.TestCase):
    def setUp(self) -> None:
        enter(self, own_network())
        self.network = enter(self, open_network())
        self.store, self.app = self.network.add("store"), self.network.add("app")
        port = self.network.port(self.store, _PORT)
        prefix = self.network.on(self.store, [])
        self.postgres = PostgresServer(host=self.store.back, port=port, prefix=prefix)
        self.addCleanup(self.postgres.close)
        self.postgres.allow("host all all all trust")

    def url(self, host: Host) -> str:
        address, port = self.network.address(host, self.store, self.postgres.port)
        return f"postgresql://postgres@{address}:{port}/postgres"

    def test_every_call_ends_and_all_goes_on_after_it(self) -> None:
        client = Client(self, self.network, self.app, self.url(self.app))
        client.wait_for("ok listening numberer")
        for _ in range(2):
            self.network.cut(self.app)
            client.wait_for("Unreachable failed")
            client.wait_for("Unreachable failed")
            self.network.heal(self.app)
            client.wait_for("ok listening numberer", "ok listening")

    def test_the_role_moves_when_the_host_of_its_holder_is_cut_off(self) -> None:
        other = self.network.add("other")
        first = Client(self, self.network, self.app, self.url(self.app))
        first.wait_for("ok listening numberer")
        second = Client(self, self.network, other, self.url(other))
        second.wait_for("ok listening")
        self.network.cut(self.app)
        second.wait_for("ok listening numberer")
        self.network.heal(self.app)
        first.wait_for("ok listening")

    def test_a_dead_host_among_several(self) -> None:
        dead = self.network.add("dead")
        address, port = self.network.address(self.app, dead, _PORT)
        self.network.cut(dead)
        place = self.url(self.app).partition("@")[2]
        client = Client(self, self.network, self.app, f"postgresql://postgres@{address}:{port},{place}")
        client.wait_for("ok listening numberer")


if __name__ == "__main__":
    unittest.main()
