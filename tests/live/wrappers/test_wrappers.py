"""Wrapped streams on every server: what the wrapper says is done, and nothing is held for ever."""

from __future__ import annotations

import contextlib
import unittest
from concurrent.futures import ThreadPoolExecutor

from sse_threaded import open_log
from tests.live.wrappers.exercise import WRAPPERS, Exercise, publish_backlog
from tests.live.wrappers.servers import serve
from tests.support import temporary_directory


class ServerCase(unittest.TestCase):
    """Runs a table of wrappers on a server."""

    def exercise(self, server, wrappers, **options):
        """Try all wrappers at the same time; returns the result of each, and the server's output."""
        directory = temporary_directory(self)
        outcome = {}
        with contextlib.ExitStack() as stack:
            running = stack.enter_context(serve(server, directory, **options))
            log = open_log(f"sqlite:///{directory}/{server}.db")
            stack.callback(log.close)
            before = publish_backlog(log)
            for scenario in (Exercise.obeyed, Exercise.ended, Exercise.let_go):
                with ThreadPoolExecutor(len(wrappers)) as pool:
                    for wrapper in wrappers:
                        run = pool.submit(scenario, Exercise(running, log, wrapper, before))
                        outcome[scenario.__name__, wrapper.name] = run
            return outcome, running.printed()

    def check(self, outcome, **where):
        for (scenario, wrapper), run in outcome.items():
            with self.subTest(scenario=scenario, wrapper=wrapper, **where):
                run.result()

    def assert_obeyed(self, server):
        outcome, printed = self.exercise(server, WRAPPERS)
        self.check(outcome, server=server)
        self.assertNotIn("Exception ignored", printed)


# A class for each server, as the runner hands out classes.


class WorkerTest(ServerCase):
    def test_every_wrapper_is_obeyed_and_lets_go(self):
        self.assert_obeyed("worker")


class GthreadTest(ServerCase):
    def test_every_wrapper_is_obeyed_and_lets_go(self):
        self.assert_obeyed("gthread")


class TlsTest(ServerCase):
    def test_every_wrapper_is_obeyed_and_lets_go(self):
        self.assert_obeyed("tls")


class WerkzeugTest(ServerCase):
    def test_every_wrapper_is_obeyed_and_lets_go(self):
        self.assert_obeyed("werkzeug")


class WaitressTest(ServerCase):
    def test_every_wrapper_is_obeyed_and_lets_go(self):
        self.assert_obeyed("waitress")


if __name__ == "__main__":
    unittest.main()
