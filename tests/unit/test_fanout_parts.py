"""The small parts of the fan-out: times, budgets, what clients are told, abandoned streams, replay."""

from __future__ import annotations

import threading
import types
import unittest
from typing import Any, cast
from unittest import mock

from sse_threaded.errors import LogUnavailable
from sse_threaded.fanout import replay, scheduling_policy
from sse_threaded.fanout.abandoned_streams import AbandonedStreams, Abandonment, abandonment
from sse_threaded.fanout.budget import Budget, Overloaded
from sse_threaded.fanout.pace import Pace
from sse_threaded.fanout.replay import Replay
from sse_threaded.fanout.serial_wakeup import Activity, SerialWakeup, Sleeper
from sse_threaded.fanout.stream_state import EndReason
from sse_threaded.fanout.timers import NEVER, Timers
from sse_threaded.observer import Kind
from sse_threaded.protocol.batch import LAST_CHUNK, Batch
from tests.unit.fake_handover import FakeHandover


def make_subscriber(is_closed: bool = False, **values: object) -> Any:
    return types.SimpleNamespace(state=types.SimpleNamespace(is_closed=is_closed), **values)


class TimersTest(unittest.TestCase):
    def setUp(self) -> None:
        self.timers = Timers()

    def test_without_a_grain_a_time_is_taken_as_it_is(self) -> None:
        self.timers.add(1.3, make_subscriber())
        self.assertEqual(self.timers.next(), 1.3)

    def test_those_whose_time_has_come_are_due_the_earliest_first(self) -> None:
        first, second, third = (make_subscriber() for _ in range(3))
        for when, subscriber in ((3.0, third), (1.0, first), (2.0, second)):
            self.timers.add(when, subscriber)
        self.assertEqual(self.timers.next(), 1.0)
        self.assertEqual(list(self.timers.due(0.9)), [])
        self.assertEqual(list(self.timers.due(2.0)), [first, second])
        self.assertEqual((self.timers.next(), len(self.timers)), (3.0, 1))
        self.assertEqual(list(self.timers.due(9.0)), [third])
        self.assertEqual(self.timers.next(), NEVER)

    def test_of_the_same_moment_the_first_comes_first(self) -> None:
        subscribers = [make_subscriber() for _ in range(5)]
        for subscriber in subscribers:
            self.timers.add(1.0, subscriber)
        self.assertEqual(list(self.timers.due(1.0)), subscribers)

    def test_only_a_new_earliest_time_is_told_as_such(self) -> None:
        for when, grain, is_earliest in (
            (2.1, 0.25, True),
            (2.2, 0.25, False),  # the same time
            (3.0, 0.0, False),
            (2.0, 0.0, True),
            (1.9, 0.25, False),
            (NEVER, 0.0, False),
        ):
            with self.subTest(when=when):
                self.assertIs(self.timers.add(when, make_subscriber(), grain), is_earliest)

    def test_a_look_that_fails_takes_nothing_from_the_others(self) -> None:
        subscribers = [make_subscriber() for _ in range(3)]
        for subscriber in subscribers:
            self.timers.add(1.0, subscriber)
        self.assertIs(next(self.timers.due(1.0)), subscribers[0])
        self.assertEqual((self.timers.next(), len(self.timers)), (1.0, 2))
        self.assertCountEqual(self.timers.due(1.0), subscribers[1:])
        self.assertEqual((self.timers.next(), len(self.timers)), (NEVER, 0))

    def test_one_that_has_left_is_not_due_and_takes_nothing_from_the_others(self) -> None:
        left, here = make_subscriber(is_closed=True), make_subscriber()
        self.timers.add(1.0, left)
        self.timers.add(1.0, here)
        self.assertEqual(list(self.timers.due(1.0)), [here])
        self.assertEqual(len(self.timers), 0)

    def test_a_time_that_never_comes_takes_no_entry(self) -> None:
        self.assertIs(self.timers.add(NEVER, make_subscriber()), False)
        self.assertIs(self.timers.add(NEVER, make_subscriber(), 0.5), False)
        self.assertEqual(len(self.timers), 0)

    def test_whether_a_time_is_the_earliest_is_told(self) -> None:
        told = [self.timers.add(when, make_subscriber()) for when in (3.0, 4.0, 3.0, 2.0)]
        self.assertEqual(told, [True, False, False, True])

    def test_times_are_rounded_up_to_whole_grains(self) -> None:
        for when, grain, expected in ((1.1, 0.0, 1.1), (1.1, 0.25, 1.25), (1.25, 0.25, 1.25), (1.26, 0.25, 1.5)):
            with self.subTest(when=when, grain=grain):
                timers = Timers()
                timers.add(when, make_subscriber(), grain)
                self.assertEqual(timers.next(), expected)

    def test_entries_of_those_that_have_left_are_dropped_when_they_are_most_of_many(self) -> None:
        here = [make_subscriber() for _ in range(10)]
        for number, subscriber in enumerate(here):
            self.timers.add(100.0 - number, subscriber)
        for number in range(110):
            self.timers.add(50.0 + number, make_subscriber(is_closed=True))
        self.timers.shrink(10)
        self.assertEqual(len(self.timers), 120)
        self.timers.add(0.0, make_subscriber(is_closed=True))
        self.timers.shrink(10)
        self.assertEqual(len(self.timers), 10)
        self.assertEqual(list(self.timers.due(1000.0)), here[::-1])


