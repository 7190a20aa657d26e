"""A log in Redis over answers made by hand: what it asks, and what it makes of each answer."""

from __future__ import annotations

import threading
import unittest
from typing import Any
from unittest import mock

from redis import exceptions

from sse_threaded.errors import HistoryGone, LogUnavailable, LogUnusable
from sse_threaded.log import Retention
from sse_threaded.log.interface import NestedTransaction, TransactionOver
from sse_threaded.log.redis.client import SharedClient
from sse_threaded.log.redis.log import RedisLog
from sse_threaded.log.redis.scripts import NEW_EPOCH, PREPARE, STATE
from sse_threaded.log.redis.timeouts import Timeouts
from sse_threaded.log.retention import AS_OTHERS_KEEP

URL = "redis://host"
RENEWED = exceptions.ResponseError(f"{NEW_EPOCH} script")


def prepared(
    epoch: str = "abcdef", *, schema: int = 1, version: str = "7.2.4", policy: str = "noeviction", denied: str = ""
) -> list[bytes]:
    """The answer of ``prepare.lua``."""
    return [each.encode() for each in (str(schema), epoch, version, policy, denied)]


class LogCase(unittest.TestCase):
    def setUp(self) -> None:
        patch = mock.patch.object(SharedClient, "run")
        self.run_script = patch.start()
        self.addCleanup(patch.stop)

    def make_log(self, retention: Retention | None = None, **options: Any) -> RedisLog:
        self.run_script.side_effect = [prepared()]
        log = RedisLog(URL, retention, **options)
        self.addCleanup(log.close)
        self.run_script.reset_mock()
        return log

    def answers(self, *answers: Any) -> None:
        self.run_script.side_effect = list(answers)

    def arguments(self, call: int = -1) -> list[Any]:
        return list(self.run_script.call_args_list[call].args[1])


class PrepareTest(LogCase):
    def test_it_is_prepared_at_the_start_and_once(self) -> None:
        self.answers(prepared("uvwxyz"))
        log = RedisLog(URL)
        self.assertEqual(self.run_script.call_count, 1)
        script, arguments, retry_for = self.run_script.call_args.args
        self.assertEqual((script, arguments[0], retry_for), (PREPARE, 1, 0.0))
        self.assertRegex(arguments[1], r"\A[a-z]{6}\Z")
        self.assertEqual((log.epoch, log.epoch), ("uvwxyz", "uvwxyz"))
        self.assertEqual(self.run_script.call_count, 1)

    def test_the_oldest_redis_is_6_2(self) -> None:
        for version, good in (("6.2", True), ("6.2.0", True), ("6.1.9", False), ("5.9", False), ("10.0", True)):
            with self.subTest(version):
                self.answers(prepared(version=version))
                if good:
                    RedisLog(URL)
                else:
                    with self.assertRaisesRegex(LogUnusable, f"Redis {version} is too old"):
                        RedisLog(URL)

    def test_a_newer_schema_and_a_denied_command_are_refused_and_a_policy_is_warned_of(self) -> None:
        with self.assertNoLogs("sse_threaded"):
            self.answers(prepared(schema=1))
            RedisLog(URL)
        self.answers(prepared(schema=2))
        with self.assertRaisesRegex(LogUnusable, r"\(schema 2; this one knows 1\)"):
            RedisLog(URL)
        self.answers(prepared(denied="xadd"))
        with self.assertRaisesRegex(LogUnusable, "denies this user XADD"):
            RedisLog(URL)
        self.answers(prepared(policy="allkeys-lru"))
        with self.assertLogs("sse_threaded.log.redis.log", "WARNING") as logs:
            RedisLog(URL)
        self.assertIn("not allkeys-lru", logs.output[0])

    def test_without_redis_it_begins_and_is_prepared_by_the_first_use(self) -> None:
        self.answers(LogUnavailable(URL, "away"))
        with self.assertLogs("sse_threaded.log.startup", "WARNING"):
            log = RedisLog(URL, timeouts=Timeouts(retry=3.0))
        self.answers(prepared("uvwxyz"), b"uvwxyz-1")
        self.assertEqual(log.append("a", "x"), "uvwxyz-1")
        self.assertEqual(self.run_script.call_args_list[1].args[2], 3.0, "publishing waits for Redis")


