"""Wrapped streams on every server: what the wrapper says is done, and nothing is held for ever."""

from __future__ import annotations

import contextlib
import unittest
from concurrent.futures import ThreadPoolExecutor

from sse_threaded import open_log
from tests.support import temporary_directory
from tests.wrappers.exercise import WRAPPERS, Exercise
from tests.wrappers.servers import SERVERS, serve


class TableTest(unittest.TestCase):
    """A server for each test, and all wrappers on it at the same time."""

    def exercise(self, server, wrappers=WRAPPERS, **options):
        directory = temporary_directory(self)
        with contextlib.ExitStack() as stack:
            running = stack.enter_context(serve(server, directory, **options))
            log = open_log(f"sqlite:///{directory}/{server}.db")
            stack.callback(log.close)
            for scenario in (Exercise.obeyed, Exercise.ended, Exercise.let_go):
                exercises = [Exercise(running, log, wrapper) for wrapper in wrappers]
                with ThreadPoolExecutor(len(exercises)) as pool:
                    runs = [(each.wrapper.name, pool.submit(scenario, each)) for each in exercises]
                for wrapper, run in runs:
                    with self.subTest(server=server, scenario=scenario.__name__, wrapper=wrapper):
                        run.result()
            self.assertNotIn("Exception ignored", running.printed())

    def test_every_wrapper_is_obeyed_on_every_server_and_lets_go(self):
        for server in SERVERS:
            self.exercise(server)


if __name__ == "__main__":
    unittest.main()