class HandoverTest(unittest.TestCase):
    def test_only_the_first_stream_on_the_servers_own_thread_may_let_it_leave(self) -> None:
        mine = threading.get_ident()
        for can_resume, thread, wrapped, may in (
            (True, mine, None, True),
            (False, mine, None, False),
            (True, mine + 1, None, False),
            (True, mine, mock.Mock(), False),
        ):
            handover = FakeHandover()
            handover.can_resume, handover.thread, handover.wrapped = can_resume, thread, wrapped
            self.assertIs(handover.may_lend(), may)


class BudgetTest(unittest.TestCase):
    def test_there_are_as_many_places_as_it_says(self) -> None:
        budget = Budget(2)
        budget.take()
        budget.take()
        for _ in range(2):
            with self.assertRaisesRegex(Overloaded, "all 2 streams"):
                budget.take()
        self.assertEqual(budget.taken, 2)
        budget.give_back()
        budget.take()
        self.assertRaises(Overloaded, budget.take)
        self.assertEqual(budget.taken, 2)

    def test_none_is_no_bound_and_zero_is_none_at_all(self) -> None:
        budget = Budget()
        for _ in range(1000):
            budget.take()
        self.assertEqual(budget.taken, 1000)
        self.assertRaises(Overloaded, Budget(0).take)

    def test_a_child_begins_with_no_place_taken_whoever_holds_the_lock(self) -> None:
        budget = Budget(1)
        budget.take()
        with budget._lock:
            budget.after_fork_in_child()
            self.assertEqual(budget.taken, 0)
            budget.take()  # it would wait for ever
        self.assertRaises(Overloaded, budget.take)


class PaceTest(unittest.TestCase):
    def drawn(self, tell: Any, *arguments: Any, **options: Any) -> tuple[bytes, tuple[float, float]]:
        """What is told, with 7 drawn, and from which range it was drawn."""
        with mock.patch("random.uniform", return_value=7.2) as uniform:
            told = tell(*arguments, **options)
        uniform.assert_called_once()
        return told, uniform.call_args.args

    def test_clients_come_back_at_different_times_after_an_end(self) -> None:
        for retry, reason, longest in (
            (5000, EndReason.LEASE, 1000),
            (600, EndReason.LEASE, 600),
            (5000, EndReason.SHUTDOWN, 5000),
            (5000, EndReason.SLOW, 5000),
            (5000, EndReason.BEHIND, 5000),
            (5000, EndReason.UNAVAILABLE, 5000),
            (5000, EndReason.OVERLOAD, 10_000),
        ):
            with self.subTest(retry=retry, reason=reason):
                told, ends = self.drawn(Pace(retry, None, None).farewell, reason)
                self.assertEqual(told, b"retry: 7\nevent: stream-end\ndata: {}\n\n")
                self.assertEqual(ends, (longest / 5, longest))

    def test_clients_without_a_stream_come_back_later_unless_another_process_will_answer_soon(self) -> None:
        for options, longest in (({}, 10_000), ({"shutdown": False}, 10_000), ({"shutdown": True}, 5000)):
            with self.subTest(options=options):
                told, ends = self.drawn(Pace(5000, None, None).unavailable, **options)
                self.assertEqual(told, b"retry: 7\nevent: stream-unavailable\ndata: {}\n\n")
                self.assertEqual(ends, (longest / 5, longest))