class WriteTest(LogCase):
    def test_what_is_kept_is_told_in_milliseconds(self) -> None:
        for retention, kept in (
            (None, [10_000, 86_400_000]),
            (Retention(count=5, age=1.5), [5, 1500]),
            (Retention(count=None, age=2), ["", 2000]),
            (Retention(count=7, age=None), [7, ""]),
            (AS_OTHERS_KEEP, ["?", ""]),
        ):
            with self.subTest(retention=retention):
                log = self.make_log(retention)
                self.answers(b"abcdef-1")
                self.assertEqual(log.append("a", "x"), "abcdef-1")
                epoch, token, lock, *rest = self.arguments()
                self.assertEqual((epoch, lock, rest), ("abcdef", "", [*kept, "a", "x"]))
                self.assertRegex(token, r"\A[0-9a-f]{16}\Z")
                self.assertEqual(self.run_script.call_args.args[2], 5.0)

    def test_each_append_has_a_token_of_its_own(self) -> None:
        log = self.make_log()
        self.answers(b"abcdef-1", b"abcdef-2")
        log.append("a", "x", "named")
        self.assertEqual(self.arguments()[-3:], ["a", "x", "named"])
        log.append("a", "x")
        self.assertNotEqual(self.arguments(0)[1], self.arguments(1)[1])

    def test_a_new_epoch_is_taken_and_after_three_tries_it_gives_up(self) -> None:
        log = self.make_log()
        self.answers(RENEWED, prepared("uvwxyz"), b"uvwxyz-1")
        with self.assertLogs("sse_threaded.log.redis.log", "WARNING") as logs:
            self.assertEqual(log.append("a", "x"), "uvwxyz-1")
        self.assertEqual(len(logs.output), 1)
        self.assertEqual(log.epoch, "uvwxyz")
        tries = [step for number in range(3) for step in (RENEWED, prepared(f"uvwxy{'abc'[number]}"))]
        self.answers(*tries)
        with self.assertLogs("sse_threaded", "WARNING"), self.assertRaisesRegex(LogUnavailable, "again and again"):
            log.append("a", "x")

    def test_another_refusal_means_that_the_lock_was_lost(self) -> None:
        log = self.make_log()
        self.answers(exceptions.ResponseError("ERR"))
        with self.assertRaisesRegex(LogUnavailable, "lock was lost"):
            log.append("a", "x")

    def test_arguments_for_lua_are_text_bytes_and_whole_numbers(self) -> None:
        log = self.make_log()
        self.answers(7)
        self.assertEqual(log.run("return 7", "a", b"b", 3), 7)
        self.assertIn("return 7\n", self.run_script.call_args.args[0])
        self.answers(8)
        self.assertEqual(log.look("return 8", "a"), 8)
        self.assertIn("return 8\n", self.run_script.call_args.args[0])
        self.assertEqual(self.arguments(), ["abcdef", "a"])
        for value in (1.5, None, ["x"]):
            with self.assertRaisesRegex(TypeError, f"not {type(value).__name__}"):
                log.run("return 7", value)  # type: ignore[arg-type]

    def test_a_closed_log_asks_nothing(self) -> None:
        log = self.make_log()
        log.close()
        for use in (log.last_sequence, lambda: log.append("a", "x"), lambda: log.read(0)):
            with self.assertRaisesRegex(LogUnusable, "closed"):
                use()
        self.run_script.assert_not_called()

    def test_trimming_goes_on_until_all_is_done(self) -> None:
        log = self.make_log()
        self.answers((b"a", b"3", 0), (b"c", b"4", 0), (b"", b"5", 1))
        self.assertEqual(log.trim(), 12)
        self.assertEqual([self.arguments(number)[-1] for number in range(3)], [b"", b"a", b"c"])


