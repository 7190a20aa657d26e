"""The thread that brings the events of a log in Redis here, step by step, over a client made by hand."""

from __future__ import annotations

import select
import threading
import unittest
from typing import Any
from unittest import mock

from redis import exceptions

from sse_threaded.errors import HistoryGone, LogUnavailable
from sse_threaded.log.doorbell import Doorbell
from sse_threaded.log.redis.listener import Listener
from sse_threaded.log.redis.scripts import NEW_EPOCH, STATE
from tests.support import wait_until

EPOCH = "abcdef"
LAST = 2**64 - 1


def entry(number: int) -> tuple[bytes, dict[bytes, bytes]]:
    return f"{number}-0".encode(), {b"c": b"a", b"d": b"x"}


class ListenerCase(unittest.TestCase):
    def setUp(self) -> None:
        self.client, self.shared, self.on_new_epoch = mock.Mock(), mock.Mock(), mock.Mock()
        self.client.base = "{mine}:"
        self.client.url = "redis://host"
        self.client.run.return_value = (b"5", b"")
        self.client.errors.translate.side_effect = lambda error: LogUnavailable("redis://host", str(error))
        self.listener = Listener(self.client, self.shared, self.on_new_epoch)
        self.addCleanup(self.listener.stop)
        self.bell = Doorbell()

    def begin(self, last: int = 5) -> None:
        """Without the thread."""
        self.listener.renew(EPOCH)
        self.client.run.return_value = (str(last).encode(), b"")
        self.listener._doorbells = [self.bell]
        self.listener._look()
        self.client.run.reset_mock()
        self.bell.clear()

    @property
    def rings(self) -> bool:
        ringing = bool(select.select([self.bell], [], [], 0)[0])
        self.bell.clear()
        return ringing


class ListenTest(ListenerCase):
    def test_it_reads_the_feed_behind_the_newest_event_that_it_has(self) -> None:
        self.begin()
        self.client.entries_after.return_value = [entry(6), entry(7)]
        self.listener._listen(1000)
        self.client.entries_after.assert_called_once_with(f"{{mine}}:{EPOCH}:feed", f"5-{LAST}", 16, 1000)
        self.assertTrue(self.rings)
        page = self.listener.page(5)
        assert page is not None
        self.assertEqual([record.sequence for record in page], [6, 7])
        self.client.run.assert_not_called()

    def test_before_it_knows_the_end_it_looks_for_it(self) -> None:
        self.listener.renew(EPOCH)
        self.listener._listen(1000)
        self.client.run.assert_called_once_with(STATE, [EPOCH])
        self.client.entries_after.assert_not_called()
        self.assertEqual(self.listener.buffer.place, (EPOCH, 5))

    def test_where_nothing_has_come_it_looks_whether_the_log_is_the_same(self) -> None:
        self.begin()
        self.client.entries_after.return_value = []
        self.listener._listen(None)
        self.client.run.assert_not_called()
        self.listener._listen(1000)
        self.client.run.assert_called_once_with(STATE, [EPOCH])
        self.assertFalse(self.rings)

    def test_events_behind_missing_ones_are_taken_if_the_numbers_were_left_out(self) -> None:
        self.begin()
        self.client.entries_after.return_value = [entry(101)]
        self.client.run.return_value = (b"101", b"5:100")
        self.listener._listen(1000)
        page = self.listener.page(5)
        assert page is not None
        self.assertEqual([record.sequence for record in page], [101])
        self.assertTrue(self.rings)

    def test_where_events_are_missing_it_goes_on_behind_the_last(self) -> None:
        self.begin()
        self.client.entries_after.return_value = [entry(8), entry(9)]
        self.client.run.return_value = (b"9", b"")
        self.listener._listen(1000)
        self.assertIsNone(self.listener.page(5))
        self.assertEqual(self.listener.buffer.place, (EPOCH, 9))
        self.assertTrue(self.rings)