class AbandonedTest(unittest.TestCase):
    def test_after_how_many_looks_a_stream_counts_as_abandoned(self) -> None:
        no, doubtful, certain = Abandonment
        for end_reason, expected in (
            (None, [no, no, doubtful, doubtful, doubtful, doubtful, certain, certain]),
            (EndReason.SHUTDOWN, [no, no, doubtful, certain, certain]),
        ):
            for looks, kind in enumerate(expected):
                with self.subTest(end_reason=end_reason, looks=looks):
                    counted = make_subscriber(end_reason=end_reason, count_idle_looks=lambda looks=looks: looks)
                    self.assertIs(abandonment(counted), kind)

    def test_the_collector_is_called_every_four_heartbeats_at_most(self) -> None:
        streams = AbandonedStreams(10.0)
        with mock.patch("gc.collect") as collect:
            counts = []
            for now in (5.0, 6.0, 44.9, 45.0, 84.9, 85.0):
                streams.collect(now)
                counts.append(collect.call_count)
        self.assertEqual(counts, [1, 1, 1, 2, 2, 3])

    def test_each_that_was_added_is_closed_once(self) -> None:
        streams, closed = AbandonedStreams(10.0), []
        for number in range(3):
            streams.add(lambda number=number: closed.append(number))  # type: ignore[misc]
        self.assertEqual(len(streams), 3)
        streams.close_all()
        streams.close_all()
        self.assertEqual((closed, len(streams)), ([0, 1, 2], 0))


class Registry:
    """What a replay asks of the registry: no event was missed, and the test says who has caught up."""

    position = 100

    def __init__(self) -> None:
        self.missed_of: list[object] = []
        self.caught_up: set[int] = set()
        self.batch: Batch | None = Batch(b"", 0)
        self.ended: list[object] = []
        self.checked: list[object] = []

    def missed(self, subscriber: object) -> Batch | None:
        self.missed_of.append(subscriber)
        return self.batch

    def attach_if_caught_up(self, subscriber: object) -> bool:
        return id(subscriber) in self.caught_up

    def check_soon(self, subscriber: object) -> None:
        self.checked.append(subscriber)

    def tell_to_end(self, reason: EndReason, subscribers: tuple[object, ...]) -> None:
        self.ended += [(reason, subscriber) for subscriber in subscribers]


def make_cursor(**values: Any) -> Any:
    return mock.Mock(**{"after": 5, "replayed": 0, "told": None, **values})


class ReplayTest(unittest.TestCase):
    def setUp(self) -> None:
        self.registry = Registry()
        self.replay = Replay(cast("Any", self.registry), mock.Mock())

    def add(self, **values: Any) -> Any:
        given = {"kind": Kind.PARKED, "channels": ("a",), "cursor": make_cursor(), "is_blocked": False}
        given |= {"deliver": lambda batch: False, **values}
        subscriber = make_subscriber(**given)
        self.replay.add(subscriber)
        return subscriber

    def test_in_one_round_32_get_a_page_each_and_then_the_others_have_theirs(self) -> None:
        subscribers = [self.add() for _ in range(40)]
        self.replay.run()
        self.assertEqual(self.registry.missed_of, subscribers[:32])
        self.replay.run()
        self.assertEqual(self.registry.missed_of[32:], subscribers[32:] + subscribers[:24])
        self.assertEqual(len(self.replay), 40)

    def test_each_gets_one_page_a_round(self) -> None:
        subscriber = self.add()
        self.replay.run()
        self.assertEqual((self.registry.missed_of, len(self.replay)), ([subscriber], 1))

    def test_those_that_have_ended_or_are_blocked_get_none_and_are_dropped(self) -> None:
        self.add(cursor=None)
        self.add(is_blocked=True)
        self.replay.run()
        self.assertEqual((self.registry.missed_of, len(self.replay)), ([], 0))

    def test_one_that_ends_while_it_is_looked_at_gets_nothing(self) -> None:
        subscriber = self.add()

        def end(_: object) -> None:
            subscriber.cursor = None

        with mock.patch.object(self.registry, "missed", end):
            self.replay.run()
        self.assertEqual((self.registry.ended, self.registry.checked), ([], []))

    def test_one_that_has_caught_up_is_dropped(self) -> None:
        self.registry.caught_up.add(id(self.add()))
        self.replay.run()
        self.assertEqual(len(self.replay), 0)

    def test_one_that_is_to_be_looked_at_after_its_page_is_not_added_again(self) -> None:
        self.registry.batch = Batch(b"data: x\n\n")
        subscriber = self.add(deliver=lambda batch: True)
        self.replay.run()
        self.assertEqual((self.registry.checked, len(self.replay)), ([subscriber], 0))
        self.add(deliver=lambda batch: False)
        self.replay.run()
        self.assertEqual((self.registry.checked, len(self.replay)), ([subscriber], 1))

    def test_nothing_is_delivered_of_an_empty_page(self) -> None:
        delivered: list[Batch] = []
        self.add(deliver=delivered.append)
        self.replay.run()
        self.assertEqual((delivered, len(self.replay)), ([], 1))

    def test_what_the_memory_lacks_comes_from_the_log_and_an_empty_page_means_the_position(self) -> None:
        self.registry.batch = None
        for wire, before, after in ((b"", 5, 100), (b"", 200, 200), (b"data: x\n\n", 5, 5)):
            with self.subTest(wire=wire, before=before):
                delivered: list[Batch] = []
                cursor = make_cursor(after=before, read_wire=lambda wire=wire: wire)
                self.replay = Replay(cast("Any", self.registry), mock.Mock())
                self.add(cursor=cursor, deliver=delivered.append)
                self.replay.run()
                self.assertEqual(cursor.after, after)
                self.assertEqual([batch.body for batch in delivered], [wire] if wire else [])

    def test_where_the_log_cannot_be_read_the_stream_ends(self) -> None:
        self.registry.batch = None
        unavailable = mock.Mock(side_effect=LogUnavailable("memory://", "away"))
        with mock.patch.object(replay._throttled, "warning") as warning:
            subscriber = self.add(cursor=make_cursor(read_wire=unavailable))
            self.replay.run()
        self.assertEqual(self.registry.ended, [(EndReason.UNAVAILABLE, subscriber)])
        self.assertEqual(len(self.replay), 0)
        warning.assert_called_once()


