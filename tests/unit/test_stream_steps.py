"""Steps of streams that no client sees by themselves: first bytes, what a wrapped one notes, what is counted."""

from __future__ import annotations

import queue
import socket
import sqlite3
import sys
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

from werkzeug.test import EnvironBuilder

from sse_threaded import Hub, HubClosed, LogUnavailable
from sse_threaded.fanout.audience import Audiences
from sse_threaded.fanout.budget import Overloaded
from sse_threaded.fanout.cursor import Cursor
from sse_threaded.fanout.handover import ENVIRON_KEY
from sse_threaded.fanout.lifecycle import process_budget
from sse_threaded.fanout.pace import Pace
from sse_threaded.fanout.pump import Pump
from sse_threaded.fanout.registry import Registry
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.fanout.stream_state import EndReason, State, Step
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.fanout.wrapped_subscriber import WrappedSubscriber
from sse_threaded.log import MemoryLog, Record
from sse_threaded.log.sqlite.app_connection import transaction_of
from sse_threaded.protocol.batch import Batch
from sse_threaded.stream import refusal_for
from tests.unit.fake_handover import FakeHandover

EVENT = Batch(b"data: x\n\n")


class StartTest(unittest.TestCase):
    """The first bytes of a stream, whichever way they go."""

    def setUp(self) -> None:
        self.hub = Hub(retry=1234, max_streams=1)
        self.addCleanup(self.hub.close)
        self.connection, client = socket.socketpair()
        self.addCleanup(self.connection.close)
        self.addCleanup(client.close)
        self.last = self.hub.publish("a", "x")

    def firsts(self, last_event_id: str) -> Iterator[tuple[str, bytes]]:
        """Each way, and the first bytes."""
        for way in ("iterated", "joined", "wrapped", "parked"):
            handover = FakeHandover()
            environ = EnvironBuilder("/", multithread=True).get_environ()
            environ["HTTP_LAST_EVENT_ID"] = last_event_id
            if way in ("wrapped", "parked"):
                environ[ENVIRON_KEY] = handover
            stream: Any = self.hub.stream(environ, "a").response
            if way == "parked":
                parking = stream.park(handover, self.connection, True)
                parking.cancel()
                yield way, parking.first
            else:
                stream.joins = way == "joined"
                yield way, next(stream)
                stream.close()

    def test_it_has_the_usual_time_and_the_position(self) -> None:
        for last_event_id in ("", f"{self.hub.log.epoch}-0"):
            place = (last_event_id or self.last).encode()
            expected = b"retry: 1234\nevent: stream-start\nid: " + place + b"\ndata: {}\n\n"
            for way, first in self.firsts(last_event_id):
                with self.subTest(way=way, last_event_id=last_event_id):
                    events = b"data: x\nid: " + self.last.encode() + b"\n\n"
                    replay = events if way == "joined" and last_event_id else b""
                    self.assertEqual(first, expected + replay)

    def test_before_a_reset_it_has_no_position(self) -> None:
        expected = b"retry: 1234\nevent: stream-start\ndata: {}\n\n"
        for way, first in self.firsts("unknown"):
            with self.subTest(way):
                start, end, reset = first.partition(b"data: {}\n\n")
                self.assertEqual(start + end, expected)
                self.assertEqual(b"event: reset" in reset, way == "joined")

    def test_its_server_says_whether_it_hears_hang_ups(self) -> None:
        for hears in (False, True):
            handover = FakeHandover(hears_hang_ups=hears)
            environ = {**EnvironBuilder("/", multithread=True).get_environ(), ENVIRON_KEY: handover}
            stream: Any = self.hub.stream(environ, "a").response
            parking = stream.park(handover, self.connection, True)
            parking.cancel()
            self.assertIs(parking.subscriber.server_hears_hang_ups, hears)