class TransactionTest(LogCase):
    def test_its_events_are_one_write_with_its_lock(self) -> None:
        log = self.make_log()
        self.answers(b"7", b"")
        with log.transaction() as transaction:
            self.assertEqual(transaction.append("a", "x"), "abcdef-8")
            self.assertEqual(transaction.append("b", "y", "named"), "abcdef-9")
        lock = self.arguments(0)[-1]
        self.assertEqual(self.arguments(1)[2], lock)
        self.assertEqual(self.arguments(1)[5:], [7, "a", "x", 0, "", "b", "y", 1, "named"])
        self.assertRaises(TransactionOver, transaction.append, "a", "late")

    def test_one_that_fails_or_does_nothing_gives_its_lock_back(self) -> None:
        for fails in (True, False):
            log = self.make_log()
            self.answers(b"7", b"")
            if fails:
                with self.assertRaises(ZeroDivisionError), log.transaction() as transaction:
                    transaction.append("a", "x")
                    raise ZeroDivisionError
            else:
                with log.transaction() as transaction:
                    pass
            self.assertEqual(self.arguments(), ["abcdef", self.arguments(0)[-1]])
            self.assertRaises(TransactionOver, transaction.append, "a", "late")

    def test_a_lock_that_cannot_be_given_back_is_logged(self) -> None:
        for error in (LogUnavailable(URL, "away"), exceptions.ResponseError("ERR")):
            log = self.make_log()
            self.answers(b"7", error)
            with self.assertLogs("sse_threaded.log.redis.log", "WARNING"), log.transaction():
                pass

    def test_a_fork_keeps_transactions_out_unless_its_thread_has_one(self) -> None:
        log = self.make_log(timeouts=Timeouts(retry=0.05))
        self.answers(b"7", b"", b"8", b"")
        log.before_fork()
        with self.assertRaises(LogUnavailable), log.transaction():
            self.fail("entered")
        log.after_fork(False)
        with log.transaction():
            log.before_fork()
            log.after_fork(False)
        with log.transaction():
            pass

    def test_in_the_parent_it_goes_on_also_where_an_interrupt_came_before_the_lock(self) -> None:
        log = self.make_log()
        self.answers(b"7", b"")
        log.after_fork(False)
        log.before_fork()
        log.after_fork(False)
        log.after_fork(False)
        with log.transaction():
            pass

    def test_a_child_has_a_lock_connections_and_a_listener_of_its_own(self) -> None:
        log = self.make_log(timeouts=Timeouts(retry=0.05))
        self.answers(b"7", b"8", b"", b"")
        log.listener = listener = mock.Mock()
        with log.transaction(), mock.patch.object(SharedClient, "after_fork_in_child") as forked:
            log.after_fork(True)
            forked.assert_called_once_with()
            listener.after_fork_in_child.assert_called_once_with()
            with log.transaction() as transaction:
                self.assertEqual(transaction.append("a", "x"), "abcdef-9")
                transaction.rows.clear()
            log._lock.acquire()  # for the end of the parent's transaction, which a child does not see
        log.close()
        log.after_fork(True)
        self.assertRaisesRegex(LogUnusable, "closed", log.last_sequence)

    def test_readers_look_once_a_second_besides(self) -> None:
        self.assertEqual(RedisLog.poll_interval, 1.0)

    def test_a_threads_own_is_refused_and_another_threads_is_waited_for(self) -> None:
        log = self.make_log(timeouts=Timeouts(retry=0.05))
        self.answers(b"7", b"", b"8", b"")
        with log.transaction():
            self.assertRaises(NestedTransaction, log.append, "a", "x")
            with self.assertRaises(NestedTransaction), log.transaction():
                self.fail("entered")
            reasons: list[str] = []

            def other() -> None:
                try:
                    with log.transaction():
                        self.fail("entered")
                except LogUnavailable as error:
                    reasons.append(error.reason)

            thread = threading.Thread(target=other)
            thread.start()
            thread.join(10)
            self.assertEqual(reasons, ["kept by another thread for over 0.05 s; try again"])
        with log.transaction():
            pass


