"""The locks that are taken while another one is held are those in docs/design.md, and they have one order."""

import json
import re
import unittest
from graphlib import TopologicalSorter

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.support import ROOT, temporary_directory, wait_until

_HARNESS = ROOT / "tests" / "harness"
_ROW = re.compile(r"^\| `([\w/.]+ \w+)` \| (`[\w/.]+ \w+`(?:, `[\w/.]+ \w+`)*) \|", re.MULTILINE)


def written():
    """The pairs in docs/design.md: the lock that is held, and the one that is taken."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    return {(row[1], inner.strip("`")) for row in _ROW.finditer(text) for inner in row[2].split(", ")}


class LockOrderTest(unittest.TestCase):
    def seen(self, worker_class):
        """The pairs that a worker takes which has streams of all kinds."""
        folder = temporary_directory(self)
        server = GunicornServer(
            "lock_order_app:make_app()",
            config="python:lock_order_app",
            args=["--worker-class", worker_class],
            env={"PYTHONPATH": str(_HARNESS), "LOCK_ORDER_FOLDER": str(folder)},
            cwd=ROOT,
        )
        with server:
            slow = EventStreamClient(server.url + "/bare").open()
            self.addCleanup(slow.close)
            paths = ["/bare", "/bare", "/wrapped", "/wrapped"]
            clients = [EventStreamClient(server.url + path).open() for path in paths]
            for client in clients:
                self.addCleanup(client.close)
                client.wait_for(lambda client=client: client.comments, what="a heartbeat")
            self.assertEqual(request("GET", server.url + "/publish").status, 200)
            for client in clients:
                # Some may have been too slow, too.
                client.wait_for(lambda client=client: client.has_events() or client.ended, what="an event")
            clients.pop().close()
            clients.pop(0).close()
            # The slow one is cut off, and two have left.
            wait_until(lambda: int(request("GET", server.url + "/").body) <= len(clients), timeout=30)
            self.assertEqual(request("GET", server.url + "/fork").status, 200)
            resumed = EventStreamClient(server.url + "/bare", last_event_id=clients[0].last_event_id).open()
            self.addCleanup(resumed.close)
            server.terminate()
            server.wait()
        (result,) = folder.glob("locks-*.json")
        return {tuple(pair) for pair in json.loads(result.read_text())}

    def test_the_table_has_all_pairs(self):
        for worker_class in ("sse_threaded.worker.ThreadWorker", "gthread"):
            with self.subTest(worker_class=worker_class):
                seen = self.seen(worker_class)
                self.assertIn(("log/sqlite/connection.py _lock", "log/sqlite/trimmer.py _lock"), seen)
                self.assertEqual(seen - written(), set(), "docs/design.md, Threads: add these pairs")

    def test_there_is_one_order(self):
        sorter = TopologicalSorter()
        for outer, inner in written():
            sorter.add(outer, inner)
        sorter.prepare()  # raises CycleError


if __name__ == "__main__":
    unittest.main()
