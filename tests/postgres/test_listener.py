"""The listening connection: rings, failures, the role of the numberer."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import unittest
from collections.abc import Callable
from functools import partial
from unittest import mock

from benchmarks.faults.tcp_proxy import TcpProxy
from sse_threaded import LogUnavailable, LogUnusable
from sse_threaded.log.doorbell import Doorbell
from sse_threaded.log.postgres import listener as listener_module
from sse_threaded.log.postgres.client import PostgresClient
from sse_threaded.log.postgres.errors import Unreachable
from sse_threaded.log.postgres.listener import PENDING, Listener
from sse_threaded.log.postgres.timeouts import Timeouts
from sse_threaded.log.postgres.url import Address, parse_url
from tests.harness.postgres_server import PostgresServer
from tests.postgres.server_case import QUICK, PostgresCase, ended, everything_shown
from tests.support import ROOT, free_port, temporary_directory, wait_until

# It looks often, and gives PostgreSQL enough time.
ALERT = Timeouts(look=0.1, poll=0.1, forget=0.1)

LISTENERS = "sse_threaded listener%"


def has_rung(bell: Doorbell) -> bool:
    """Whether a doorbell has rung since the last question."""
    try:
        return bool(os.read(bell.fileno(), 65536))
    except BlockingIOError:
        return False


class OpenListener:
    """A listener with its client, its doorbell, and the calls of its ``give``."""

    def __init__(self, test: unittest.TestCase, url: str, timeouts: Timeouts = ALERT) -> None:
        self.address: Address = parse_url(url)
        self.client = PostgresClient(self.address, timeouts)
        self.calls = 0
        self.answer: Callable[[], object] = self.look
        self.listener = Listener(self.address, self.client, self._give, timeouts)
        test.addCleanup(self.close)
        self.doorbell: Doorbell = self.listener.open_doorbell()

    def _give(self) -> int:
        self.answer()
        self.calls += 1
        return 0

    def look(self) -> None:
        self.client.run("SELECT 1")

    def close(self) -> None:
        self.listener.stop()
        thread = self.listener._thread
        if thread is not None:
            thread.join(60)
        self.client.close()
        self.doorbell.close()

    @property
    def is_listening(self) -> bool:
        """Whether notifications reach it."""
        return self.listener._notifications is not None

    def has_rung(self) -> bool:
        """Whether it has rung since the last question."""
        return has_rung(self.doorbell)

    def wait_for_ring(self, why: str) -> None:
        """Wait until it has rung since the last question."""
        wait_until(self.has_rung, timeout=60, message=why)


class ListenerCase(PostgresCase):
    def setUp(self) -> None:
        self.url = self.postgres.url(prefix=f"t{id(self)}")

    def open(self, url: str | None = None, timeouts: Timeouts = ALERT) -> OpenListener:
        return OpenListener(self, url or self.url, timeouts)

    def listen(self, url: str | None = None, timeouts: Timeouts = ALERT) -> OpenListener:
        """Open a listener, and wait until it listens and has rung."""
        opened = self.open(url, timeouts)
        wait_until(lambda: opened.is_listening, timeout=60, message="it listens")
        opened.wait_for_ring("it rings when it listens")
        return opened

    def number(self) -> OpenListener:
        """Open a listener, and wait until it has given numbers for the first time, as the numberer."""
        opened = self.listen()
        wait_until(lambda: opened.listener.is_numberer and opened.calls, timeout=60, message="it has the role")
        return opened

    def notify(self, text: str) -> None:
        self.postgres.ask("SELECT pg_notify(%s, %s)", parse_url(self.url).bell, text)


class ListenerTest(ListenerCase):
    def test_a_number_rings(self) -> None:
        first, second = self.listen(), self.listen()
        self.notify("abcdef-1")
        first.wait_for_ring("the first rings")
        second.wait_for_ring("the second rings")

    def test_another_log_does_not_ring(self) -> None:
        first = self.listen()
        other = self.listen(self.postgres.url(prefix="other"))
        self.notify("abcdef-1")
        first.wait_for_ring("the first rings")
        self.assertFalse(other.has_rung())

    def test_all_doorbells_ring_and_there_is_one_connection(self) -> None:
        opened = self.listen()
        bells = [opened.listener.open_doorbell() for _ in range(3)]
        self.assertEqual(len(self.postgres.sessions(LISTENERS)), 1)
        self.notify("abcdef-1")
        for bell in bells:
            wait_until(partial(has_rung, bell), message="it rings")
        bells[0].close()
        opened.listener.open_doorbell()
        self.assertNotIn(bells[0], opened.listener._doorbells)

    def test_one_process_has_the_role_of_the_numberer(self) -> None:
        opened = [self.listen() for _ in range(3)]
        wait_until(lambda: any(each.listener.is_numberer for each in opened), message="one has the role")
        (holder,) = (each for each in opened if each.listener.is_numberer)
        calls = holder.calls
        self.notify(PENDING)
        wait_until(lambda: holder.calls > calls, message="it gives numbers")
        self.assertIn("numberer=True listening", repr(holder.listener))

    def test_the_role_moves_when_its_holder_ends(self) -> None:
        first = self.number()
        second = self.listen()
        first.close()
        wait_until(lambda: second.listener.is_numberer, timeout=60, message="the other has the role")

    def test_one_that_cannot_give_numbers_leaves_the_role_to_another(self) -> None:
        first = self.number()
        second = self.listen()

        def refuse() -> None:
            raise LogUnavailable("postgresql://", "cannot")

        first.answer = refuse
        with self.assertLogs("sse_threaded.log.postgres.listener", logging.WARNING) as lines:
            self.notify(PENDING)
            wait_until(lambda: second.listener.is_numberer, timeout=60, message="the other has the role")
        self.assertIn("events wait for their numbers: postgresql://: cannot", lines.output[0])
        self.assertIsNone(first.listener.failure)

    def test_without_a_number_in_time_every_process_gives_them(self) -> None:
        first = self.number()
        go_on = threading.Event()
        self.addCleanup(go_on.set)
        first.answer = lambda: go_on.wait(60)
        second = self.listen()
        calls = second.calls
        self.notify(PENDING)
        wait_until(lambda: second.calls > calls, timeout=60, message="another gives numbers")
        self.assertFalse(second.listener.is_numberer)

    def test_a_number_that_follows_is_no_answer(self) -> None:
        """The events may have been committed while other events got their numbers."""
        opened = self.number()
        calls = opened.calls
        statement = "SELECT pg_notify(%s, %s), pg_notify(%s, %s)"
        self.postgres.ask(statement, opened.address.bell, PENDING, opened.address.bell, "abcdef-1")
        wait_until(lambda: opened.calls > calls, message="it gives numbers")

    def test_many_notifications_need_one_answer(self) -> None:
        opened = self.number()
        begun, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)

        def hang() -> None:
            begun.set()
            go_on.wait(60)

        opened.answer = hang
        self.notify(PENDING)
        self.assertTrue(begun.wait(60))
        opened.answer = opened.look
        for _ in range(50):
            self.notify(PENDING)
        with mock.patch.object(opened.listener, "_give", wraps=opened.listener._give) as answers:
            go_on.set()
            self.notify("abcdef-1")
            opened.wait_for_ring("all were heard")
            self.assertLess(answers.call_count, 50)

    def test_a_notification_that_got_lost_is_noticed(self) -> None:
        self.postgres.ask("CREATE TABLE IF NOT EXISTS numbers (number serial)")

        def insert() -> bool:
            self.postgres.ask("INSERT INTO numbers VALUES (DEFAULT)")
            return has_rung(bell)

        address = parse_url(self.url)
        client = self.make_client(self.url)
        listener = Listener(address, client, lambda: 0, ALERT, newest="SELECT max(number) FROM numbers")
        self.addCleanup(listener.stop)
        bell = listener.open_doorbell()
        wait_until(lambda: listener.is_numberer, message="it listens")
        has_rung(bell)
        wait_until(insert, timeout=60, message="it rings")
        # While nothing happens, the listening connection is the only one.
        client.reconnect()
        has_rung(bell)
        wait_until(insert, timeout=60, message="it rings again")
        self.assertEqual([name for _, name in self.postgres.sessions()], ["sse_threaded listener"])
        self.postgres.ask("DROP TABLE numbers")
        self.notify("abcdef-1")
        has_rung(bell)
        self.notify("abcdef-2")
        wait_until(partial(has_rung, bell), timeout=60, message="it listens still")
        self.assertIsNone(listener.failure)

    def test_an_end_that_got_lost_is_noticed(self) -> None:
        """Also if the last look was before it: what came since then counts."""
        client = self.make_client(self.url)
        listener = Listener(parse_url(self.url), client, lambda: 0, ALERT, newest="SELECT 'abcdef-1'")
        self.addCleanup(listener.stop)
        bell = listener.open_doorbell()
        wait_until(lambda: listener.is_numberer, message="it listens")
        for _ in range(3):
            has_rung(bell)
            self.notify("abcdef-3")
            wait_until(partial(has_rung, bell), timeout=60, message="it rings")
            wait_until(partial(has_rung, bell), timeout=60, message="the look rings too")

    def test_numbers_that_could_not_be_given_are_given_later(self) -> None:
        opened = self.number()
        calls = opened.calls

        def refuse() -> None:
            raise Unreachable("postgresql://", "gone")

        opened.answer = refuse
        self.notify(PENDING)
        wait_until(lambda: opened.listener.failure == "gone", message="it says so")
        self.assertEqual(opened.calls, calls)
        opened.answer = opened.look
        wait_until(lambda: opened.calls > calls, message="it gives them")
        wait_until(lambda: opened.listener.failure is None, message="the failure is over")

    def test_a_defect_is_logged_and_the_listener_goes_on(self) -> None:
        url = self.postgres.url(listen=f"postgresql://127.0.0.1:{free_port()}/")
        opened = self.open(url)
        wait_until(lambda: opened.calls, timeout=60, message="it polls")

        def fail() -> None:
            raise ZeroDivisionError

        with self.assertLogs("sse_threaded.log.postgres.listener", logging.ERROR) as lines:
            opened.answer = fail
            wait_until(lambda: opened.listener.failure, message="it fails")
        self.assertEqual(opened.listener.failure, "the listener failed")
        self.assertIn("ZeroDivisionError", lines.output[0])
        opened.answer = opened.look
        wait_until(lambda: opened.listener.failure is None, message="it goes on")

    def test_a_url_of_its_own_is_checked(self) -> None:
        url = self.postgres.url(listen="postgresql://host/?unknown=secret")
        client = self.make_client(url)
        with self.assertRaisesRegex(LogUnusable, "libpq does not take the URL") as caught:
            Listener(parse_url(url), client, lambda: None)
        self.assertNotIn("secret", everything_shown(caught.exception))

    def test_it_ends_when_it_is_stopped(self) -> None:
        opened = self.listen()
        ended(opened.close)
        wait_until(lambda: not self.postgres.sessions(), message="its connections are closed")
        self.assertFalse(opened.listener._thread and opened.listener._thread.is_alive())

    def test_a_process_that_is_killed_loses_the_role(self) -> None:
        script = (
            "import sys, time\n"
            "from sse_threaded.log.postgres.client import PostgresClient\n"
            "from sse_threaded.log.postgres.listener import Listener\n"
            "from sse_threaded.log.postgres.url import parse_url\n"
            "address = parse_url(sys.argv[1])\n"
            "listener = Listener(address, PostgresClient(address), lambda: None)\n"
            "bell = listener.open_doorbell()\n"
            "while not listener.is_numberer: time.sleep(0.01)\n"
            "print('numberer', flush=True)\n"
            "time.sleep(600)\n"
        )
        command = [sys.executable, "-c", script, self.url]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                self.assertEqual(process.stdout.readline(), b"numberer\n")
                second = self.listen()
                self.assertFalse(second.listener.is_numberer)
            finally:
                process.send_signal(signal.SIGKILL)
        wait_until(lambda: second.listener.is_numberer, timeout=60, message="the other has the role")


class FaultsTest(unittest.TestCase):
    """PostgreSQL ends sessions, restarts, crashes, hangs, fails over. Each test has a server of its own."""

    def setUp(self) -> None:
        self.postgres = PostgresServer()
        self.addCleanup(self.postgres.close)

    def listen(self, url: str | None = None, timeouts: Timeouts = ALERT) -> OpenListener:
        opened = OpenListener(self, url or self.postgres.url(), timeouts)
        self.assert_listens(opened)
        return opened

    def assert_listens(self, opened: OpenListener, postgres: PostgresServer | None = None) -> None:
        """Wait until it listens, and rings for a number."""
        server = postgres or self.postgres

        def listens() -> bool:
            return opened.is_listening and opened.listener.failure is None

        wait_until(listens, timeout=60, message="it listens")
        opened.has_rung()
        server.ask("SELECT pg_notify(%s, 'abcdef-1')", opened.address.bell)
        opened.wait_for_ring("it rings")

    def assert_fails(self, opened: OpenListener, pattern: str) -> None:
        def fails() -> bool:
            return re.search(pattern, opened.listener.failure or "") is not None

        wait_until(fails, timeout=60, message=f"it says {pattern}")

    def test_an_ended_session_is_replaced(self) -> None:
        opened = self.listen()
        (session,) = self.postgres.sessions(LISTENERS)
        opened.has_rung()
        self.postgres.end_sessions(LISTENERS)
        opened.wait_for_ring("it rings when it listens again, as something may have been missed")
        self.assert_listens(opened)
        self.assertNotIn(session, self.postgres.sessions(LISTENERS))
        self.assertEqual(len(self.postgres.sessions(LISTENERS)), 1)

    def test_the_role_moves_when_its_session_was_ended(self) -> None:
        first, second = self.listen(), self.listen()
        for _ in range(3):
            wait_until(lambda: first.listener.is_numberer or second.listener.is_numberer, timeout=60)
            self.assertFalse(first.listener.is_numberer and second.listener.is_numberer)
            self.postgres.end_sessions(LISTENERS)
            wait_until(lambda: len(self.postgres.sessions(LISTENERS)) == 2, timeout=60, message="both are back")

    def test_a_restart(self) -> None:
        opened = self.listen()
        self.postgres.stop()
        self.assert_fails(opened, "could not be reached .*refused")
        self.postgres.start()
        self.assert_listens(opened)

    def test_a_crash(self) -> None:
        opened = self.listen()
        self.postgres.kill()
        opened.wait_for_ring("its readers learn of it")
        self.assert_fails(opened, "could not be reached .*refused")
        self.postgres.start()
        opened.wait_for_ring("its readers learn of its end")
        self.assert_listens(opened)

    def test_a_hang(self) -> None:
        opened = self.listen(timeouts=QUICK)
        self.postgres.pause()
        try:
            self.assert_fails(opened, "in time|no answer within|another thread is trying")
        finally:
            self.postgres.go_on()
        self.assert_listens(opened)
        wait_until(lambda: len(self.postgres.sessions(LISTENERS)) == 1, timeout=60, message="the old one is gone")

    def test_it_ends_in_a_hang(self) -> None:
        opened = self.listen(timeouts=QUICK)
        self.postgres.pause()
        try:
            ended(opened.close)
        finally:
            self.postgres.go_on()

    def test_a_network_that_swallows_all(self) -> None:
        proxy = TcpProxy("127.0.0.1", ("127.0.0.1", self.postgres.port))
        self.addCleanup(proxy.close)
        opened = self.listen(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres", QUICK)
        proxy.cut()
        self.assert_fails(opened, "in time|no answer within|another thread is trying")
        proxy.heal()
        self.assert_listens(opened)

    def test_a_failover(self) -> None:
        replica = self.postgres.replica()
        self.addCleanup(replica.close)
        hosts = f"127.0.0.1:{self.postgres.port},127.0.0.1:{replica.port}"
        opened = self.listen(f"postgresql://postgres@{hosts}/postgres")
        self.postgres.kill()
        self.assert_fails(opened, "could not be reached .*refused.*read-only")
        replica.promote()
        self.assert_listens(opened, replica)
        wait_until(lambda: opened.listener.is_numberer, timeout=60, message="it has the role again")

    def test_only_the_listening_connection_fails(self) -> None:
        listen = f"postgresql://postgres@127.0.0.1:{free_port()}/"
        url = self.postgres.url(listen=listen)
        opened = OpenListener(self, url, ALERT)
        opened.wait_for_ring("it rings without notifications")
        wait_until(lambda: opened.calls > 3, timeout=60, message="it polls")
        self.assertIsNone(opened.listener.failure)
        self.assertRegex(str(opened.listener.why_polling), "could not be reached")
        self.assertIn("could not be reached", repr(opened.listener))

    def test_it_says_when_it_polls_for_long_and_when_that_is_over(self) -> None:
        proxy = TcpProxy("127.0.0.1", ("127.0.0.1", self.postgres.port))
        self.addCleanup(proxy.close)
        proxy.cut()
        url = self.postgres.url(listen=f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
        logged = self.assertLogs("sse_threaded.log.postgres.listener", logging.WARNING)
        with mock.patch.object(listener_module, "_PATIENCE", 0.5), logged as lines:
            opened = OpenListener(self, url, QUICK._replace(answer=5.0, connect=0.2))
            wait_until(lambda: lines.output, timeout=60, message="it says that it polls")
            self.assertRegex(lines.output[0], "looks for events every 0.1 s: .* in time")
            proxy.heal()
            self.assert_listens(opened)
        self.assertEqual(len(lines.output), 2)
        self.assertIn("notifications arrive again", lines.output[1])
        self.assertIsNone(opened.listener.why_polling)

    def test_a_listening_url_that_leads_elsewhere(self) -> None:
        other = self.postgres.make_database()
        with self.assertLogs("sse_threaded.log.postgres.listener", logging.WARNING) as lines:
            opened = OpenListener(self, self.postgres.url(listen=self.postgres.url(other)), ALERT)
            wait_until(lambda: opened.listener.why_polling, timeout=60, message="it polls")
            wait_until(lambda: lines.output, message="it says so")
        self.assertIn("from another database", lines.output[0])

    def test_postgresql_may_come_after_the_app(self) -> None:
        self.postgres.stop()
        opened = OpenListener(self, self.postgres.url(), ALERT)
        self.assert_fails(opened, "could not be reached")
        self.postgres.start()
        self.assert_listens(opened)


class ForkTest(ListenerCase):
    def in_child(self, work: Callable[[], object]) -> int:
        """Run it in a forked process; returns the process id."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                work()
                status = 0
            finally:
                os._exit(status)
        return pid

    def test_a_child_has_connections_of_its_own(self) -> None:
        opened = self.listen()
        opened.client.run("SELECT 1")
        before = self.postgres.sessions()
        (mine,) = opened.client.run("SELECT pg_backend_pid()")
        path = temporary_directory(self) / "pid"

        def work() -> None:
            opened.client.after_fork_in_child()
            opened.listener.after_fork_in_child()
            assert opened.client.run("SELECT pg_backend_pid()") != [mine]
            bell = opened.listener.open_doorbell()
            wait_until(lambda: opened.is_listening, timeout=60)
            bell.clear()
            path.write_text("listens")
            wait_until(lambda: has_rung(bell), timeout=60)
            opened.listener.stop()
            opened.client.close()

        pid = self.in_child(work)
        wait_until(path.exists, timeout=60, message="the child listens")
        self.notify("abcdef-1")
        opened.wait_for_ring("the parent rings too")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(opened.client.run("SELECT 1"), [(1,)])
        for session in before:
            self.assertIn(session, self.postgres.sessions())

    def test_a_fork_that_nobody_announced(self) -> None:
        opened = self.listen()
        (mine,) = opened.client.run("SELECT pg_backend_pid()")

        def work() -> None:
            assert opened.client.run("SELECT pg_backend_pid()") != [mine]

        before = self.postgres.sessions()
        self.assertEqual(os.waitpid(self.in_child(work), 0)[1], 0)
        for session in before:
            self.assertIn(session, self.postgres.sessions())
        self.assertEqual(opened.client.run("SELECT 1"), [(1,)])

    def test_a_fork_in_a_transaction(self) -> None:
        client = self.make_client()
        client.run("CREATE TABLE IF NOT EXISTS things (name text)")
        with client.transaction() as session:
            session.run("INSERT INTO things VALUES ('x')")
            pid = os.fork()
            if not pid:
                try:
                    session.run("INSERT INTO things VALUES ('of the child')")
                except BaseException:
                    os._exit(7)
                os._exit(0)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 7)
            session.run("INSERT INTO things VALUES ('y')")
        self.assertEqual(client.run("SELECT name FROM things"), [("x",), ("y",)])

    def test_a_child_does_not_keep_its_parents_sessions(self) -> None:
        """If the parent is killed, PostgreSQL must notice it, and free its locks."""
        folder = temporary_directory(self)
        script = (
            "import os, sys, time\n"
            "from pathlib import Path\n"
            "from sse_threaded.log.postgres.client import PostgresClient\n"
            "from sse_threaded.log.postgres.listener import Listener\n"
            "from sse_threaded.log.postgres.url import parse_url\n"
            "address = parse_url(sys.argv[1])\n"
            "client = PostgresClient(address)\n"
            "listener = Listener(address, client, lambda: client.run('SELECT 1'))\n"
            "bell = listener.open_doorbell()\n"
            "while not listener.is_numberer: time.sleep(0.01)\n"
            "pid = os.fork()\n"
            "if not pid: time.sleep(600)\n"
            "Path(sys.argv[2]).write_text(str(pid))\n"
            "time.sleep(600)\n"
        )
        path = folder / "pid"
        with subprocess.Popen([sys.executable, "-c", script, self.url, str(path)], cwd=ROOT) as process:
            wait_until(lambda: path.exists() and path.read_text(), timeout=60, message="it has forked")
            child = int(path.read_text())
            self.addCleanup(os.kill, child, signal.SIGKILL)
            process.send_signal(signal.SIGKILL)
        second = self.listen()
        wait_until(lambda: second.listener.is_numberer, timeout=60, message="the other has the role")
        os.kill(child, 0)


if __name__ == "__main__":
    unittest.main()
