"""A fork that does not run Python's hooks: uWSGI's master makes one after it has loaded the app."""

from __future__ import annotations

import textwrap
import unittest

from tests.harness.warm_python import run_python
from tests.support import sqlite_url, temporary_directory

HEAD = """
import ctypes, os, sys
from sse_threaded import Hub

hub = Hub(sys.argv[1])

def fork(act):
    # The C library's fork, and not os.fork(), which would run the hooks of this process.
    child = ctypes.PyDLL(None).fork()
    if not child:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


class UntoldForkTest(unittest.TestCase):
    def run_forking(self, url: str, code: str) -> list[str]:
        done = run_python(HEAD + textwrap.dedent(code), url)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.split()

    def test_a_child_and_its_parent_give_no_id_twice(self) -> None:
        ids = self.run_forking(
            "memory://",
            """
            print(hub.publish("news", 1), flush=True)
            fork(lambda: print(hub.publish("news", 2), flush=True))
            print(hub.publish("news", 3))
            """,
        )
        self.assertEqual(len(set(ids)), 3, ids)

    def test_a_child_does_not_use_what_its_parent_has_open(self) -> None:
        log = sqlite_url(temporary_directory(self))
        pipes = self.run_forking(
            log,
            """
            def pipes():
                hub.publish("news", 1)
                bell = hub._pump._thread.bell.fileno()
                print(bell, os.fstat(bell).st_ino, flush=True)

            pipes()
            fork(pipes)
            fork(pipes)
            """,
        )
        self.assertEqual(len(set(pipes[1::2])), 3, pipes)

    def test_a_childs_first_stream_has_a_pump_of_the_child(self) -> None:
        pipes = self.run_forking(
            "memory://",
            """
            def stream():
                environ = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.multithread": True}
                hub.stream(environ, "news").response.close()
                print(os.fstat(hub._pump._thread.bell.fileno()).st_ino, flush=True)

            stream()
            fork(stream)
            """,
        )
        self.assertEqual(len(set(pipes)), 2, pipes)

    def test_a_lock_that_the_parent_holds_does_not_stop_the_child(self) -> None:
        log = sqlite_url(temporary_directory(self))
        self.run_forking(
            log,
            """
            import threading
            inside, done = threading.Event(), threading.Event()

            def hold():
                with hub.log.snapshot():
                    inside.set()
                    done.wait(60)

            thread = threading.Thread(target=hold)
            thread.start()
            inside.wait(60)
            fork(lambda: hub.log.last_event_id())
            done.set()
            thread.join()
            """,
        )


if __name__ == "__main__":
    unittest.main()
