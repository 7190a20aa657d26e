"""The parts of ``sse_threaded.client``: the wait before the next attempt, and the command that uses it."""

from __future__ import annotations

import contextlib
import io
import itertools
import subprocess
import sys
import threading
import unittest
from datetime import datetime, timezone
from unittest import mock

from sse_threaded import SSEError
from sse_threaded.client import command
from sse_threaded.client.reconnection import LONGEST_WAIT, Reconnection, retry_after_seconds
from sse_threaded.client.waiting import wait_for
from tests.harness.scripted_server import ScriptedServer, head, refusal, silent, stream
from tests.support import enter

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=timezone.utc)

NO_REQUESTS = """
import sys
sys.modules["requests"] = None
from sse_threaded.cli import main
try:
    import sse_threaded.client
except ImportError as error:
    print(error)
sys.exit(main(["listen", "http://127.0.0.1:1/"]))
"""


class ReconnectionTest(unittest.TestCase):
    def waits(self, draw: float, failures: range, retry: int = 1000, max_backoff: float = 60.0) -> list[float]:
        reconnection = Reconnection(max_backoff, lambda: draw)
        found = []
        for reconnection.failures in failures:
            found.append(reconnection.wait(retry))
        return found

    def test_without_a_failure_it_is_the_reconnection_time(self) -> None:
        self.assertEqual(self.waits(0.9, range(1), retry=5000), [5.0])

    def test_failures_add_a_random_time_whose_limit_doubles(self) -> None:
        self.assertEqual(self.waits(1.0, range(1, 6)), [2.0, 3.0, 5.0, 9.0, 17.0])
        self.assertEqual(self.waits(0.5, range(1, 4)), [1.5, 2.0, 3.0])
        self.assertEqual(self.waits(0.0, range(1, 4)), [1.0, 1.0, 1.0], "never below the reconnection time")

    def test_it_is_bounded(self) -> None:
        self.assertEqual(self.waits(1.0, range(7, 9)), [61.0, 61.0])
        self.assertEqual(self.waits(1.0, range(10**6, 10**6 + 1)), [61.0])
        self.assertEqual(self.waits(1.0, range(5, 6), max_backoff=0.0), [1.0])
        for retry in (10**18, 10**500):
            self.assertEqual(self.waits(1.0, range(1), retry=retry), [LONGEST_WAIT])

    def test_clients_that_fail_together_do_not_return_together(self) -> None:
        found = set()
        for _ in range(20):
            reconnection = Reconnection(60.0)
            reconnection.failures = 5
            found.add(reconnection.wait(0))
        self.assertGreater(len(found), 15)
        self.assertTrue(all(0 <= wait <= 16 for wait in found))

    def test_retry_after(self) -> None:
        for value, seconds in (
            ("120", 120.0),
            (" 7 ", 7.0),
            ("0", 0.0),
            ("Sat, 28 Nov 2026 12:01:30 GMT", 90.0),
            ("Sat, 28 Nov 2026 12:01:30 -0000", 90.0),
            ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
            (None, 0.0),
            ("", 0.0),
            ("soon", 0.0),
            ("-5", 0.0),
            ("1.5", 0.0),
            ("٣", 0.0),
        ):
            with self.subTest(value):
                self.assertEqual(retry_after_seconds(value, NOW), seconds)
        reconnection = Reconnection(60.0)
        self.assertEqual(reconnection.wait(1000, 5.0), 5.0)
        self.assertEqual(reconnection.wait(1000, retry_after_seconds("9" * 5000, NOW)), LONGEST_WAIT)


class WaitingTest(unittest.TestCase):
    def test_a_change_without_a_wakeup_is_noticed(self) -> None:
        # As by a signal handler that runs between the look and the wait.
        looks: list[int] = []
        changed = threading.Condition()
        with changed:
            self.assertTrue(wait_for(changed, lambda: looks.append(1) or len(looks) > 1, 3600.0))
            self.assertTrue(wait_for(changed, lambda: looks.append(1) or len(looks) > 3, None))
            self.assertFalse(wait_for(changed, lambda: False, 0.01))


class Terminal(io.StringIO):
    """A text stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Output(io.StringIO):
    """Standard output, of bytes below and text above."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = io.BytesIO()


class CommandTest(unittest.TestCase):
    def listen(
        self, errors: io.StringIO, server: ScriptedServer, *headers: str, since: str | None = None
    ) -> bytes:
        output = Output()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            self.assertEqual(command.listen(server.url, since, headers), 0)
        return output.buffer.getvalue()

    def test_events_are_printed_as_browsers_get_them(self) -> None:
        body = b"retry: 1\nevent: stream-start\nid: k-1\ndata: {}\n\n"
        body += b"event: x\nid: k-2\ndata: a\ndata: b\n\nid\ndata: c\n\n"
        server = enter(self, ScriptedServer(stream(body)))
        errors = io.StringIO()
        expected = b"event: x\ndata: a\ndata: b\nid: k-2\n\ndata: c\n\n"
        self.assertEqual(self.listen(errors, server, "X-Key: k", since="k-0"), expected)
        self.assertEqual(errors.getvalue(), "")
        fields = server.requests[0].fields
        self.assertEqual((fields["x-key"], fields["last-event-id"]), ("k", "k-0"))

    def test_faults_are_reported_once(self) -> None:
        fault = refusal("503 No")
        begin = stream(b"retry: 1\ndata: a\n\n")
        server = enter(self, ScriptedServer(begin, fault, fault, begin, fault))
        errors = io.StringIO()
        with mock.patch("sse_threaded.client.reconnection._FIRST_BACKOFF", 0.001):
            self.listen(errors, server)
        self.assertEqual(errors.getvalue(), "sse-threaded: waiting: the answer was 503 No\n" * 2)

    def test_a_terminal_shows_the_progress(self) -> None:
        server = enter(self, ScriptedServer(stream(b"retry: 1\nid: k-1\x1b\ndata: a\n\nid: k-2\ndata: b\n\n")))
        errors = Terminal()
        with mock.patch("sse_threaded.client.command.time.monotonic", itertools.count().__next__):
            self.listen(errors, server)
        shown = errors.getvalue()
        for words in (
            "connected",
            "events: 1, bytes: 18, at ",
            "last id k-1",
            "events: 2, bytes: 35, at ",
            "last id k-2",
            "waiting: the stream ended",
        ):
            self.assertIn(words, shown)
        self.assertNotIn("\x1b", shown)
        self.assertTrue(shown.rstrip(" \n").endswith("events: 2, bytes: 35"), shown)

    def test_errors_say_what_to_do(self) -> None:
        server = enter(self, ScriptedServer(silent(head("200 OK", "text/html"), b"<p>")))
        with self.assertRaisesRegex(SSEError, "text/html"):
            self.listen(io.StringIO(), server)
        for header in ("no colon", ": x", ""):
            with self.subTest(header), self.assertRaisesRegex(SSEError, "--header 'Name: value'"):
                self.listen(io.StringIO(), server, header)
        with self.assertRaisesRegex(SSEError, "last_event_id"):
            self.listen(io.StringIO(), server, since="a\nb")

    def test_without_the_extra_the_error_names_it(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", NO_REQUESTS], capture_output=True, text=True, timeout=60, check=False
        )
        advice = "sse_threaded.client needs requests: pip install 'requests>=2.32' 'urllib3>=2.6'\n"
        self.assertEqual((done.returncode, done.stdout, done.stderr), (1, advice, f"sse-threaded: {advice}"))


if __name__ == "__main__":
    unittest.main()
