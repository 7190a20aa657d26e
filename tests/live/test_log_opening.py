"""A log that cannot be opened: a server that runs goes on, and begins with the log when it is back."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import unittest
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.support import CHECKOUT, enter, wait_until
from tests.unit.test_log_startup import LogFileCase

# An app as a reader of the README writes it, with its hub made when the module is imported.
APP = """
import os
from sse_threaded import Hub, LogError
from werkzeug.wrappers import Request, Response

hub = Hub(os.environ["LOG_URL"], retry=1000)

@Request.application
def app(request):
    if request.method == "POST":
        try:
            return Response(hub.publish("a", "x"), 201)
        except LogError as error:
            return Response(error.reason, 503)
    return hub.stream(request, "a")
"""

# Root may write every file unless it gives up the capability (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH).
LIKE_OTHERS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
sets[0] &= ~0b110    # effective, permitted, inheritable
sets[1] &= ~0b110
sets[2] &= ~0b110
assert libc.capset(header, sets) == 0
"""

CONFIGS = {
    "board.py": LIKE_OTHERS + "from sse_threaded.board.gunicorn_conf import *",
    "hooks.py": LIKE_OTHERS + "from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit",
}


class RunningServerTest(LogFileCase):
    """Every worker is killed while the log cannot be opened; the master and the successors must stay."""

    def setUp(self) -> None:
        super().setUp()
        (self.directory / "shop.py").write_text(APP)
        for name, text in CONFIGS.items():
            (self.directory / name).write_text(text)

    def serve(self, app: str | None, config: str, *args: str) -> GunicornServer:
        env = {"LOG_URL": self.url, "SSE_THREADED_URL": self.url, "SSE_THREADED_RETRY": "1000"}
        path, args = self.directory / config, ("-w", "2", *args)
        server = enter(self, GunicornServer(app, config=path, args=args, env=env, cwd=self.directory))
        wait_until(lambda: len(server.worker_pids()) == 2, message="two workers")
        return server

    def replace_workers(self, server: GunicornServer) -> None:
        for old in server.worker_pids():
            os.kill(old, signal.SIGKILL)
            wait_until(partial(self.are_two_without, server, old), message=f"a successor of worker {old}")
        server.wait_until_ready()

    def assert_goes_on(
        self,
        server: GunicornServer,
        publish: str,
        events: str,
        meanwhile: Callable[[], None] = lambda: None,
        afterwards: Callable[[], None] = lambda: None,
    ) -> None:
        body = {"title": "New task"}

        def post() -> int:
            return request("POST", server.url + publish, json=body).status

        for fault in self.faults():
            with self.subTest(fault=fault.__name__):
                wait_until(lambda: post() == 201, message="the log to take something")
                master = server.pid
                with fault():
                    self.replace_workers(server)
                    for _ in range(6):
                        reply = request("POST", server.url + publish, json=body)
                        self.assertEqual(reply.status, 503, reply.body)
                        with EventStreamClient(server.url + events) as client:
                            client.wait_for_end()
                            self.assertEqual(client.status, 200)
                            self.assertRegex(client.raw, rb"retry: \d+")
                        meanwhile()
                wait_until(lambda: post() == 201, message="the log to be taken up again")
                pids = set(server.worker_pids())
                for _ in range(6):
                    wait_until(lambda: post() == 201, message="every worker to take it up again")
                afterwards()
                self.assertEqual((server.pid, set(server.worker_pids())), (master, pids))
        self.assertNotIn("Worker failed to boot", server.output())

    def test_the_board(self) -> None:
        server = self.serve(None, "board.py")

        def is_ill() -> None:
            reply = request("GET", server.url + "/healthz")
            self.assertEqual(reply.status, 503, reply.body)
            self.assertRegex(reply.json()["detail"], r"^The log cannot be used now: .*\.$")
            self.assertEqual(request("GET", server.url + "/boards/board-1").status, 503)

        def is_well() -> None:
            def has_id() -> bool:
                reply = request("GET", server.url + "/healthz")
                return reply.status == 200 and "lastEventId" in reply.json()["log"]

            wait_until(has_id, message="health")

        self.assert_goes_on(server, "/boards/board-1/tasks", "/boards/board-1/events", is_ill, is_well)
        self.assertNotIn("Traceback", server.output())

    def test_an_app_of_its_own(self) -> None:
        server = self.serve("shop:app", "hooks.py", "-k", "sse_threaded.worker.ThreadWorker")
        self.assert_goes_on(server, "/", "/")

    def test_the_same_on_gunicorns_own_threads(self) -> None:
        server = self.serve("shop:app", "hooks.py", "-k", "gthread", "--threads", "8")
        self.assert_goes_on(server, "/", "/")

    def test_files_of_sqlites_own_that_are_removed_cost_an_epoch_and_no_server(self) -> None:
        server = self.serve(None, "board.py")
        url = server.url + "/boards/board-1/tasks"
        master = server.pid
        epochs = {self.post_until_taken(url)}
        for ends in (("-wal",), ("-wal", "-shm"), ("-shm",)):
            with self.subTest(ends=ends):
                for end in ends:
                    Path(f"{self.path}{end}").unlink()
                (first, second) = server.worker_pids()
                os.kill(first, signal.SIGKILL)
                wait_until(partial(self.are_two_without, server, first), message="a successor")
                for _ in range(6):  # the other worker cannot go on, and the next one may have to wait for its end
                    self.assertIn(request("POST", url, json={"title": "x"}).status, (201, 503))
                os.kill(second, signal.SIGKILL)
                wait_until(partial(self.are_two_without, server, second), message="a successor")
                epochs |= {self.post_until_taken(url) for _ in range(6)}
                self.assertEqual(server.pid, master)
        self.assertGreater(len(epochs), 1)
        self.assertNotIn("Worker failed to boot", server.output())

    @staticmethod
    def are_two_without(server: GunicornServer, gone: int) -> bool:
        pids = server.worker_pids()
        return len(pids) == 2 and gone not in pids

    @staticmethod
    def post_until_taken(url: str) -> str:
        """Make a task as soon as the board takes it; returns the epoch of its event's id."""
        found: list[str] = []

        def is_taken() -> bool:
            reply = request("POST", url, json={"title": "x"})
            if reply.status == 201:
                found.append(str(reply.headers["Last-Event-ID"]))
            return bool(found)

        wait_until(is_taken, message="the board to take something")
        return found[0].partition("-")[0]

    def test_a_damaged_file_is_told_once_to_operators_and_each_time_to_health_checks(self) -> None:
        server = self.serve(None, "board.py")
        url = server.url + "/boards/board-1/tasks"
        for _ in range(60):
            self.assertEqual(request("POST", url, json={"title": "x" * 200}).status, 201)
        with contextlib.closing(sqlite3.connect(self.path)) as mine:
            mine.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(self.path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(self.path.stat().st_size - 4096))

        def is_ill() -> bool:
            return request("GET", server.url + "/healthz").status == 503

        wait_until(is_ill, message="the damage to be seen")
        for _ in range(40):
            reply = request("POST", url, json={"title": "New task"})
            self.assertEqual(reply.status, 503, reply.body)
            self.assertIn("tell its operator", reply.json()["detail"])
        wait_until(lambda: all(is_ill() for _ in range(10)), message="both workers to say so")
        output = server.output()
        self.assertNotIn("Traceback", output)
        self.assertIn("the file is corrupt", output)
        for line in ("POST '/boards/board-1/tasks'", "unhealthy"):
            self.assertLessEqual(output.count(line), 2, f"one line a worker:\n{output}")


class NewLogTest(LogFileCase):
    def test_the_board_announces_its_own_once(self) -> None:
        config = "python:sse_threaded.board.gunicorn_conf"
        env = {"SSE_THREADED_URL": "sqlite:///board.db", "SSE_THREADED_WORKERS": "2", "PYTHONPATH": str(CHECKOUT)}
        server = enter(self, GunicornServer(config=config, env=env, cwd=self.folder))
        self.assertEqual(re.findall("made a new log in '(.*)'", server.output()), [str(self.folder / "board.db")])


if __name__ == "__main__":
    unittest.main()
