"""Signals that reach a worker before it has handlers of its own, with real forks."""

from __future__ import annotations

import json
import os
import signal
import unittest
from collections.abc import Callable
from typing import Any

from sse_threaded.server.startup_signals import begin_handlers, end_handlers, expect_worker

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)


def run_child(pid: int, writer: int, child: Callable[[], object]) -> None:
    """In a child: write what ``child`` returns, and end."""
    if not pid:
        try:
            os.write(writer, json.dumps(child()).encode())
            os._exit(0)
        finally:
            os._exit(1)


def result_of(pid: int, reader: int, writer: int) -> Any:
    """What the child has written."""
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise AssertionError(f"the child ended with {status}")
    return json.loads(text)


def spawn_worker(child: Callable[[], object]) -> Any:
    """Fork, in a function of the name that gunicorn's master forks in."""
    reader, writer = os.pipe()
    pid = os.fork()
    run_child(pid, writer, child)
    return result_of(pid, reader, writer)


def fork_in_a_hook(child: Callable[[], object]) -> Any:
    reader, writer = os.pipe()
    pid = os.fork()
    run_child(pid, writer, child)
    return result_of(pid, reader, writer)


def blocked() -> list[int]:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def handlers() -> list[str]:
    return [repr(signal.getsignal(signum)) for signum in SIGNALS]


class StartupSignalsTest(unittest.TestCase):
    def setUp(self) -> None:
        for signum in SIGNALS:
            self.addCleanup(signal.signal, signum, signal.getsignal(signum))
            signal.signal(signum, self.fail_in_the_master)
        self.before = blocked()

    def fail_in_the_master(self, signum: int, frame: object) -> None:
        raise AssertionError("the master's handler was called")

    def start(self, signums: list[int]) -> list[list[int]]:
        """In a worker: send it signals, then let it begin; what its handlers get, in the end and before."""
        got: list[int] = []
        for signum in signums:
            os.kill(os.getpid(), signum)
        mask = begin_handlers()
        for signum in SIGNALS:
            signal.signal(signum, lambda signum, frame: got.append(signum))
        early = list(got)
        end_handlers(mask)
        return [early, list(got)]

    def test_each_signal_is_kept_until_the_worker_has_handlers_and_comes_once(self) -> None:
        sent = [int(signum) for signum in (*SIGNALS, signal.SIGTERM, signal.SIGUSR1)]
        expect_worker()
        self.assertEqual(spawn_worker(lambda: self.start(sent)), [[], [int(signum) for signum in SIGNALS]])

    def test_without_a_signal_nothing_comes(self) -> None:
        expect_worker()
        self.assertEqual(spawn_worker(lambda: self.start([])), [[], []])

    def test_signals_are_blocked_while_the_worker_sets_its_handlers_and_at_no_other_time(self) -> None:
        def child() -> list[list[int]]:
            first = blocked()
            mask = begin_handlers()
            second = blocked()
            end_handlers(mask)
            return [first, second, blocked()]

        expect_worker()
        during = sorted({*self.before, *map(int, SIGNALS)})
        self.assertEqual(spawn_worker(child), [self.before, during, self.before])
        self.assertEqual(blocked(), self.before)

    def test_later_signals_come_at_once(self) -> None:
        def child() -> list[int]:
            self.start([signal.SIGTERM])
            got: list[int] = []
            signal.signal(signal.SIGTERM, lambda signum, frame: got.append(signum))
            os.kill(os.getpid(), signal.SIGTERM)
            return got

        expect_worker()
        self.assertEqual(spawn_worker(child), [signal.SIGTERM])

    def test_only_the_worker_that_is_expected_gets_other_handlers(self) -> None:
        usual = handlers()
        self.assertEqual(spawn_worker(handlers), usual)
        expect_worker()
        self.assertEqual(fork_in_a_hook(handlers), usual)  # as pre_fork may
        changed = spawn_worker(handlers)
        self.assertTrue(set(usual).isdisjoint(changed))
        self.assertEqual(spawn_worker(handlers), usual)
        self.assertEqual(handlers(), usual)

    def test_a_process_that_a_hook_starts_in_the_worker_can_be_ended(self) -> None:
        def child() -> object:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the hook's own
            return [fork_in_a_hook(handlers), handlers()]

        expect_worker()
        grandchild, worker = spawn_worker(child)
        default, ignored = repr(signal.SIG_DFL), repr(signal.SIG_IGN)
        self.assertEqual(grandchild, [default, default, default, ignored])
        self.assertNotIn(default, worker)


if __name__ == "__main__":
    unittest.main()
