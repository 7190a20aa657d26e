"""The command line: as a user runs it, in processes of its own, and where that makes no difference in this one."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import unittest
from unittest import mock

from sse_threaded import Retention, __version__, open_log
from sse_threaded.cli import main
from sse_threaded.testing import EventStreamClient, request
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import enter, free_port, sqlite_url, temporary_directory, wait_until

COMMAND = [sys.executable, "-m", "sse_threaded.cli"]


class CliCase(unittest.TestCase):
    def setUp(self):
        self.directory = temporary_directory(self)
        self.log_url = sqlite_url(self.directory)
        self.env = {**os.environ, "SSE_THREADED_URL": self.log_url, "PYTHONUNBUFFERED": "1"}

    def run_command(self, *arguments, **options):
        options = {"env": self.env, "cwd": self.directory, **options}
        return subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
        )

    def call(self, *arguments):
        """Run a command in this process, which takes no time to start."""
        before = os.getcwd()
        os.chdir(self.directory)
        try:
            with (
                mock.patch.dict(os.environ, self.env),
                contextlib.redirect_stdout(io.StringIO()) as output,
                contextlib.redirect_stderr(io.StringIO()) as errors,
            ):
                try:
                    status = main(arguments)
                except SystemExit as end:
                    status = end.code
        finally:
            os.chdir(before)
        return subprocess.CompletedProcess(arguments, status, output.getvalue(), errors.getvalue())

    def start(self, *arguments, command=COMMAND):
        child = subprocess.Popen(
            [*command, *arguments],
            env=self.env,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        return child

    def read_until(self, stream, words):
        """Read lines of a child up to one that has the words; warnings of the log may come before it."""
        lines = []
        for line in stream:
            lines.append(line)
            if words in line:
                return
        self.fail(f"no {words!r} in {lines}")

    def make_log(self):
        log = open_log(self.log_url)
        self.addCleanup(log.close)
        return log


class CliTest(CliCase):
    def test_help_says_what_each_command_does(self):
        text = self.call("--help").stdout
        for word in ("serve", "publish", "listen", "schema", "event log"):
            self.assertIn(word, text)
        for command, words in (
            ("serve", ("http://localhost:3000", "gunicorn", "--url")),
            ("publish", ("CHANNEL", "DATA", "print its id", "Example:")),
            ("listen", ("--since", "Ctrl-C", "Example:")),
            ("schema", ("PostgreSQL", "--role", "does not connect", "Example:")),
            ("bench", ("URL", "--post", "{stamp}", "examples:")),
        ):
            with self.subTest(command):
                done = self.call(command, "--help")
                self.assertEqual(done.returncode, 0)
                for word in words:
                    self.assertIn(word, " ".join(done.stdout.split()))

    def test_help_does_not_show_a_password(self):
        self.env["SSE_THREADED_URL"] = "redis://user:hidden@redis.internal:6379/0"
        for command in ("serve", "publish", "listen"):
            text = self.call(command, "--help").stdout
            self.assertIn("redis://redis.internal:6379/0", "".join(text.split()))
            self.assertNotIn("hidden", text)

    def test_version(self):
        self.assertEqual(self.run_command("--version").stdout, f"sse-threaded {__version__}\n")

    def test_publish_appends_and_prints_the_id(self):
        log = self.make_log()
        done = self.run_command("publish", "news", '{"n":1}', "--event", "named")
        self.assertEqual((done.returncode, done.stdout), (0, f"{log.epoch}-1\n"), done.stderr)
        done = self.run_command("publish", "news", "-", input="from\nstandard input")
        self.assertEqual(done.stdout, f"{log.epoch}-2\n")
        expected = [(1, "news", "named", '{"n":1}'), (2, "news", None, "from\nstandard input")]
        self.assertEqual(log.read(0), expected)

    def test_listen_prints_events_as_they_come(self):
        log = self.make_log()
        first = log.append("news", "before")
        child = self.start("listen", "news", "sports", "--since", first)
        log.append("other", "not this")
        log.append("news", "a\nb")
        log.append("sports", "c", "named")
        expected = f"data: a\ndata: b\nid: {log.epoch}-3\n\nevent: named\ndata: c\nid: {log.epoch}-4\n\n"
        lines = [child.stdout.readline() for _ in range(8)]
        self.assertEqual("".join(lines), expected)
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(30), 130)
        self.assertEqual(child.stderr.read(), "")

    def test_listen_deletes_nothing_that_the_app_keeps_for_longer(self):
        log = open_log(self.log_url, Retention(count=None, age=None))
        self.addCleanup(log.close)
        log.append("other", "old")
        with log.transaction() as transaction:
            transaction.connection.execute("UPDATE sse_events SET created = created - 1e6")
        main = (
            "from sse_threaded import cli\n"
            "from sse_threaded.log.sqlite.log import SQLiteLog\n"
            "from sse_threaded.log.sqlite.timeouts import Timeouts\n"
            "rounds = Timeouts(trim=0.001)  # one after the other\n"
            "cli.open_log = lambda url, retention: SQLiteLog(url, retention, timeouts=rounds)\n"
            "cli.main()\n"
        )
        child = self.start("listen", "news", "--since", f"{log.epoch}-0", command=[sys.executable, "-c", main])
        for number in range(100):
            log.append("news", str(number))
            while child.stdout.readline() != f"data: {number}\n":
                pass
        self.assertEqual(log.read(0, channels=["other"])[0].data, "old")

    def test_listen_ends_quietly_when_its_reader_does(self):
        log = self.make_log()
        child = self.start("listen", "news", "--since", f"{log.epoch}-0")
        log.append("news", "x")
        child.stdout.readline()
        child.stdout.close()
        wait_until(lambda: log.append("news", "x") and child.poll() is not None, timeout=30)
        self.assertEqual((child.returncode, child.stderr.read()), (0, ""))

    def test_what_cannot_be_done_is_said_in_one_sentence(self):
        self.make_log()
        for arguments, words in (
            (["listen", "news", "--since", "rubbish"], "'rubbish': it is not the id of an event"),
            (["listen", "news", "--since", "aaaaaa-1"], "another log"),
            (["publish", "news", "x", "--url", "sqlite:///nowhere.db"], "start the server first"),
            (["listen", "news", "--url", "memory://"], "belongs to one process"),
            (["publish", "news", "x", "--url", "mysql://me:secret@host/db"], "sqlite:///"),
            (["publish", "", "x"], "channel"),
            (["listen", "news", ""], "channel"),
            (["publish", "news", "x", "--event", "a\nb"], "event"),
        ):
            with self.subTest(arguments=arguments):
                done = self.call(*arguments)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, rf"\Asse-threaded: .*{words}.*\n\Z")
                self.assertNotIn("secret", done.stderr)
        self.assertFalse((self.directory / "nowhere.db").exists())
        self.assertEqual(self.call("publish", "news").returncode, 2)
        done = self.call("serve", "8000")
        self.assertEqual(done.returncode, 2)
        self.assertIn("'8000' is not a flag", done.stderr)

    def test_the_log_may_be_named_before_the_command(self):
        with contextlib.closing(open_log(sqlite_url(self.directory, "other.db"))) as other:
            for before, behind in ((["--url", other.url], []), ([], ["--url", other.url])):
                done = self.call(*before, "publish", "a", "x", *behind)
                self.assertEqual((done.stdout.strip(), done.stderr), (other.last_event_id(), ""))

    def test_serve_runs_the_board_with_gunicorns_flags(self):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [*COMMAND, "serve", "-b", f"127.0.0.1:{port}", "-w", "1"]
        answers = answers_http(url + "/healthz")
        server = enter(self, ServerProgram("sse-threaded serve", command, self.directory, answers, env=self.env))
        # As many as open files allow: more than gunicorn's own worker would have with its threads.
        self.assertGreater(json.loads(request("GET", url + "/healthz").body)["maxStreams"], 500)
        with EventStreamClient(url + "/boards/board-1/events") as client:
            client.wait_for(lambda: b"id: " in client.raw)
            done = self.run_command("publish", "board-1", '{"type":"note"}')
            self.assertEqual(client.next_event().last_event_id, done.stdout.strip())
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(), 0)
