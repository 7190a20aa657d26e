"""``sse-threaded top`` and the debug page over HTTP, with several real processes."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

from rich.console import Console

from sse_threaded import Hub
from sse_threaded.overview import ProcessReport, StreamRow
from sse_threaded.testing import EventStreamClient, GunicornServer, LiveServer, request
from sse_threaded.top.source import PageSource, SourceError
from sse_threaded.top.table import draw
from tests.support import enter, free_port, sqlite_url, temporary_directory, wait_until

APP = """
import os
from sse_threaded import Hub
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Request, Response

hub = Hub(os.environ["LOG"], heartbeat=0.5)


@Request.application
def streams(web):
    if web.path == "/pid":
        return Response(str(os.getpid()))
    return hub.stream(web, web.path.strip("/").split(","), user=web.args.get("user"))


debug_page = hub.debug_page(allow=lambda environ: environ.get("HTTP_TOKEN") == "secret word")
app = DispatcherMiddleware(streams, {"/debug": debug_page})
"""

COMMAND = [sys.executable, "-m", "sse_threaded.cli", "top"]

WORKERS = {
    "the worker that parks": ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4"),
    "gthread": ("-k", "gthread", "--threads", "20", "-c", "python:sse_threaded.gunicorn_hooks"),
}


class TopCase(unittest.TestCase):
    args = WORKERS["the worker that parks"]

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        (self.folder / "shown.py").write_text(APP, encoding="utf-8")
        self.log_url = self.make_log_url(self.folder)
        args = [*self.args, "-w", "2", "--chdir", str(self.folder)]
        self.server = enter(self, GunicornServer("shown:app", args=args, env={"LOG": self.log_url}))

    def make_log_url(self, folder: Path) -> str:
        return sqlite_url(folder)

    def top(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "COLUMNS": "160"}
        return subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, env=env
        )

    def connect(self, path: str) -> EventStreamClient:
        client = EventStreamClient(f"{self.server.url}/{path}")
        self.addCleanup(client.close)
        client.open()
        client.wait_for_retry()
        return client

    def connect_to_both(self) -> list[EventStreamClient]:
        """Open streams until both workers have one."""
        clients: list[EventStreamClient] = []

        def both() -> bool:
            clients.append(self.connect("news?user=anna"))
            with Hub(self.log_url) as hub:
                return len(hub.overview(seconds=0.5)) == 2

        wait_until(both, timeout=30)
        return clients


class TopTest(TopCase):
    def test_both_processes_are_shown_over_the_log_and_over_the_page(self) -> None:
        clients = self.connect_to_both()
        for arguments in (
            ("--url", self.log_url),
            (f"{self.server.url}/debug/", "--header", "Token: secret word"),
            (f"{self.server.url}/debug", "--header", "Token: secret word"),
        ):
            with self.subTest(arguments=arguments):
                done = self.top(*arguments, "--json")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                processes = json.loads(done.stdout)
                self.assertEqual(sorted(each["pid"] for each in processes), self.server.worker_pids())
                self.assertEqual(sum(each["streams"] for each in processes), len(clients))
                rows = [row for each in processes for row in each["rows"]]
                self.assertEqual(len(rows), len(clients))
                for row in rows:
                    self.assertEqual((row["channels"], row["user"], row["waiting"]), (["news"], "anna", 0))
                    self.assertEqual(row["address"], "127.0.0.1")
                    self.assertEqual(row["kind"], "parked" if "gthread" not in self.args else "thread")

    def test_the_table(self) -> None:
        clients = self.connect_to_both()
        done = self.top("--url", self.log_url, "--once")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"{len(clients)} streams in 2 processes", done.stdout)
        self.assertEqual(done.stdout.count("anna"), len(clients))
        self.assertIn("last id", done.stdout)

    def test_a_worker_that_was_killed_is_shown_no_longer(self) -> None:
        self.connect_to_both()
        gone = self.server.worker_pids()[0]
        os.kill(gone, signal.SIGKILL)
        wait_until(lambda: gone not in self.server.worker_pids())
        pids = [each["pid"] for each in json.loads(self.top("--url", self.log_url, "--json").stdout)]
        self.assertNotIn(gone, pids)
        self.assertEqual(len(pids), 1)


class TopOfThreadsTest(TopTest):
    args = WORKERS["gthread"]


class ScreenTest(TopCase):
    def test_the_screen_is_renewed_until_ctrl_c(self) -> None:
        leader, follower = pty.openpty()
        self.addCleanup(os.close, leader)
        env = {**os.environ, "COLUMNS": "160", "LINES": "24", "TERM": "xterm"}
        child = subprocess.Popen(
            [*COMMAND, "--url", self.log_url, "--every", "0.2"], stdin=follower, stdout=follower, env=env
        )
        os.close(follower)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        self.seen = ""
        self.read_until(leader, "No stream is open")
        self.connect("a-channel?user=bo")
        self.read_until(leader, "a-channel")
        child.send_signal(signal.SIGINT)
        self.read_until(leader, "\x1b[?1049l")  # the terminal shows again what it had before
        self.assertEqual(child.wait(20), 130)

    def read_until(self, leader: int, words: str) -> None:
        deadline = time.monotonic() + 30
        while words not in self.seen:
            self.assertLess(time.monotonic(), deadline, f"{words!r} does not come: {self.seen[-2000:]!r}")
            if select.select([leader], [], [], 0.2)[0]:
                self.seen += os.read(leader, 65536).decode(errors="replace")


class TerminalTest(unittest.TestCase):
    def test_names_cannot_command_the_terminal(self) -> None:
        row = StreamRow(("a\x1b[2J",), 1, "\x1b]0;pwned\x07", "x\r", "parked", 1.0, "x-1", 0, 0)
        console = Console(record=True, width=200, file=io.StringIO())
        console.print(draw("log", [ProcessReport("p", "host", 1, 1, 0, "x-1", (row,))], 24))
        text = console.export_text()
        self.assertIn("?]0;pwned?", text)
        self.assertNotIn("\x1b", text)

    def test_a_redirect_is_not_followed(self) -> None:
        seen: list[str | None] = []

        def steal(environ, start_response):  # type: ignore[no-untyped-def]
            seen.append(environ.get("HTTP_COOKIE"))
            return _hello(start_response)

        thief = enter(self, LiveServer(steal))

        def lead_away(environ, start_response):  # type: ignore[no-untyped-def]
            start_response("302 Found", [("Location", f"{thief.url}/streams")])
            return [b""]

        page = enter(self, LiveServer(lead_away))
        with self.assertRaisesRegex(SourceError, "302"):
            PageSource(page.url, ["Cookie: session=hush"]).read()
        self.assertEqual(seen, [])


class MistakesTest(unittest.TestCase):
    def check(self, words: str, *arguments: str) -> None:
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=self.folder
        )
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        self.assertIn(words, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertNotIn("hush", done.stderr)

    def setUp(self) -> None:
        self.folder = temporary_directory(self)

    def test_a_log_or_page_that_cannot_be_used(self) -> None:
        hub = enter(self, Hub())
        page = enter(self, LiveServer(hub.debug_page(allow=lambda environ: False)))
        other = enter(self, LiveServer(lambda environ, start_response: _hello(start_response)))
        self.check("does not exist", "--url", "sqlite:///nowhere.db", "--json")
        self.check("belongs to one process", "--url", "memory://", "--json")
        self.check("403: You may not see this page", page.url, "--header", "Token: hush", "--json")
        self.check("is not a debug page", other.url, "--json")
        self.check("cannot be reached", f"http://127.0.0.1:{free_port()}", "--json")
        self.check("not in the address", "http://anna:hush@localhost:3000/debug", "--json")
        self.check("'Name: value'", other.url, "--header", "hush", "--json")
        self.check("is not an http:// or https:// address", "localhost:3000")
        self.check("--header belongs to", "--url", "memory://", "--header", "Token: hush")

    def test_without_rich_it_says_what_to_install(self) -> None:
        hub = enter(self, Hub())
        page = enter(self, LiveServer(hub.debug_page(allow=lambda environ: True)))
        program = (
            "import sys; sys.modules['rich.console'] = None; from sse_threaded.cli import main; sys.exit(main())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, "top", page.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("pip install 'sse-threaded[top]'", done.stderr)

    def test_the_page_behind_the_app(self) -> None:
        hub = enter(self, Hub())
        page = enter(self, LiveServer(hub.debug_page(allow=lambda environ: True)))
        self.assertEqual(request("GET", f"{page.url}/").status, 200)


def _hello(start_response):  # type: ignore[no-untyped-def]
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<p>hello"]