class LookTest(ListenerCase):
    def test_a_look_rings_unless_it_was_idle(self) -> None:
        self.begin()
        self.listener._look()
        self.assertTrue(self.rings)
        self.listener._look(idle=True)
        self.assertFalse(self.rings)

    def test_a_log_that_is_new_is_told(self) -> None:
        self.begin()
        self.client.run.side_effect = exceptions.ResponseError(f"{NEW_EPOCH} script")
        with mock.patch.object(self.listener._stop, "wait") as wait:
            self.listener._look()
        self.on_new_epoch.assert_called_once_with()
        wait.assert_called_once_with(0.05)
        self.assertTrue(self.rings)

    def test_another_refusal_is_an_error(self) -> None:
        self.begin()
        self.client.run.side_effect = exceptions.ResponseError("ERR")
        self.assertRaises(exceptions.ResponseError, self.listener._look)
        self.on_new_epoch.assert_not_called()

    def test_the_sentinels_are_asked_each_second_and_seldom_where_they_do_not_answer(self) -> None:
        self.begin()
        with mock.patch("sse_threaded.log.redis.listener.time.monotonic") as monotonic:
            asked = []
            for now, answer in (
                (100.0, False),
                (100.9, False),
                (101.0, exceptions.ConnectionError("away")),
                (130.9, False),
                (131.0, OSError("away")),
                (160.9, False),
                (161.0, False),
                (162.0, False),
            ):
                monotonic.return_value = now
                self.client.find_new_master.reset_mock()
                self.client.find_new_master.side_effect = [answer]
                self.listener._look_for_master()
                asked.append(self.client.find_new_master.called)
        self.assertEqual(asked, [True, False, True, False, True, False, True, True])
        self.shared.reconnect.assert_not_called()
        self.client.run.assert_not_called()

    def test_with_another_master_all_connect_again_and_it_looks_at_once(self) -> None:
        self.begin()
        self.client.find_new_master.return_value = True
        self.listener._look_for_master()
        self.shared.reconnect.assert_called_once_with()
        self.client.run.assert_called_once_with(STATE, [EPOCH])


class FailureTest(ListenerCase):
    def test_while_it_has_failed_a_reader_of_what_is_not_here_is_told(self) -> None:
        self.begin()
        self.client.entries_after.return_value = [entry(6)]
        self.listener._listen(1000)
        self.assertTrue(self.rings)
        self.listener._fail(exceptions.ConnectionError("away"))
        self.assertEqual(self.listener.failure, "away")
        self.assertTrue(self.rings)
        page = self.listener.page(5)
        assert page is not None
        self.assertEqual(len(page), 1, "what is here can be read")
        self.assertIsNone(self.listener.page(3))
        with self.assertRaisesRegex(LogUnavailable, "redis://host: away"):
            self.listener.page(6)
        self.assertRaises(HistoryGone, self.listener.page, 7)
        self.listener._recover()
        self.assertEqual(self.listener.page(6), [])
        self.assertIsNone(self.listener.failure)
        self.assertTrue(self.rings)
        self.shared.note_answer.assert_called_once_with()

    def test_without_a_failure_there_is_nothing_to_recover_from(self) -> None:
        self.begin()
        self.listener._recover()
        self.assertFalse(self.rings)
        self.shared.note_answer.assert_not_called()

    def test_a_failure_of_the_log_is_told_as_it_is_and_a_defect_is_logged(self) -> None:
        self.begin()
        with self.assertNoLogs("sse_threaded"):
            self.listener._fail(LogUnavailable("redis://host", "full"))
        self.assertEqual(self.listener.failure, "full")
        self.client.errors.translate.assert_not_called()
        self.client.errors.translate.side_effect = lambda error: error
        with self.assertLogs("sse_threaded.log.redis.listener", "ERROR"):
            self.listener._fail(ZeroDivisionError())
        self.assertEqual(self.listener.failure, "the listener failed")