class RefusalTest(unittest.TestCase):
    def test_a_client_waits_as_after_a_shutdown_if_the_hub_is_closed_and_else_twice_as_long(self) -> None:
        for error, shutdown in (
            (HubClosed("closed"), True),
            (Overloaded("full"), False),
            (LogUnavailable("memory://", "away"), False),
        ):
            with self.subTest(error=error):
                pace = mock.Mock()
                pace.unavailable.return_value = b"data: {}\n\n"
                self.assertTrue(refusal_for(pace, error).startswith(b"data: {}\n\n:"))
                pace.unavailable.assert_called_once_with(shutdown=shutdown)


class WrappedTest(unittest.TestCase):
    def setUp(self) -> None:
        ours, self.client = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.client.close)
        self.server, self.keeper = mock.Mock(), mock.Mock()
        self.sleeper = mock.Mock()  # whose sleep ends at once
        self.subscriber: Any = WrappedSubscriber(("a",), 10, ours, self.server, self.keeper)
        self.subscriber.sleeper = self.sleeper

    def take_nothing(self) -> bool:
        """Take from the empty queue; returns whether it gave that at once. Otherwise it has waited."""
        self.keeper.reset_mock()
        self.sleeper.reset_mock()
        self.assertEqual(self.subscriber.take(), [])
        self.assertEqual(
            self.keeper.keep_thread.mock_calls, [mock.call(self.subscriber)] * self.sleeper.sleep.call_count
        )
        return not self.sleeper.sleep.called

    def take_events(self) -> None:
        self.subscriber.deliver(EVENT)
        self.assertEqual(self.subscriber.take(), [EVENT])

    def test_after_four_empty_chunks_without_an_answer_it_must_wait(self) -> None:
        gives = [self.take_nothing() for _ in range(6)]
        self.assertEqual(gives, [True] * 4 + [False] * 2)

    def test_a_thread_that_stays_waits_and_asks_no_more_whether_it_may(self) -> None:
        self.subscriber.keep_thread()
        self.assertEqual(self.subscriber.take(5.0), [])
        self.assertEqual(self.sleeper.sleep.call_args.args[1], 5.0)
        self.take_events()
        self.keeper.keep_thread.assert_not_called()

    def test_events_and_an_answer_of_the_server_let_it_begin_to_count_again(self) -> None:
        for note in (self.take_events, lambda: self.subscriber.is_idle(False)):
            for _ in range(5):
                self.take_nothing()
            note()
            self.assertTrue(all(self.take_nothing() for _ in range(4)))
            self.assertFalse(self.take_nothing())

    def test_it_is_idle_when_it_has_given_an_empty_chunk(self) -> None:
        self.assertFalse(self.subscriber.is_idle(False))
        self.assertFalse(self.subscriber.is_idle(True))
        self.take_nothing()
        self.assertTrue(self.subscriber.is_idle(False))
        self.assertFalse(self.subscriber.is_idle(False), "until the next one")

    def test_its_end_is_no_empty_chunk(self) -> None:
        self.subscriber.end(EndReason.LEASE, b"")
        self.assertTrue(all(self.take_nothing() for _ in range(6)))
        self.assertFalse(self.subscriber.is_idle(False))

    def test_where_the_wrapper_gave_bytes_for_it_the_server_asks_once_more(self) -> None:
        found = []
        for _ in range(4):
            self.take_nothing()
            found.append(self.subscriber.is_idle(True))
        self.assertEqual(found, [False, True, False, True])
        self.take_nothing()
        self.subscriber.is_idle(True)
        self.take_events()
        self.take_nothing()
        self.assertFalse(self.subscriber.is_idle(True), "after events it begins anew")

    def test_a_thread_that_stays_sends_what_waits_and_all_that_follows_at_once(self) -> None:
        self.subscriber.sendall(b"one ")
        self.assertFalse(self.subscriber.keeps_thread)
        self.subscriber.keep_thread()
        self.assertTrue(self.subscriber.keeps_thread)
        self.server.keep_thread.assert_called_once_with()
        self.subscriber.sendall(b"two")
        self.assertEqual(self.client.recv(100), b"one two")
        self.subscriber.connection.close()
        self.subscriber.keep_thread()
        self.assertTrue(self.subscriber.state.is_lost)

    def test_its_end_is_told_to_the_pump(self) -> None:
        self.subscriber.end_response()
        self.keeper.end_response.assert_called_once_with(self.subscriber)


