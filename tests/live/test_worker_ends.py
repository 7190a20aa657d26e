"""A worker ends, in every way: its streams get a farewell, its logs are closed, access lines are written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import unittest
from pathlib import Path

from gunicorn import version_info

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from sse_threaded.testing.gunicorn_server import NO_CONTROL_SOCKET
from tests.live.test_gunicorn import is_running
from tests.support import FAREWELL, enter, temporary_directory, wait_until

WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4", "-w", "1")
GTHREAD = ("-k", "gthread", "--threads", "64", "-w", "1")

HOOKS = "from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit\n"

APP = """
import os, sys
from sse_threaded import Hub

hub = Hub("sqlite:///events.db", heartbeat=600)
for number in range(int(os.environ.get("AT_ONCE", "0"))):
    hub.publish("a", "x")
if "FAIL" in os.environ:
    raise RuntimeError("this app cannot be loaded")

class Closing:
    def __init__(self, iterable):
        self.iterable = iterable
        self.iterator = iter(iterable)
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.iterator)
    def close(self):
        self.iterable.close()
        print("CLOSED\\n", end="", flush=True)  # in one piece, as several threads print

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/events":
        return Closing(hub.stream(environ, "a")(environ, start_response))
    if path == "/exit":
        sys.exit(0)
    if path == "/publish":
        hub.publish("a", "x")
    body = b"%d" % hub.streams
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


# The end may come between a wrapped stream's first bytes and its place among the streams. Then it gets no place.
LAST_BYTES = re.compile(
    b"(?:" + FAREWELL + rb"|retry: [0-9]+\nevent: stream-unavailable\ndata: \{\}\n\n: the hub is closed[^\n]*\n)\Z"
)


class EndsTest(unittest.TestCase):
    def setUp(self):
        self.directory = temporary_directory(self)
        (self.directory / "shop.py").write_text(APP, encoding="utf-8")

    def serve(self, args, config=""):
        (self.directory / "conf.py").write_text(config, encoding="utf-8")
        config = self.directory / "conf.py"
        return enter(self, GunicornServer("shop:app", config=config, args=args, cwd=self.directory))

    def connect(self, server):
        client = EventStreamClient(server.url + "/events", timeout=30).open()
        self.addCleanup(client.close)
        client.wait_for(lambda: b"retry: " in client.raw, what="the first bytes")
        return client

    def in_a_copy(self):
        """How many events a copy of the file alone has."""
        copy = temporary_directory(self) / "copy.db"
        shutil.copy(self.directory / "events.db", copy)
        with contextlib.closing(sqlite3.connect(copy)) as connection:
            try:
                return connection.execute("SELECT COUNT(*) FROM sse_events").fetchone()[0]
            except sqlite3.OperationalError:
                return 0

    def assert_farewells(self, clients):
        for client in clients:
            client.wait_for_end(10)
            self.assertTrue(client.complete, client.raw[-100:])
            self.assertRegex(client.raw, LAST_BYTES)
            self.assertTrue(1000 <= client.retry <= 5000, client.retry)


def view_exits(server):
    with contextlib.suppress(OSError):
        request("GET", server.url + "/exit")


def requests_are_over(server):
    for _ in range(10):
        with contextlib.suppress(OSError):
            request("GET", server.url + "/")


ENDS = (
    ("SIGTERM", lambda server: server.terminate()),
    ("SIGINT", lambda server: os.kill(server.pid, signal.SIGINT)),
    ("SIGQUIT", lambda server: os.kill(server.pid, signal.SIGQUIT)),
    ("SIGTERM of the worker", lambda server: os.kill(server.worker_pids()[0], signal.SIGTERM)),
    ("the master is killed", lambda server: os.kill(server.pid, signal.SIGKILL)),
    ("max_requests", requests_are_over),
    ("sys.exit() in a view", view_exits),
)


class LogTest(EndsTest):
    def exercise(self, args, config):
        for name, end in ENDS:
            if end is view_exits and args is GTHREAD and version_info < (24,):
                continue  # that worker goes on
            with self.subTest(name):
                server = self.serve([*args, "--max-requests", "10", "--graceful-timeout", "20"], config)
                (worker,) = server.worker_pids()
                clients = [self.connect(server) for _ in range(3)]
                before = self.in_a_copy()
                for _ in range(3):
                    self.assertEqual(request("GET", server.url + "/publish").status, 200)
                end(server)
                self.assert_farewells(clients)
                wait_until(lambda pid=worker: not is_running(pid), timeout=30, message="the worker's end")
                self.assertEqual(self.in_a_copy(), before + 3)
                server.kill()

    def test_the_worker_tells_streams_and_closes_the_log_without_any_hook(self):
        self.exercise(WORKER, "")

    def test_a_hook_of_the_apps_own_may_publish_at_the_end(self):
        hook = "def worker_exit(server, worker):\n    import shop\n    shop.hub.publish('a', 'the end')\n"
        server = self.serve(WORKER, hook)
        self.assertEqual(request("GET", server.url + "/publish").status, 200)
        server.terminate()
        self.assertEqual(server.wait(30), 0)
        self.assertEqual(self.in_a_copy(), 2)
        self.assertNotIn("Traceback", server.output())

    def test_gunicorns_own_worker_does_with_the_hooks(self):
        self.exercise(GTHREAD, HOOKS)

    def test_an_app_that_cannot_be_loaded_leaves_a_closed_log(self):
        command = [sys.executable, "-m", "gunicorn", *WORKER, "-b", "127.0.0.1:0", *NO_CONTROL_SOCKET]
        env = {**os.environ, "FAIL": "1", "AT_ONCE": "5"}
        done = subprocess.run(
            [*command, "shop:app"], cwd=self.directory, env=env, capture_output=True, timeout=60, check=False
        )
        self.assertEqual(done.returncode, 3)
        self.assertEqual(self.in_a_copy(), 5)