class ThreadTest(ListenerCase):
    def test_the_first_doorbell_starts_one_thread_and_drops_no_other_bell(self) -> None:
        self.client.entries_after.return_value = []
        self.assertFalse(self.listener.is_running)
        first = self.listener.open_doorbell(EPOCH)
        self.assertTrue(self.listener.is_running)
        thread = self.listener._thread
        self.assertTrue(thread and thread.daemon, "it does not keep a process from its end")
        second = self.listener.open_doorbell("other")
        self.assertIs(self.listener._thread, thread)
        self.assertEqual(self.listener.buffer.place[0], EPOCH)
        first.close()
        third = self.listener.open_doorbell(EPOCH)
        self.assertEqual(self.listener._doorbells, [second, third])
        self.listener.stop()
        assert thread is not None
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.client.close.assert_called_once_with()

    def test_after_a_failure_it_waits_longer_and_longer_and_begins_anew_after_an_answer(self) -> None:
        self.listener.renew(EPOCH)
        waits: list[float] = []
        away = exceptions.ConnectionError("away")
        answers: list[Any] = [*[away] * 8, (b"5", b""), away, away]

        def wait(seconds: float) -> None:
            waits.append(round(seconds, 6))
            if not answers:
                self.listener.stop()

        def run(*arguments: object) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.client.run.side_effect = run
        self.client.entries_after.side_effect = [[], away]
        with (
            mock.patch.object(self.listener._stop, "wait", wait),
            mock.patch("secrets.randbelow", lambda bound: bound // 2),
        ):
            self.listener._run()
        longer = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
        self.assertEqual(waits, [*longer, 0.05, 0.1, 0.2])
        self.assertEqual(self.client.close.call_count, len(waits) + 1)

    def test_waits_are_varied_by_a_half(self) -> None:
        for drawn, expected in ((0, 0.025), (-1, 0.07495)):
            waits: list[float] = []
            self.setUp()

            def wait(seconds: float, waits: list[float] = waits) -> None:
                waits.append(round(seconds, 6))
                self.listener.stop()

            self.client.run.side_effect = exceptions.ConnectionError("away")
            with (
                mock.patch.object(self.listener._stop, "wait", wait),
                mock.patch("secrets.randbelow", side_effect=lambda bound, drawn=drawn: drawn % bound),
            ):
                self.listener._run()
            self.assertEqual(waits, [expected])

    def test_it_listens_and_looks_for_the_master_in_turn(self) -> None:
        self.listener.renew(EPOCH)
        self.listener._fail(exceptions.ConnectionError("away"))
        steps: list[Any] = []

        def entries_after(feed: str, after: str, count: int, wait: int | None) -> list[Any]:
            steps.append(wait)
            if len(steps) > 6:
                self.listener.stop()
            return []

        self.client.entries_after.side_effect = entries_after
        with mock.patch.object(self.listener, "_look_for_master", side_effect=lambda: steps.append("master")):
            self.listener._run()
        self.assertEqual(steps, [None, *[1000, "master"] * 4][: len(steps)])
        self.assertGreater(len(steps), 6)
        self.assertIsNone(self.listener.failure)
        self.shared.note_answer.assert_called_once_with()

    def test_a_child_has_a_thread_and_bells_of_its_own(self) -> None:
        self.begin()
        self.listener._fail(exceptions.ConnectionError("away"))
        self.assertTrue(self.rings)
        stop = self.listener._stop
        with self.listener._lock:
            self.listener.after_fork_in_child()
            self.client.after_fork_in_child.assert_called_once_with()
            self.assertIsNone(self.listener.failure)
            self.assertEqual(self.listener.buffer.place, (None, None))
            self.listener.ring()
            self.assertFalse(self.rings)
            self.client.entries_after.return_value = []
            self.listener.open_doorbell(EPOCH)  # it would wait for the parent's lock
        wait_until(lambda: self.listener.is_running)
        self.assertFalse(stop.is_set())
        threads = [thread for thread in threading.enumerate() if thread.name == "sse_threaded listener"]
        self.assertIn(self.listener._thread, threads)


if __name__ == "__main__":
    unittest.main()
