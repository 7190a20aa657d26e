"""Threads that append at the same time share a transaction, and each gets its own answer."""

from __future__ import annotations

import threading
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from sse_threaded import LogUnavailable, LogUnusable
from sse_threaded.errors import LogError
from sse_threaded.log import group_commit
from sse_threaded.log.group_commit import Group, GroupCommit, QueuedAppend, Take
from tests.support import wait_until

URL = "fake://"
SECONDS = 30.0


class FakeLog:
    """An engine: a list of events, and a connection that one thread at a time has.

    :ivar groups: the events of each transaction.
    :ivar open: cleared: the thread that has the connection waits before it takes its group.
    :ivar before_commit: called with each group.
    :ivar after_commit: called with each group.
    """

    def __init__(self, timeout: float = SECONDS) -> None:
        self.connection = threading.Lock()
        self.open = threading.Event()
        self.open.set()
        self.groups: list[list[str]] = []
        self.waits: list[float | None] = []
        self.before_commit: Callable[[Group[str]], None] = lambda group: None
        self.after_commit: Callable[[Group[str]], None] = lambda group: None
        self.appends: GroupCommit[str] = GroupCommit(self.commit, URL, timeout)

    def commit(self, take: Take[str], wait: float | None) -> None:
        self.waits.append(wait)
        if not self.connection.acquire(timeout=SECONDS if wait is None else wait):
            raise LogUnavailable(URL, "the connection is not free")
        try:
            self.open.wait(SECONDS)
            group = take()
            for number, each in enumerate(group, len(self.events) + 1):
                each.number = number
            self.before_commit(group)
            self.groups.append([each.row for each in group])
            group.is_committed = True
            self.after_commit(group)
        finally:
            self.connection.release()

    @property
    def events(self) -> list[str]:
        return [row for group in self.groups for row in group]

    @property
    def waiting(self) -> int:
        return len(self.appends._queue)


class Publishers:
    """Threads that append one event each.

    :ivar answers: what each got, by its event: a number or an exception.
    """

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._threads: list[threading.Thread] = []
        self.answers: dict[str, int | BaseException] = {}

    def start(self, *rows: str) -> None:
        """Start a thread for each event, one after the other; each waits for its answer."""
        for row in rows:
            before = self._log.waiting
            self._threads.append(threading.Thread(target=self._append, args=(row,), daemon=True))
            self._threads[-1].start()
            wait_until(lambda before=before: self._log.waiting > before)  # type: ignore[misc]

    def _append(self, row: str) -> None:
        try:
            self.answers[row] = self._log.appends.append(row)
        except BaseException as error:
            self.answers[row] = error

    def join(self) -> dict[str, int | BaseException]:
        """Wait for their ends; returns :attr:`answers`."""
        for thread in self._threads:
            thread.join(SECONDS)
            if thread.is_alive():
                raise AssertionError(f"a thread hangs; answers so far: {self.answers}")
        return self.answers


def interrupt(group: Group[str]) -> None:
    raise KeyboardInterrupt