class LastLinesTest(EndsTest):
    def test_an_end_at_once_leaves_parked_streams_their_access_line_hook_and_close(self):
        config = (
            "def post_request(worker, req, environ, resp):\n"
            "    print(f'POST_REQUEST {req.path}\\n', end='', flush=True)\n"
        )
        args = [*WORKER, "--access-logfile", "-", "--access-logformat", "ACCESS %(U)s %(s)s %(B)s"]
        for name, end in ENDS:
            if name.startswith("SIGTERM") or name == "max_requests":
                continue  # there gunicorn waits for them
            with self.subTest(name):
                server = self.serve(args, config)
                clients = [self.connect(server) for _ in range(20)]
                (worker,) = server.worker_pids()
                end(server)
                self.assert_farewells(clients)
                wait_until(lambda pid=worker: not is_running(pid), timeout=30, message="the worker's end")
                output = server.output()
                sizes = re.findall(r"ACCESS /events 200 (\d+)", output)  # threads print in between
                self.assertEqual(sorted(map(int, sizes)), sorted(len(client.raw) for client in clients))
                self.assertEqual(output.count("POST_REQUEST /events"), 20)
                self.assertEqual(output.count("CLOSED"), 20)
                server.kill()


class RestartTest(EndsTest):
    def test_streams_do_not_count_toward_max_requests(self):
        server = self.serve([*WORKER, "--max-requests", "10"])
        (worker,) = server.worker_pids()
        for client in [self.connect(server) for _ in range(20)]:
            client.close()
        clients = [self.connect(server) for _ in range(20)]
        self.assertEqual(request("GET", server.url + "/").status, 200)
        self.assertEqual(server.worker_pids(), [worker])
        requests_are_over(server)
        self.assert_farewells(clients)
        wait_until(lambda: not is_running(worker), timeout=30, message="the worker's end")


# A hook starts something: by a new program, by a fork, by a thread.
STARTS = """
import multiprocessing, os, subprocess, threading, time

def start(name):
    child = subprocess.Popen(["sleep", "600"])
    print("STARTED", name, "program", child.pid, flush=True)

def pre_fork(server, worker):
    start("pre_fork")
    if worker.age == 1 and not os.fork():
        os.execvp("sleep", ["sleep", "600"])

def post_fork(server, worker):
    start("post_fork")
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True)
    child.start()
    print("STARTED post_fork fork", child.pid, flush=True)
    thread = threading.Thread(target=time.sleep, args=(600,), daemon=True)
    thread.start()
    print("THREAD", os.getpid(), thread.native_id, flush=True)
"""


class HooksTest(EndsTest):
    def test_what_hooks_start_can_be_told_to_end(self):
        server = self.serve(WORKER, STARTS)
        started = re.findall(r"^STARTED (\w+ \w+) (\d+)$", server.output(), re.MULTILINE)
        self.assertEqual(
            [name for name, _ in started], ["pre_fork program", "post_fork program", "post_fork fork"]
        )
        for _, pid in started:
            self.addCleanup(kill, int(pid))
        by_fork = set(server.worker_pids()) - {int(pid) for _, pid in started}
        ((process, thread),) = re.findall(r"^THREAD (\d+) (\d+)$", server.output(), re.MULTILINE)
        (forked,) = by_fork - {int(process)}
        self.addCleanup(kill, forked)
        # Until then it is a copy of the master, whose handler would take the signal.
        wait_until(
            lambda: Path(f"/proc/{forked}/comm").read_text() == "sleep\n", message="the program of the fork"
        )
        self.assertEqual(blocked(f"/proc/{process}/task/{thread}"), 0)
        for name, pid in (*started, ("pre_fork fork", forked)):
            with self.subTest(name):
                self.assertEqual(blocked(f"/proc/{pid}"), 0)
                os.kill(int(pid), signal.SIGTERM)
                wait_until(lambda p=pid: not is_running(p), message="its end")
        self.assertEqual(request("GET", server.url + "/").body, b"0")


def blocked(path):
    with open(path + "/status", encoding="ascii") as file:
        return int(re.search(r"^SigBlk:\s+([0-9a-f]+)$", file.read(), re.MULTILINE)[1], 16)


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