class ReadTest(LogCase):
    def test_the_newest_number_is_the_first_of_the_state_and_is_expected(self) -> None:
        log = self.make_log()
        self.answers((b"7", b"3:5"))
        with mock.patch.object(log.listener.buffer, "expect") as expect:
            self.assertEqual(log.last_sequence(), 7)
        expect.assert_called_once_with(7)
        self.assertEqual(self.run_script.call_args.args[:2], (STATE, ["abcdef"]))

    def test_the_newest_number_of_a_log_that_was_made_anew_is_known_once_its_epoch_is(self) -> None:
        log = self.make_log()
        self.answers(RENEWED, prepared("uvwxyz"), (b"3", b""), (b"3", b""))
        with self.assertLogs("sse_threaded", "WARNING"):
            self.assertEqual(log.last_event_id(), "uvwxyz-3")
        log.listener = mock.Mock(is_running=True)
        log.read(3)  # from now on the reader of all events takes new epochs on
        self.answers(RENEWED, prepared("ghijkl"))
        with self.assertLogs("sse_threaded", "WARNING"), self.assertRaisesRegex(LogUnavailable, "created again"):
            log.last_sequence()

    def test_a_page_is_asked_for_with_its_bounds(self) -> None:
        log = self.make_log()
        for channels, upto, names in ((None, None, []), (["a", "b", "a"], 9, ["a", "b"])):
            self.answers((b"7", b"", 0, [(0, [])] * max(len(names), 1)))
            self.assertEqual(log.read(7, channels=channels, upto=upto), [])
            epoch, after, asked, _, _, *found = self.arguments()
            self.assertEqual((epoch, after, asked, found), ("abcdef", 7, "" if upto is None else upto, names))
        self.run_script.reset_mock()
        self.assertEqual(log.read(0, channels=[]), [])
        self.run_script.assert_not_called()

    def test_a_log_that_was_made_anew_is_told(self) -> None:
        log = self.make_log()
        self.answers(RENEWED, prepared("uvwxyz"))
        with self.assertLogs("sse_threaded", "WARNING"), self.assertRaises(HistoryGone) as caught:
            log.read(0)
        self.assertEqual(caught.exception.reason, "epoch")
        self.assertEqual(log.epoch, "uvwxyz")
        self.answers(RENEWED, prepared("ghijkl"))
        with self.assertLogs("sse_threaded", "WARNING"), self.assertRaisesRegex(LogUnavailable, "created again"):
            log.look("return 1")

    def test_with_a_listener_the_feed_comes_from_memory_and_the_reader_takes_a_new_epoch(self) -> None:
        log = self.make_log()
        log.listener = mock.Mock(is_running=True)
        log.listener.page.return_value = page = object()
        self.assertIs(log.read(7), page)
        log.listener.page.assert_called_once_with(7)
        self.answers(prepared("uvwxyz"))
        with self.assertLogs("sse_threaded", "WARNING"):
            log._meet_new_epoch()
        log.listener.ring.assert_called_once_with()
        self.assertEqual(log.epoch, "abcdef", "until the reader of all events takes it on")
        with self.assertRaises(HistoryGone):
            log.read(7)
        self.assertEqual(log.epoch, "uvwxyz")
        log.listener.renew.assert_called_once_with("uvwxyz")
        self.assertIs(log.read(7), page)
        for options in ({"channels": ["a"]}, {"upto": 8}):
            log.listener.page.reset_mock()
            self.answers((b"7", b"", 0, [(0, [])]))
            log.read(7, **options)
            log.listener.page.assert_not_called()

    def test_its_doorbells_are_the_listeners(self) -> None:
        log = self.make_log()
        log.listener = mock.Mock()
        self.assertIs(log.open_doorbell(), log.listener.open_doorbell.return_value)
        log.listener.open_doorbell.assert_called_once_with("abcdef")
        log.ring()
        log.listener.ring.assert_called_once_with()
        with mock.patch.object(SharedClient, "close") as close:
            log.close()
        log.listener.stop.assert_called_once_with()
        close.assert_called_once_with()


if __name__ == "__main__":
    unittest.main()