class GroupCommitTest(unittest.TestCase):
    def setUp(self) -> None:
        self.log = FakeLog()
        self.publishers = Publishers(self.log)

    @contextmanager
    def all_waiting(self, *rows: str) -> Iterator[None]:
        """Let these events wait at the same time, the first in the leader."""
        self.log.open.clear()
        self.publishers.start(*rows)
        yield
        self.log.open.set()
        self.publishers.join()

    def test_who_comes_alone_is_committed_alone_and_at_once(self) -> None:
        with mock.patch.object(QueuedAppend, "sleep", side_effect=AssertionError("it sleeps")):
            self.assertEqual([self.log.appends.append(row) for row in "abc"], [1, 2, 3])
        self.assertEqual(self.log.groups, [["a"], ["b"], ["c"]])
        self.assertEqual(self.log.waits, [None] * 3)

    def test_all_that_wait_share_one_transaction_in_the_order_in_which_they_came(self) -> None:
        rows = "abcdefgh"
        with self.all_waiting(*rows):
            pass
        self.assertEqual(self.log.groups, [list(rows)])
        self.assertEqual(self.publishers.answers, {row: number for number, row in enumerate(rows, 1)})

    def test_who_comes_during_a_commit_is_in_the_next_one(self) -> None:
        def late(group: Group[str]) -> None:
            self.log.before_commit = lambda group: None
            self.publishers.start("d", "e")

        self.log.before_commit = late
        with self.all_waiting("a", "b", "c"):
            pass
        self.assertEqual(self.log.groups, [["a", "b", "c"], ["d", "e"]])
        self.assertEqual(self.publishers.answers, {row: number for number, row in enumerate("abcde", 1)})

    def test_an_event_that_cannot_be_written_harms_no_other(self) -> None:
        def refuse(group: Group[str]) -> None:
            next(each for each in group if each.row == "b").error = ZeroDivisionError()

        self.log.before_commit = refuse
        with self.all_waiting("a", "b", "c"):
            pass
        answers = self.publishers.answers
        self.assertIsInstance(answers["b"], ZeroDivisionError)
        self.assertEqual((answers["a"], answers["c"]), (1, 3))

    def test_a_failure_is_that_of_each_in_the_group(self) -> None:
        for kind in (LogUnavailable, LogUnusable):
            for stage in ("before_commit", "after_commit"):
                with self.subTest(kind=kind, stage=stage):
                    self.setUp()
                    cause = OSError("the disk")

                    def fail(group: Group[str], kind: type[LogError] = kind, cause: OSError = cause) -> None:
                        raise kind(URL, "it failed") from cause

                    setattr(self.log, stage, fail)
                    with self.all_waiting("a", "b", "c"):
                        pass
                    errors = list(self.publishers.answers.values())
                    self.assertEqual([type(error) for error in errors], [kind] * 3)
                    self.assertEqual([str(error) for error in errors], [f"{URL}: it failed"] * 3)
                    self.assertEqual(len(set(map(id, errors))), 3, "each thread raises its own")
                    for error in errors:
                        assert isinstance(error, BaseException)
                        self.assertIs(error.__cause__, cause)
                    setattr(self.log, stage, lambda group: None)
                    self.assertEqual(self.log.appends.append("d"), len(self.log.events))

    def test_an_error_of_one_event_is_not_replaced_by_that_of_the_group(self) -> None:
        def fail(group: Group[str]) -> None:
            group[1].error = ZeroDivisionError()
            raise LogUnavailable(URL, "it failed")

        self.log.before_commit = fail
        with self.all_waiting("a", "b"):
            pass
        self.assertIsInstance(self.publishers.answers["a"], LogUnavailable)
        self.assertIsInstance(self.publishers.answers["b"], ZeroDivisionError)

    def test_a_leader_that_is_interrupted_before_the_commit_takes_only_its_own_event_along(self) -> None:
        def interrupt_once(group: Group[str]) -> None:
            self.log.before_commit = lambda group: None
            raise KeyboardInterrupt

        self.log.before_commit = interrupt_once
        with self.all_waiting("a", "b", "c"):
            pass
        answers = self.publishers.answers
        self.assertIsInstance(answers.pop("a"), KeyboardInterrupt)
        self.assertEqual(sorted(self.log.events), ["b", "c"])
        self.assertEqual({row: self.log.events.index(row) + 1 for row in "bc"}, answers)

    def test_each_leader_may_be_interrupted(self) -> None:
        self.log.before_commit = interrupt
        with self.all_waiting("a", "b", "c"):
            pass
        self.assertEqual([type(each) for each in self.publishers.answers.values()], [KeyboardInterrupt] * 3)
        self.log.before_commit = lambda group: None
        self.assertEqual(self.log.appends.append("d"), 1)

    def test_a_leader_that_is_interrupted_after_the_commit_has_committed_for_all(self) -> None:
        self.log.after_commit = interrupt
        with self.all_waiting("a", "b", "c"):
            pass
        self.assertIsInstance(self.publishers.answers.pop("a"), KeyboardInterrupt)
        self.assertEqual(self.publishers.answers, {"b": 2, "c": 3})
        self.assertEqual(self.log.groups, [["a", "b", "c"]])

    def test_a_leader_that_does_not_get_the_connection_fails_alone(self) -> None:
        commit, is_first = self.log.commit, True

        def fail_once(take: Take[str], wait: float | None) -> None:
            nonlocal is_first
            if not is_first:
                commit(take, wait)
                return
            is_first = False
            self.log.open.wait(SECONDS)
            raise LogUnavailable(URL, "not free")

        self.log.appends = GroupCommit(fail_once, URL, SECONDS)
        with self.all_waiting("a", "b", "c"):
            pass
        answers = self.publishers.answers
        self.assertIsInstance(answers.pop("a"), LogUnavailable)
        self.assertEqual(sorted(self.log.events), ["b", "c"])
        self.assertEqual(set(answers), {"b", "c"})
        (wait,) = self.log.waits
        assert wait is not None
        self.assertLessEqual(wait, SECONDS, "it has waited for some time already")

    def test_who_waits_in_vain_fails_and_is_not_committed_later(self) -> None:
        self.log.appends = GroupCommit(self.log.commit, URL, 0.05)
        self.log.open.clear()
        self.publishers.start("a", "b", "c")
        wait_until(lambda: len(self.publishers.answers) == 2)
        self.log.open.set()
        answers = self.publishers.join()
        for row in "bc":
            self.assertRegex(str(answers[row]), r"kept by another thread for over 0\.05 s")
            self.assertIsInstance(answers[row], LogUnavailable)
        self.assertEqual((answers["a"], self.log.groups), (1, [["a"]]))

    def test_who_was_taken_waits_for_the_end_of_the_commit_however_long(self) -> None:
        self.log.appends = GroupCommit(self.log.commit, URL, 0.01)
        slow, looks = threading.Event(), threading.Semaphore(0)
        commit = self.log.commit

        def watched(take: Take[str], wait: float | None) -> None:
            if wait == 0:
                looks.release()
            commit(take, wait)

        self.log.appends._commit = watched
        self.log.before_commit = lambda group: slow.wait(SECONDS) and None
        self.log.open.clear()
        with mock.patch.object(self.log.appends, "_timeout", SECONDS):
            self.publishers.start("a", "b")
        self.log.open.set()
        wait_until(lambda: self.log.waiting == 0)
        with mock.patch.object(QueuedAppend, "sleep", lambda each, seconds: each._signal.acquire(timeout=0.01)):
            self.publishers.start("c")
        slow.set()
        self.assertEqual(self.publishers.join(), {"a": 1, "b": 2, "c": 3})

    def test_who_leaves_while_it_waits_is_not_committed(self) -> None:
        sleep = QueuedAppend.sleep
        left = threading.Event()

        def interrupted(each: QueuedAppend[str], seconds: float) -> bool:
            if each.row == "b":
                left.set()
                raise KeyboardInterrupt
            return sleep(each, seconds)

        with mock.patch.object(QueuedAppend, "sleep", interrupted):
            self.log.open.clear()
            self.publishers.start("a")
            with self.assertRaises(KeyboardInterrupt):
                self.log.appends.append("b")
            self.publishers.start("c")
            self.log.open.set()
            self.assertEqual(self.publishers.join(), {"a": 1, "c": 2})
        self.assertEqual(self.log.groups, [["a", "c"]])

    def test_a_signal_handler_may_append_while_its_thread_waits(self) -> None:
        # The handler runs inside of the thread that it interrupts: here in the wait for the connection.
        commit, found = self.log.commit, []

        def interrupted(take: Take[str], wait: float | None) -> None:
            self.log.appends._commit = commit
            found.append(self.log.appends.append("of the handler"))
            commit(take, wait)

        self.log.appends._commit = interrupted
        self.assertEqual(self.log.appends.append("a"), 1)
        self.assertEqual((found, self.log.events), ([2], ["a", "of the handler"]))

    def test_a_group_is_bounded(self) -> None:
        with mock.patch.object(group_commit, "LARGEST_GROUP", 3), self.all_waiting(*"abcdefgh"):
            pass
        self.assertEqual(self.log.events, list("abcdefgh"))
        self.assertEqual([len(group) for group in self.log.groups if group], [3, 3, 2])
        self.assertEqual(self.publishers.answers, {row: number for number, row in enumerate("abcdefgh", 1)})

    def test_a_leader_that_is_interrupted_while_it_tells_the_others_lets_none_hang(self) -> None:
        self.log.appends = GroupCommit(self.log.commit, URL, 0.05)
        finish, is_first = self.log.appends._finish, True

        def interrupted(*arguments: Any) -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                raise KeyboardInterrupt
            finish(*arguments)

        with (
            mock.patch.object(self.log.appends, "_timeout", 1.0),
            mock.patch.object(self.log.appends, "_finish", interrupted),
            self.all_waiting("a", "b"),
        ):
            pass
        answers = self.publishers.answers
        self.assertIsInstance(answers["a"], KeyboardInterrupt)
        self.assertIsInstance(answers["b"], LogUnavailable)
        self.assertIn("it may be in the log", str(answers["b"]))
        self.assertEqual(self.log.appends.append("c"), 3)

    def test_after_a_fork_the_child_begins_anew(self) -> None:
        self.log.open.clear()
        self.publishers.start("a", "b")
        self.log.appends.after_fork_in_child()
        self.assertEqual(self.log.waiting, 0)
        self.log.open.set()
        # In the child there are no such threads. Here the two find that nobody waits any more.
        self.log.appends.append("c")
        self.assertIn("c", self.log.events)

    def test_many_threads_that_append_without_a_pause(self) -> None:
        answers: dict[str, int] = {}

        def publish(name: int) -> None:
            for count in range(100):
                answers[f"{name}-{count}"] = self.log.appends.append(f"{name}-{count}")

        threads = [threading.Thread(target=publish, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        events = self.log.events
        self.assertEqual(len(events), 800)
        self.assertEqual({row: number for number, row in enumerate(events, 1)}, answers)
        for name in range(8):
            own = [row for row in events if row.startswith(f"{name}-")]
            self.assertEqual(own, [f"{name}-{count}" for count in range(100)])


if __name__ == "__main__":
    unittest.main()
