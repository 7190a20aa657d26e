"""A log that cannot be opened: a server that runs goes on, and begins with the log when it is back."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import unittest
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

from sse_threaded import Hub, LogUnavailable, LogUnusable, open_log
from sse_threaded.log.interface import NestedTransaction
from sse_threaded.log.sqlite.connection import SharedConnection
from sse_threaded.log.sqlite.file import SQLiteFile
from sse_threaded.log.sqlite.high_water_mark import HighWaterMark
from sse_threaded.log.sqlite.log import SQLiteLog
from sse_threaded.log.sqlite.timeouts import Timeouts
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.support import CHECKOUT, enter, sqlite_url, temporary_directory, wait_until

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


class OpeningTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.folder = self.directory / "data"
        self.folder.mkdir()
        self.path = self.folder / "log.db"
        self.url = sqlite_url(self.folder)

    @contextlib.contextmanager
    def moved_away(self) -> Iterator[None]:
        moved = self.directory / "moved"
        self.folder.rename(moved)
        try:
            yield
        finally:
            moved.rename(self.folder)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        modes = {path: path.stat().st_mode for path in (*self.folder.glob("log.db*"), self.folder)}
        for path in modes:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)

    @contextlib.contextmanager
    def no_database(self) -> Iterator[None]:
        kept = self.directory / "kept"
        self.folder.rename(kept)
        self.folder.mkdir()
        self.path.write_text("These are my notes and no database at all.\n" * 50)
        try:
            yield
        finally:
            shutil.rmtree(self.folder)
            kept.rename(self.folder)

    @contextlib.contextmanager
    def newer_schema(self) -> Iterator[None]:
        def write(value: str) -> None:
            with contextlib.closing(sqlite3.connect(self.path)) as mine, mine:
                mine.execute("UPDATE sse_meta SET value = ? WHERE name = 'schema'", (value,))

        write("99")
        try:
            yield
        finally:
            write("1")

    def faults(self) -> tuple[Callable[[], contextlib.AbstractContextManager[None]], ...]:
        return self.moved_away, self.read_only, self.no_database, self.newer_schema


class RunningServerTest(OpeningTest):
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


class NewLogTest(OpeningTest):
    def test_the_board_announces_its_own_once(self) -> None:
        config = "python:sse_threaded.board.gunicorn_conf"
        env = {"SSE_THREADED_URL": "sqlite:///board.db", "SSE_THREADED_WORKERS": "2", "PYTHONPATH": str(CHECKOUT)}
        server = enter(self, GunicornServer(config=config, env=env, cwd=self.folder))
        self.assertEqual(re.findall("made a new log in '(.*)'", server.output()), [str(self.folder / "board.db")])


class BeginningTest(OpeningTest):
    """A process that begins."""

    def run_python(self, code: str, status: int = 0) -> str:
        command = [sys.executable, "-c", textwrap.dedent(code), self.url, str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout + done.stderr

    def test_a_hub_is_made_without_its_log_and_takes_it_up_later(self) -> None:
        url = sqlite_url(self.folder / "later")
        with self.assertLogs("sse_threaded.log.startup", "WARNING") as logged:
            hub = Hub(url)
        self.addCleanup(hub.close)
        self.assertEqual(len(logged.output), 1)
        for use in (
            hub.health,
            partial(hub.publish, "a", "x"),
            hub.log.last_event_id,
            partial(hub.log.read, 0),
            hub.log.open_doorbell,
        ):
            self.assertRaisesRegex(LogUnavailable, "its folder must be there", use)
        with self.assertRaises(LogUnavailable), hub.log.transaction():
            self.fail("entered")
        with self.assertRaises(LogUnavailable):
            hub.log.epoch  # noqa: B018
        reply = hub.stream({"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"}, "a")
        self.assertEqual(reply.status_code, 200)
        self.assertRegex(b"".join(reply.iter_encoded()), rb"retry: \d+")
        poll = hub.stream({"REQUEST_METHOD": "GET", "HTTP_ACCEPT": "application/json"}, "a")
        self.assertEqual(poll.status_code, 503)
        (self.folder / "later").mkdir()

        def is_taken_up() -> bool:
            with contextlib.suppress(LogUnavailable):
                return hub.publish("a", "x") == f"{hub.log.epoch}-1"
            return False

        with self.assertLogs("sse_threaded.log.sqlite.file", "WARNING") as logged:
            wait_until(is_taken_up, message="the log to be taken up")
        self.assertIn("could be opened now", "".join(logged.output))
        self.assertEqual(hub.health()["log"]["lastEventId"], f"{hub.log.epoch}-1")

    def test_a_file_that_goes_away_while_it_is_opened(self) -> None:
        with (
            mock.patch.object(HighWaterMark, "begin", side_effect=FileNotFoundError(2, "No such file")),
            self.assertLogs("sse_threaded", "WARNING"),
        ):
            log = open_log(self.url)
            self.addCleanup(log.close)
            self.assertRaisesRegex(LogUnavailable, "cannot be opened", log.append, "a", "x")

        def is_taken_up() -> bool:
            with contextlib.suppress(LogUnavailable):
                return log.append("a", "x").endswith("-1")
            return False

        wait_until(is_taken_up, message="the log to be taken up")

    def test_requests_do_not_queue_up_for_a_file_that_cannot_be_opened(self) -> None:
        with self.assertLogs("sse_threaded", "WARNING"):
            log = open_log(sqlite_url(self.folder / "nowhere"))
        self.addCleanup(log.close)
        with mock.patch.object(SQLiteFile, "prepare", autospec=True, side_effect=SQLiteFile.prepare) as prepare:
            for _ in range(100):
                self.assertRaises(LogUnavailable, log.read, 0)
        self.assertLess(prepare.call_count, 50)

    def test_what_no_waiting_can_mend_is_refused_by_the_first_process(self) -> None:
        open_log(self.url).close()
        for fault, words in (
            (self.no_database, "not a SQLite database"),
            (self.newer_schema, "schema 99"),
        ):
            with self.subTest(fault=fault.__name__), fault():
                printed = self.run_python("import sys; from sse_threaded import Hub; Hub(sys.argv[1])", 1)
                self.assertIn(words, printed)

    def test_nor_do_its_children_refuse_it_once_it_was_good(self) -> None:
        printed = self.run_python(
            """
            import os, sys
            from sse_threaded import Hub, LogUnusable
            if not os.fork():
                hub = Hub(sys.argv[1])
                hub.publish("a", "x")
                hub.close()
                os._exit(0)
            os.wait()
            os.rename(sys.argv[2], sys.argv[2] + "-kept")
            with open(sys.argv[2], "w") as file:
                file.write("These are my notes and no database at all." * 50)
            if not os.fork():
                hub = Hub(sys.argv[1])
                try:
                    hub.publish("a", "y")
                except LogUnusable as error:
                    print(error.reason, flush=True)
                os.replace(sys.argv[2] + "-kept", sys.argv[2])
                while True:
                    try:
                        print(hub.publish("a", "y"), flush=True)
                        break
                    except LogUnusable:
                        pass
                os._exit(0)
            os.wait()
            """
        )
        self.assertRegex(printed, r"not a SQLite database(.|\n)*[a-z]{6}-2")

    def test_a_url_that_is_none_is_always_refused(self) -> None:
        for url in ("sqlite:///", "sqlite:///x?mode=ro", "nothing://", f"sqlite:///{self.folder}/"):
            self.assertRaises(LogUnusable, Hub, url)


class CheckTest(OpeningTest):
    """What health checks ask of a log."""

    def make_log(self, timeouts: Timeouts | None = None) -> SQLiteLog:
        log = SQLiteLog(self.url, timeouts=timeouts)
        self.addCleanup(log.close)
        return log

    def start_check(self, log: SQLiteLog, results: list[str]) -> threading.Thread:
        """A thread that checks the log, once it has begun to wait for the connection that writes."""
        thread = threading.Thread(target=lambda: results.append(log.check()))
        waits, use = threading.Event(), SharedConnection.use

        def noted_use(shared: SharedConnection, **options: bool) -> contextlib.AbstractContextManager[object]:
            if threading.current_thread() is thread:
                waits.set()
            return use(shared, **options)

        patch = mock.patch.object(SharedConnection, "use", noted_use)
        patch.start()
        self.addCleanup(patch.stop)
        thread.start()
        self.assertTrue(waits.wait(10))
        return thread

    def test_it_changes_nothing(self) -> None:
        log = self.make_log(Timeouts(health=0))
        first = log.append("a", "x")
        mark = self.folder / "log.db-bells" / ".mark"
        before = mark.read_bytes()
        for _ in range(3):
            self.assertEqual(log.check(), first)
        self.assertEqual(mark.read_bytes(), before)
        self.assertEqual([record.data for record in log.read(0)], ["x"])
        self.assertEqual(log.append("a", "y"), first.replace("-1", "-2"))
        with log.snapshot() as snapshot:
            assert snapshot.connection is not None
            self.assertEqual(snapshot.connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def test_it_writes_to_the_disk(self) -> None:
        log = self.make_log()
        log.append("a", "x")
        wal = Path(f"{self.path}-wal")
        before = wal.stat().st_size
        log.check()
        self.assertGreater(wal.stat().st_size, before)

    def test_a_good_result_holds_for_a_while(self) -> None:
        log = self.make_log(Timeouts(health=600))
        begin = SQLiteFile.begin_write
        with mock.patch.object(SQLiteFile, "begin_write", autospec=True, side_effect=begin) as tries:
            for _ in range(20):
                log.check()
        self.assertEqual(tries.call_count, 1)

    def test_a_full_file(self) -> None:
        log = self.make_log()
        log.append("a", "x")

        def let_it_have(pages: int) -> None:
            with log.transaction() as transaction:
                assert transaction.connection is not None
                transaction.connection.execute(f"PRAGMA max_page_count = {pages}")

        let_it_have(1)  # SQLite keeps the pages that there are
        self.assertRaisesRegex(LogUnavailable, "disk is full", log.check)
        let_it_have(1_000_000)
        self.assertEqual(log.check(), log.last_event_id())

    def test_a_file_that_was_removed(self) -> None:
        log = self.make_log()
        log.append("a", "x")
        self.path.rename(self.folder / "moved.db")
        self.assertRaisesRegex(LogUnusable, "removed or replaced", log.check)

    def test_inside_a_transaction_of_its_own_it_is_refused_and_nowhere_else(self) -> None:
        log = self.make_log()
        results: list[str] = []
        with log.transaction() as transaction:
            transaction.append("a", "x")
            self.assertRaises(NestedTransaction, log.check)
            checking = self.start_check(log, results)
            self.assertEqual(log.check(), f"{log.epoch}-0", "another prober has the result before")
        checking.join()
        self.assertEqual(results, [f"{log.epoch}-1"])

    def test_a_brief_lock_is_no_fault_and_a_long_one_takes_one_thread(self) -> None:
        log = self.make_log()
        log.append("a", "x")
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results: list[str] = []
            checking = self.start_check(log, results)
            self.assertEqual(log.check(), log.last_event_id(), "another prober is not kept")
            other.execute("ROLLBACK")
            checking.join()
            self.assertEqual(results, [log.last_event_id()])
            impatient = self.make_log(Timeouts(lock=0.05))
            other.execute("BEGIN IMMEDIATE")
            self.assertRaisesRegex(LogUnavailable, "locked by another writer", impatient.check)
            other.execute("ROLLBACK")
        self.assertEqual(log.check(), log.last_event_id())


if __name__ == "__main__":
    unittest.main()
