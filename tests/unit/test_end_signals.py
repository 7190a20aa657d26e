"""A signal that ends a worker: first the streams, then gunicorn's own handler, and none within another's lock."""

from __future__ import annotations

import signal
import unittest
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

from sse_threaded.server import end_signals


class EndSignalsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.calls = mock.Mock()
        self.deferred: list[Callable[[], None]] = []
        patch = mock.patch.object(end_signals, "request_close_all", self.calls.close_all)
        patch.start()
        self.addCleanup(patch.stop)

    def raised(self, signum: signal.Signals, worker: Any) -> list[str]:
        """What was called when the signal came."""
        self.addCleanup(signal.signal, signum, signal.getsignal(signum))
        signal.signal(signum, lambda *args: self.calls.previous(args[0]))
        with mock.patch.object(signal, "siginterrupt") as interrupts:
            end_signals.end_streams_on(signum, worker)
        interrupts.assert_called_once_with(signum, signum != signal.SIGTERM)
        self.calls.reset_mock()
        signal.raise_signal(signum)
        return self.called()

    def called(self) -> list[str]:
        for call in self.calls.previous.mock_calls:
            self.assertIsInstance(call.args[0], int)
        found = [call[0] for call in self.calls.mock_calls]
        self.calls.reset_mock()
        return found

    def worker(self, *, alive: bool = True) -> Any:
        """One that parks."""
        return SimpleNamespace(alive=alive, call_soon=self.deferred.append, conclude_streams=self.calls.conclude)

    def test_a_quick_end_waits_for_the_main_thread(self) -> None:
        for signum in (signal.SIGINT, signal.SIGQUIT):
            with self.subTest(signum.name):
                self.assertEqual(self.raised(signum, self.worker()), ["close_all"])
                self.deferred.pop()()
                self.assertEqual(self.called(), ["conclude", "previous"])

    def test_a_worker_that_does_not_park_has_nothing_to_conclude(self) -> None:
        worker = SimpleNamespace(alive=True, method_queue=SimpleNamespace(defer=self.deferred.append))
        self.assertEqual(self.raised(signal.SIGQUIT, worker), ["close_all"])
        self.deferred.pop()()
        self.assertEqual(self.called(), ["previous"])

    def test_a_slow_end_and_one_without_a_loop_are_gunicorns(self) -> None:
        for signum, worker in (
            (signal.SIGTERM, self.worker()),
            (signal.SIGQUIT, self.worker(alive=False)),
            (signal.SIGQUIT, SimpleNamespace(alive=True)),
        ):
            self.assertEqual(self.raised(signum, worker), ["close_all", "previous"])
            self.assertEqual(self.deferred, [])


if __name__ == "__main__":
    unittest.main()