class BatchTest(unittest.TestCase):
    def test_a_batch_is_one_event_in_one_part_unless_it_says_otherwise(self) -> None:
        batch = Batch(b"data: a long event with a chunk size of two digits\n\n")
        self.assertEqual((batch.count, batch.parts), (1, (batch.body,)))
        self.assertEqual(batch.chunk, b"34\r\n" + batch.body + b"\r\n")
        batch = Batch(b"ab", 2, [b"a", b"b"])
        self.assertEqual((batch.body, batch.count, batch.parts), (b"ab", 2, [b"a", b"b"]))
        self.assertEqual(Batch(b"", 0, ()).parts, ())

    def test_an_empty_chunk_ends_a_body(self) -> None:
        self.assertEqual(LAST_CHUNK, Batch(b"").chunk)


class SchedulingPolicyTest(unittest.TestCase):
    def change(self, *, platform: str = "linux", greenlets: bool = False, policy: int = 0) -> tuple[bool, Any]:
        os = mock.Mock(SCHED_OTHER=0, SCHED_BATCH=3)
        os.sched_getscheduler.return_value = policy
        with (
            mock.patch.object(scheduling_policy, "os", os),
            mock.patch("sys.platform", platform),
            mock.patch.object(scheduling_policy, "has_greenlets", return_value=greenlets),
        ):
            return scheduling_policy.set_batch_policy(), os

    def test_it_is_changed_for_a_usual_thread_on_linux_only(self) -> None:
        for options, changes in (
            ({}, True),
            ({"platform": "darwin"}, False),
            ({"greenlets": True}, False),
            ({"policy": 1}, False),
        ):
            with self.subTest(options=options):
                changed, os = self.change(**cast("dict[str, Any]", options))
                self.assertEqual((changed, os.sched_setscheduler.called), (changes, changes))

    def test_it_is_that_of_the_calling_thread_with_no_priority(self) -> None:
        _, os = self.change()
        os.sched_getscheduler.assert_called_once_with(0)
        os.sched_param.assert_called_once_with(0)
        os.sched_setscheduler.assert_called_once_with(0, os.SCHED_BATCH, os.sched_param.return_value)

    def test_it_is_given_back_on_linux(self) -> None:
        for platform, calls in (("linux", 1), ("darwin", 0)):
            os = mock.Mock()
            with (
                mock.patch.object(scheduling_policy, "os", os),
                mock.patch("sys.platform", platform),
            ):
                scheduling_policy.restore_policy()
            expected = [mock.call(0, os.SCHED_OTHER, os.sched_param.return_value)] * calls
            self.assertEqual(os.sched_setscheduler.call_args_list, expected)
            self.assertEqual(os.sched_param.call_args_list, [mock.call(0)] * calls)


class NotedSleeper(Sleeper):
    """A sleeper without a thread: that it was woken is noted."""

    woken: list[Sleeper]

    def wake(self) -> None:
        self.woken.append(self)