class ParkedTest(unittest.TestCase):
    def make_subscriber(self, *, chunked: bool) -> tuple[Any, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        parked = SocketSubscriber(
            ("a",), 100, ours, chunked=chunked, cursor=None, handover=FakeHandover(lambda: None)
        )
        return parked, theirs

    def test_events_that_leave_with_the_head_are_counted_and_the_head_is_not(self) -> None:
        for chunked, wire in ((True, b"head3\r\nabc\r\n"), (False, b"headabc")):
            with self.subTest(chunked=chunked):
                parked, theirs = self.make_subscriber(chunked=chunked)
                parked.begin(b"head", Batch(b"abc", 2))
                self.assertEqual(theirs.recv(100), wire)
                self.assertEqual((parked.waiting, parked.is_blocked, parked.sent), (0, False, 3))
                self.assertFalse(parked.connection.getblocking())

    def test_a_head_alone(self) -> None:
        for batch in (None, Batch(b"", 0)):
            parked, theirs = self.make_subscriber(chunked=True)
            parked.begin(b"head", batch)
            self.assertEqual(theirs.recv(100), b"head")
            self.assertEqual((parked.waiting, parked.is_blocked, parked.sent), (0, False, 0))


class ScriptedSocket:
    """A socket that takes what the test says: so many bytes, or an error."""

    def __init__(self) -> None:
        self.takes: list[int | type[OSError]] = []
        self.sent = b""
        self.shutdown = mock.Mock()
        self.setblocking = mock.Mock()
        self.gettimeout = mock.Mock(return_value=None)

    def send(self, data: bytes | memoryview) -> int:
        takes = self.takes.pop(0)
        if not isinstance(takes, int):
            raise takes
        taken = min(takes, len(data))
        self.sent += bytes(data[:taken])
        return taken


class WritingTest(unittest.TestCase):
    """A parked stream's bytes, where its socket does not take all of them at once."""

    def make(self, *, chunked: bool = False) -> Any:
        self.finished = mock.Mock()
        self.sock = ScriptedSocket()
        connection: Any = self.sock
        return SocketSubscriber(
            ("a",), 3, connection, chunked=chunked, cursor=None, handover=FakeHandover(self.finished)
        )

    def blocked(self, *batches: Batch, takes: int = 0, chunked: bool = False) -> Any:
        """One for which batches wait; of the first its socket took so many bytes."""
        parked = self.make(chunked=chunked)
        self.sock.takes = [takes]
        for batch in batches:
            self.assertTrue(parked.deliver(batch))
        self.assertTrue(parked.is_blocked)
        return parked

    def test_the_first_bytes(self) -> None:
        batch = Batch(b"abc", 2)
        for takes, is_sent, waiting, is_blocked, is_lost in (
            (100, True, 0, False, False),
            (5, False, 2, True, False),
            (BlockingIOError, False, 2, True, False),
            (ConnectionResetError, False, 0, False, True),
        ):
            parked = self.make()
            self.sock.takes = [takes, 100]
            self.assertIs(parked.begin(b"head", batch), is_sent)
            self.assertEqual((parked.waiting, parked.is_blocked), (waiting, is_blocked))
            self.assertIs(parked.state.is_lost, is_lost)
            self.assertIs(parked.is_over, is_lost)
            self.assertIs(parked.can_broadcast_now, is_sent)
            if is_blocked:
                self.assertEqual(parked.sent, 0)
                parked.continue_writing()
            if not is_lost:
                self.assertEqual((self.sock.sent, parked.sent, parked.waiting), (b"headabc", 3, 0))

    def test_its_socket_does_not_block_and_is_told_so_only_if_needed(self) -> None:
        for timeout, told in ((None, [mock.call(False)]), (5.0, [mock.call(False)]), (0.0, [])):
            parked = self.make()
            self.sock.gettimeout.return_value = timeout
            self.sock.takes = [100]
            self.assertTrue(parked.begin(b"head", None))
            self.assertEqual(self.sock.setblocking.mock_calls, told)

    def test_what_its_socket_does_with_an_event(self) -> None:
        for takes, must_check, sent, is_lost in (
            (100, False, 3, False),
            (1, True, 0, False),
            (BlockingIOError, True, 0, False),
            (ConnectionResetError, True, 0, True),
        ):
            parked = self.make()
            self.sock.takes = [takes]
            self.assertIs(parked.deliver(Batch(b"abc", 1)), must_check)
            self.assertEqual((parked.sent, parked.state.is_lost), (sent, is_lost))
            self.assertEqual(parked.is_blocked, must_check and not is_lost)
            self.assertFalse(parked.is_complete)
            if parked.is_blocked:
                self.sock.takes = [100]
                parked.continue_writing()
                self.assertEqual((self.sock.sent, parked.sent), (b"abc", 3))

    def test_a_head_alone_that_waits_is_no_event(self) -> None:
        parked = self.make()
        self.sock.takes = [1]
        self.assertFalse(parked.begin(b"head", None))
        self.assertEqual((parked.waiting, parked.is_blocked), (0, True))

    def test_batches_that_wait_leave_in_few_writes(self) -> None:
        large = Batch(b"x" * 70_000, 1)
        parked = self.blocked(Batch(b"abc", 1), Batch(b"def", 1), takes=1)
        self.sock.takes = [100]
        parked.continue_writing()
        self.assertEqual((self.sock.sent, parked.sent, parked.waiting), (b"abcdef", 6, 0))
        self.assertFalse(parked.is_blocked)
        parked = self.blocked(large, large)
        self.sock.takes = [70_000, 70_000]
        parked.continue_writing()
        self.assertEqual((self.sock.takes, parked.is_blocked, parked.sent), ([], False, 140_000))
        self.assertIsNone(parked._pending, "it takes no memory")
        parked = self.blocked(Batch(b"x" * 65_536, 1), Batch(b"abc", 1))
        self.sock.takes = [65_536, 3]
        parked.continue_writing()
        self.assertEqual((self.sock.takes, parked.is_blocked), ([], False))

    def test_bytes_that_it_has_got_do_not_count(self) -> None:
        parked = self.make()
        for _ in range(3):
            self.sock.takes = [0, 5_000_000]
            parked.deliver(Batch(b"x" * 5_000_000, 1))
            parked.continue_writing()
        self.assertFalse(parked.is_blocked)

    def test_a_socket_that_took_a_part_is_not_asked_again_at_once(self) -> None:
        parked = self.blocked(Batch(b"abc", 1), Batch(b"def", 2))
        for takes, sent, counted, waiting in (
            (2, b"ab", 0, 3),
            (2, b"abcd", 3, 2),
            (BlockingIOError, b"abcd", 3, 2),
            (2, b"abcdef", 6, 0),
        ):
            self.sock.takes = [takes, 0]
            parked.continue_writing()
            self.assertEqual(self.sock.takes, [0])
            self.assertEqual((self.sock.sent, parked.sent, parked.waiting), (sent, counted, waiting))
            self.assertIs(parked.is_blocked, waiting > 0)

    def test_a_socket_that_fails_while_bytes_wait_is_lost(self) -> None:
        parked = self.blocked(Batch(b"abc", 1))
        self.sock.takes = [ConnectionResetError]
        parked.continue_writing()
        self.assertEqual((parked.state.is_lost, parked.is_blocked, parked.is_over), (True, False, True))
        parked = self.blocked(Batch(b"abc", 1))
        parked.lose_connection()
        parked.continue_writing()
        self.assertTrue(parked.state.is_lost)

    def test_more_events_than_it_may_have_wait_for_none(self) -> None:
        parked = self.blocked(Batch(b"abc", 1), Batch(b"def", 2))
        self.assertRaises(queue.Full, parked.deliver, Batch(b"ghi", 1))
        parked.end(EndReason.LEASE, b"bye")
        self.sock.takes = [100]
        parked.continue_writing()
        self.assertEqual((self.sock.sent, parked.is_over), (b"abcdefbye", True))

    def test_its_last_bytes(self) -> None:
        for chunked, last in ((False, b"bye"), (True, b"3\r\nbye\r\n0\r\n\r\n")):
            parked = self.make(chunked=chunked)
            self.sock.takes = [100]
            parked.end(EndReason.LEASE, b"bye")
            parked.end(EndReason.GONE, b"again")
            self.assertEqual((self.sock.sent, parked.end_reason), (last, EndReason.LEASE))
            self.assertTrue(parked.is_over)
        parked = self.make(chunked=True)
        self.sock.takes = [ConnectionResetError]
        parked.end(EndReason.LEASE, b"bye")
        self.assertTrue(parked.state.is_lost)
        parked = self.make()
        parked.end(EndReason.GONE, b"bye")
        self.assertEqual((self.sock.sent, parked.is_over), (b"", True))

    def test_last_bytes_that_wait_are_no_events(self) -> None:
        parked = self.make()
        self.sock.takes = [1]
        parked.end(EndReason.LEASE, b"bye")
        self.assertEqual((parked.waiting, parked.is_blocked), (0, True))

    def test_one_that_is_too_slow_gets_the_batch_that_has_begun_and_the_farewell(self) -> None:
        parked = self.blocked(Batch(b"abc", 1), Batch(b"def", 1), Batch(b"ghi", 1), takes=1)
        parked.end(EndReason.SLOW, b"bye")
        self.assertFalse(parked.is_over)
        self.sock.takes = [100]
        parked.continue_writing()
        self.assertEqual((self.sock.sent, parked.is_over), (b"abcbye", True))

    def test_one_whose_client_has_gone_is_over_though_bytes_wait(self) -> None:
        parked = self.blocked(Batch(b"abc", 1))
        parked.end(EndReason.GONE, b"bye")
        self.assertEqual((parked.is_blocked, parked.is_over), (False, True))

    def test_cut_it_has_nothing_left_to_send(self) -> None:
        parked = self.blocked(Batch(b"abc", 1))
        parked.end(EndReason.LEASE, b"bye")
        parked.cut()
        self.assertEqual((parked.is_blocked, parked.state), (False, State.CUT))
        self.sock.shutdown.assert_called_once_with(socket.SHUT_RDWR)

    def test_a_heartbeat_waits_for_nothing(self) -> None:
        parked = self.blocked(Batch(b"abc", 1))
        self.assertFalse(parked.deliver_heartbeat(Batch(b":", 0)))
        self.sock.takes = [100, 100]
        parked.continue_writing()
        self.assertFalse(parked.deliver_heartbeat(Batch(b":", 0)))
        self.assertEqual(self.sock.sent, b"abc:")

    def test_its_socket_is_given_back_once_and_shut_down_at_a_shutdown(self) -> None:
        for reason, is_shut in ((EndReason.LEASE, False), (EndReason.SHUTDOWN, True)):
            parked = self.make()
            self.sock.takes = [100]
            parked.end(reason, b"bye")
            parked.finish()
            parked.finish()
            self.finished.assert_called_once_with()
            self.assertIs(self.sock.shutdown.called, is_shut)

    def test_it_is_complete_once_it_is_closed(self) -> None:
        parked = self.make()
        self.sock.takes = [100]
        parked.end(EndReason.LEASE, b"bye")
        self.assertFalse(parked.is_complete)
        parked.step(Step.CLOSE)
        self.assertTrue(parked.is_complete)


class DroppedTest(unittest.TestCase):
    """A stream to which no object refers any more, and the places of one that has a thread."""

    def setUp(self) -> None:
        self.hub = Hub(heartbeat=600, max_streams=1)
        self.addCleanup(self.hub.close)

    def stream(self, **environ: Any) -> Any:
        return self.hub.stream({"REQUEST_METHOD": "GET", **environ}, "a").response

    def test_the_pump_closes_those_that_hold_something(self) -> None:
        for name, environ, chunks, closes, expected in (
            ("never begun", {}, 0, False, 0),
            ("begun", {}, 1, False, 1),
            ("closed", {}, 1, True, 0),
            ("reserved", {ENVIRON_KEY: FakeHandover()}, 1, False, 1),
        ):
            with (
                self.subTest(name),
                mock.patch.object(Pump, "close_later", autospec=True) as close_later,
                mock.patch.object(sys, "unraisablehook") as failed,
            ):
                stream = self.stream(**environ)
                for _ in range(chunks):
                    next(stream)
                if closes:
                    stream.close()
                del stream
                self.assertEqual(close_later.call_count, expected)
                failed.assert_not_called()
                for call in close_later.mock_calls:
                    call.args[1]()
                self.assertEqual(self.hub.streams, 0)

    def test_a_replay_that_is_joined_has_nothing_between_its_events(self) -> None:
        ids = [self.hub.publish("a", "x") for _ in range(2)]
        stream = self.stream(HTTP_LAST_EVENT_ID=f"{self.hub.log.epoch}-0")
        stream.joins = True
        events = "".join(f"data: x\nid: {each}\n\n" for each in ids)
        self.assertTrue(next(stream).endswith(b"data: {}\n\n" + events.encode()))
        stream.close()

    def test_events_that_wait_have_nothing_between_them(self) -> None:
        stream = self.stream()
        stream.joins = True
        next(stream)
        with mock.patch.object(ThreadSubscriber, "take", return_value=[Batch(b"a"), Batch(b"b"), Batch(b"c")]):
            self.assertEqual(next(stream), b"abc")
        with mock.patch.object(ThreadSubscriber, "take", return_value=[Batch(b"a")]):
            self.assertEqual(next(stream), b"a")
        stream.close()

    def test_when_it_is_closed_and_full_a_client_is_told_that_it_is_closed(self) -> None:
        other = self.stream()
        next(other)
        self.hub.request_close()
        self.assertIn(b"the hub is closed", next(self.stream()))
        other.close()

    def test_a_server_need_not_wait_for_a_client_whose_stream_a_shutdown_has_ended(self) -> None:
        for shuts_down in (False, True):
            with mock.patch.object(ThreadSubscriber, "shut_down_reading", autospec=True) as shut:
                stream = self.stream()
                next(stream)
                if shuts_down:
                    self.hub.request_close()
                    self.assertIn(b"stream-end", b"".join(stream))
                stream.close()
            self.assertIs(shut.called, shuts_down)

    def test_one_that_has_missed_nothing_needs_no_log(self) -> None:
        registry = Registry(self.hub.log, Pace(retry=5000, heartbeat=None, lease=None))
        self.hub.publish("a", "x")
        registry.begin(self.hub.log.last_sequence())
        subscriber: Any = mock.Mock(cursor=Cursor(self.hub.log, ["a"], None), channels=("a",))
        batch = registry.missed(subscriber)
        assert batch is not None
        self.assertEqual((batch.body, batch.count), (b"", 0))

    def test_the_server_is_told_of_a_stream_and_tells_it_whether_to_join(self) -> None:
        handover = FakeHandover()
        stream = self.stream(**{ENVIRON_KEY: handover})
        self.assertTrue(handover.has_stream)
        self.assertFalse(stream.joins)
        stream.joins = True
        self.assertTrue(stream.joins)
        stream.close()
        stream.joins = True
        self.assertFalse(stream.joins)

    def test_one_that_ended_before_it_was_dropped_holds_nothing(self) -> None:
        with mock.patch.object(Pump, "close_later", autospec=True) as close_later:
            stream = self.stream()
            next(stream)
            self.hub.request_close()
            self.assertIn(b"stream-end", b"".join(stream))
            del stream
        close_later.assert_not_called()

    def test_where_the_server_has_few_threads_one_with_a_thread_counts_among_them(self) -> None:
        for handover, taken in ((None, 0), (FakeHandover(), 1)):
            stream = self.stream(**({} if handover is None else {ENVIRON_KEY: handover}))
            before = process_budget.taken
            next(stream)
            if handover is not None:
                with mock.patch.object(ThreadSubscriber, "take", return_value=[Batch(b"x", parts=[b"x"])]):
                    next(stream)
            self.assertEqual(process_budget.taken - before, taken)
            stream.close()
            self.assertEqual(process_budget.taken, before)


class AudienceTest(unittest.TestCase):
    def test_one_that_is_ahead_gets_the_events_behind_its_position_only(self) -> None:
        log = MemoryLog()
        self.addCleanup(log.close)
        audiences = Audiences(log)
        subscriber: Any = WrappedSubscriber(("a", "b"), 10, mock.Mock(), mock.Mock(), mock.Mock())
        subscriber.after = 2
        audiences.add(subscriber, 0)
        page = [Record(number, channel, None, "x") for number, channel in enumerate("aabcba", 1)]
        ((batch, broadcast, others),) = audiences.deliveries(page)
        self.assertEqual((broadcast, others, batch.count), (None, (subscriber,), 3))
        wires = [f"data: x\nid: {log.event_id(number)}\n\n".encode() for number in (3, 5, 6)]
        self.assertEqual((batch.parts, batch.body), (wires, b"".join(wires)))


class AppTransactionTest(unittest.TestCase):
    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        self.connection.execute("CREATE TABLE t (n)")

    def rows(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM t").fetchone()[0])

    def test_where_each_statement_would_commit_a_new_one_begins_and_ends_with_the_block(self) -> None:
        with transaction_of(self.connection) as is_new:
            self.connection.execute("INSERT INTO t VALUES (1)")
            self.assertTrue(self.connection.in_transaction)
        self.assertEqual((is_new, self.connection.in_transaction, self.rows()), (True, False, 1))
        with self.assertRaises(ZeroDivisionError), transaction_of(self.connection):
            self.connection.execute("INSERT INTO t VALUES (2)")
            raise ZeroDivisionError
        self.assertEqual((self.connection.in_transaction, self.rows()), (False, 1))

    def test_where_python_would_begin_none_a_new_one_begins(self) -> None:
        for value in (True, False):

            class Connection(sqlite3.Connection):
                autocommit = value  # Python 3.12 and newer ones have this

            connection = sqlite3.connect(":memory:", factory=Connection)
            self.addCleanup(connection.close)
            with transaction_of(connection) as is_new:
                self.assertTrue(is_new and connection.in_transaction)
            self.assertFalse(connection.in_transaction)

    def test_the_apps_own_is_left_to_the_app(self) -> None:
        self.connection.execute("BEGIN")
        with transaction_of(self.connection) as is_new:
            self.connection.execute("INSERT INTO t VALUES (1)")
        self.assertEqual((is_new, self.connection.in_transaction), (False, True))
        with self.assertRaises(ZeroDivisionError), transaction_of(self.connection):
            raise ZeroDivisionError
        self.assertTrue(self.connection.in_transaction)
        self.connection.execute("ROLLBACK")
        self.connection.isolation_level = "DEFERRED"
        with transaction_of(self.connection) as is_new:
            self.connection.execute("INSERT INTO t VALUES (1)")
        self.assertEqual((is_new, self.connection.in_transaction), (False, True))


if __name__ == "__main__":
    unittest.main()
