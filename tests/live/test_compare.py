"""The comparison's own servers and its client of requests, for a moment. No other server is installed."""

from __future__ import annotations

import importlib.util
import shutil
import unittest
from pathlib import Path
from unittest import mock

import sse_threaded
from benchmarks.compare.peers import Missing, Peers
from benchmarks.compare.publish_scenarios import publishers
from benchmarks.compare.request_load import RequestLoad
from benchmarks.compare.request_scenarios import BARE, BOARDS, gets
from benchmarks.compare.servers import SERVERS, Server, running, with_packages
from benchmarks.compare.trial import Trial
from sse_threaded.bench.errors import CannotBench
from sse_threaded.testing import EventStreamClient, request
from tests.support import missing, temporary_directory

# Appended to the package of another checkout.
MARK = """
from pathlib import Path as _Path
_Path(__file__).with_name("imported").touch()
"""


def server_of(servers: tuple[Server, ...] | list[Server], key: str) -> Server:
    return next(server for server in servers if server.key == key)


class CompareTest(unittest.TestCase):
    def setUp(self) -> None:
        self.peers = Peers(temporary_directory(self))

    def other_checkout(self) -> tuple[Path, Path]:
        """Return another checkout, and a file that appears in it when its package is imported."""
        folder = temporary_directory(self)
        shutil.copytree(Path(sse_threaded.__file__).parent, folder / "sse_threaded")
        with (folder / "sse_threaded" / "__init__.py").open("a") as module:
            module.write(MARK)
        return folder, folder / "sse_threaded" / "imported"

    def need(self, *packages: str) -> None:
        for package in packages:
            if importlib.util.find_spec(package) is None:
                missing(f"{package} (pip install '.[bench]')")

    def need_compiler(self) -> None:
        if shutil.which("cc") is None:
            missing("a C compiler (cc)")

    def test_our_servers_stream(self) -> None:
        self.need("flask", "waitress")
        for key in ("parked-memory", "parked-flask", "plain", "waitress"):
            with (
                self.subTest(key),
                running(server_of(SERVERS, key), self.peers, workers=1, streams=2) as started,
                EventStreamClient(f"{started.url}/events?channel=7") as client,
            ):
                client.wait_for(lambda client=client: b"retry: " in client.raw)
                request("POST", f"{started.url}/publish?channel=7", body=b"one\ntwo")
                request("POST", f"{started.url}/publish?channel=7", body=b"three")
                self.assertEqual([event.data for event in client.events(3)], ["one", "two", "three"])

    def test_a_server_runs_the_package_of_another_checkout(self) -> None:
        self.need("waitress")
        for key in ("parked", "waitress"):
            checkout, mark = self.other_checkout()
            servers = with_packages([server_of(SERVERS, key)], {"before": checkout})
            for server, imported in zip(servers, (False, True), strict=True):
                with self.subTest(server.key), running(server, self.peers, workers=1, streams=1):
                    self.assertIs(mark.exists(), imported)

    def test_the_client_of_requests(self) -> None:
        self.need_compiler()
        for server, path, body in (
            (server_of(BARE, "worker"), "/", None),
            (server_of(BOARDS, "normal"), "/boards/board-1/tasks", '{"title":"New task"}'),
        ):
            with self.subTest(server.key), running(server, self.peers, workers=1, streams=0) as started:
                found = RequestLoad(self.peers, started, path, body).measure(3, 0.2)
                self.assertGreater(found.us, 0)
                self.assertGreater(found.rate, 0)
                self.assertLess(found.share, 1.1)
                if body is not None:
                    with self.assertRaisesRegex(CannotBench, "not 2xx"):
                        RequestLoad(self.peers, started, path, "no JSON").measure(1, 0.1)

    def test_servers_that_cannot_be_installed_are_left_out_of_the_gets(self) -> None:
        self.need_compiler()
        self.need("waitress")
        no_network = Missing("there is no network")
        with mock.patch.object(self.peers, "_make_environment", side_effect=no_network):
            found = gets(Trial(self.peers, share=0.1))
        self.assertEqual(found["left_out"], dict.fromkeys(("uvicorn", "m0serve"), "there is no network"))
        for key in ("floor", "worker", "gthread", "waitress"):
            self.assertGreater(found[f"{key}_1_us"], 0)

    def test_threads_publish_into_the_log_of_each_checkout(self) -> None:
        checkout, mark = self.other_checkout()
        found = publishers(Trial(self.peers, {"before": checkout}, share=0.1))
        self.assertTrue(mark.exists())
        for key in ("full", "normal", "full@before", "normal@before"):
            self.assertGreater(found[f"{key}_8_rate"], 0)
            self.assertAlmostEqual(found[f"{key}_ratio"], found[f"{key}_8_rate"] / found[f"{key}_1_rate"])


if __name__ == "__main__":
    unittest.main()