class SerialWakeupTest(unittest.TestCase):
    stuck = 0.125  # seconds; with 3000 passes a second, exactly 375 in this time

    def setUp(self) -> None:
        self.now = 1000.0
        for target, value in (
            ("sse_threaded.fanout.serial_wakeup.time.monotonic", lambda: self.now),
            ("sse_threaded.fanout.serial_wakeup.random.randrange", lambda number: 0),
        ):
            patch = mock.patch(target, value)
            patch.start()
            self.addCleanup(patch.stop)
        self.wakeup = SerialWakeup(self.stuck)
        self.woken: list[Sleeper] = []

    def call(self, number: int) -> list[NotedSleeper]:
        made = [NotedSleeper(self.wakeup) for _ in range(number)]
        for sleeper in made:
            sleeper.woken = self.woken
            sleeper.activity = Activity.ASLEEP
            sleeper.call()
        return made

    def come_back(self, sleeper: Sleeper) -> None:
        """Pass its token on; it has more to do, so it does not sleep."""
        sleeper.sleep([1])

    def test_four_are_woken_at_once_and_of_more_one_after_the_other(self) -> None:
        for number, woken in ((1, 1), (4, 4), (5, 1), (9, 1)):
            with self.subTest(number=number):
                self.wakeup, self.woken = SerialWakeup(self.stuck), []
                sleepers = self.call(number)
                self.assertEqual((self.wakeup.waiting, self.wakeup.due), (number, 0.0))
                self.wakeup.advance()
                self.assertEqual(self.woken, sleepers[:woken])
                self.assertEqual(self.wakeup.waiting, number - woken)

    def test_no_more_have_a_token_than_may_however_many_had_one_before(self) -> None:
        few = self.call(4)
        self.wakeup.advance()
        many = self.call(5)
        self.wakeup.advance()
        self.assertEqual(self.woken, few)
        for number, sleeper in enumerate(few, 1):
            self.come_back(sleeper)
            self.assertEqual(self.woken[4:], many[:1] if number == 4 else [])

    def test_a_token_that_was_passed_on_or_taken_cannot_be_passed_on_again(self) -> None:
        sleepers = self.call(6)
        self.wakeup.advance()
        self.come_back(sleepers[0])
        self.come_back(sleepers[0])
        self.assertEqual(self.woken, sleepers[:2])
        self.now += self.stuck
        self.wakeup.advance()
        woken = len(self.woken)
        self.come_back(sleepers[1])
        self.assertEqual(len(self.woken), woken)

    def test_one_token_more_if_few_are_passed_on_and_one_less_if_many(self) -> None:
        for passed, tokens in ((373, 2), (374, 1), (500, 1)):  # the first was given by the pump
            with self.subTest(passed=passed):
                self.wakeup, self.woken = SerialWakeup(self.stuck), []
                self.call(600)
                self.wakeup.advance()
                for number in range(passed):
                    if number == passed - 1:
                        self.now += self.stuck  # so that the last one is not stuck
                    self.come_back(self.woken[-1])
                self.wakeup.advance()
                self.assertEqual(self.wakeup.most_tokens, tokens)

    def test_it_does_not_judge_before_an_interval_is_over(self) -> None:
        self.call(600)
        self.wakeup.advance()
        self.now += self.stuck / 2
        self.come_back(self.woken[-1])
        self.wakeup.advance()
        self.assertEqual(self.wakeup.most_tokens, 1)
        self.now += self.stuck / 2
        self.come_back(self.woken[-1])
        self.wakeup.advance()
        self.assertEqual(self.wakeup.most_tokens, 2)
        self.now += self.stuck / 2
        self.wakeup.advance()
        self.assertEqual(self.wakeup.most_tokens, 2, "the next interval has begun")

    def test_when_it_is_due_again(self) -> None:
        self.assertEqual(self.wakeup.due, float("inf"))
        sleepers = self.call(6)
        self.wakeup.advance()
        self.now += self.stuck / 4
        self.assertEqual(self.wakeup.due, 1000.0 + self.stuck)
        self.come_back(sleepers[0])
        self.assertEqual(self.wakeup.due, self.now + self.stuck)
        self.call(1)
        self.assertLessEqual(self.wakeup.due, self.now)

    def test_one_that_is_removed_gets_no_token_wherever_it_waited(self) -> None:
        sleepers = self.call(6)
        self.assertTrue(sleepers[1].stop())
        self.assertFalse(sleepers[1].stop())
        self.wakeup.advance()
        self.assertTrue(sleepers[2].stop())
        self.assertEqual(self.wakeup.waiting, 3)
        self.come_back(sleepers[0])
        self.assertEqual(self.woken, [sleepers[0], sleepers[3]])

    def test_one_that_was_called_once_is_not_called_again(self) -> None:
        (sleeper,) = self.call(1)
        sleeper.call()
        self.assertEqual(self.wakeup.waiting, 1)
        self.assertFalse(sleeper.is_asleep)


if __name__ == "__main__":
    unittest.main()
