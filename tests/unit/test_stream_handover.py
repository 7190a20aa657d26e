"""A connection on its way from a request's thread to the pump, or to threads that come and go, and back."""

from __future__ import annotations

import contextvars
import io
import socket
import threading
import unittest
from unittest import mock

from gunicorn.config import Config
from gunicorn.http import wsgi
from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.fanout.handover import ENVIRON_KEY
from sse_threaded.fanout.stream_state import EndReason
from sse_threaded.server import exchange as exchange_module
from sse_threaded.server import iteration
from sse_threaded.server.connection import Connection
from sse_threaded.server.exchange import Exchange
from sse_threaded.server.iteration import Progress, advance
from sse_threaded.server.response import Response
from sse_threaded.server.transparent_wrappers import bare_stream
from sse_threaded.stream import EventStream
from tests.support import wait_until
from tests.unit.fake_handover import FakeHandover
from tests.unit.fake_worker import FakeWorker


class HandoverCase(unittest.TestCase):
    def setUp(self):
        self.make_hub()
        self.worker = FakeWorker()
        self.client, self.sock = socket.socketpair()
        self.client.settimeout(10)
        self.addCleanup(self.client.close)
        self.addCleanup(self.sock.close)

    def make_hub(self, **options):
        self.hub = Hub(heartbeat=600, max_streams=1, **options)
        self.addCleanup(self.hub.close)

    def make(self, wrap=lambda chunks: chunks, *, headers=()):
        """The hand-over of one request whose app has answered with a stream."""
        conn = Connection(self.sock, ("192.0.2.1", 1), ("127.0.0.1", 80))
        conn.context = contextvars.copy_context()
        req = mock.Mock(version=(1, 1), method="GET", headers=list(headers))
        req.should_close.return_value = False
        exchange = Exchange(self.worker, req, conn)
        exchange.resp = Response(req, conn, self.worker.cfg)
        environ = {
            **EnvironBuilder("/", multithread=True).get_environ(),
            "wsgi.file_wrapper": wsgi.FileWrapper,
            "gunicorn.socket": self.sock,
            "SERVER_PROTOCOL": "HTTP/1.1",
            ENVIRON_KEY: exchange,
        }
        exchange.environ = environ
        exchange.respiter = wrap(self.hub.stream(environ, "a")(environ, exchange.start_response))
        return exchange

    def received(self, words):
        data = b""
        while words not in data:
            data += self.client.recv(65536)
        return data

    def assert_nothing_sent(self):
        self.client.setblocking(False)
        self.assertRaises(BlockingIOError, self.client.recv, 1)
        self.client.settimeout(10)

    def assert_free(self):
        """The hub's only place is free."""
        wait_until(lambda: self.hub.streams == 0, message="no stream")
        stream = self.hub.stream(EnvironBuilder("/", multithread=True).get_environ(), "a").response
        self.assertIn(b"stream-start", next(stream))
        stream.close()


class StreamHandoverTest(HandoverCase):
    def test_a_bare_stream_goes_to_the_pump_and_comes_back(self):
        exchange = self.make()
        leave = exchange.send()
        self.assert_nothing_sent()
        leave()
        head = self.received(b"data: {}\n\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertIn(b"\r\nConnection: keep-alive\r\n", head)
        self.hub.publish("a", "hello")
        self.received(b"data: hello\n")
        self.assertEqual((self.worker.tasks, self.worker.given_back), ([], []))
        self.assertEqual(self.worker.parked, {exchange.conn})
        self.client.close()
        self.assertFalse(exchange.conn.parked.hear())
        wait_until(lambda: self.worker.tasks, message="the pump to give the connection back")
        self.worker.run_tasks()
        self.assertEqual((self.worker.given_back, self.worker.parked), ([(exchange.conn, False)], set()))
        self.worker.log.access.assert_called_once()
        self.worker.hook.assert_called_once()
        self.assert_free()

    def test_a_wrapped_stream_goes_to_threads_and_comes_back(self):
        exchange = self.make(lambda chunks: (chunk.upper() for chunk in chunks))
        leave = exchange.send()
        leave()
        self.received(b"DATA: {}\n\n\r\n")
        self.assertEqual((self.worker.tasks, self.worker.given_back), ([], []))
        self.hub.publish("a", "hello")
        wait_until(lambda: self.worker.tasks, message="the pump to call a thread")
        self.assert_nothing_sent()
        self.worker.run_tasks()
        self.received(b"DATA: HELLO\n")
        self.client.close()
        wait_until(lambda: self.worker.tasks, message="the pump to call a thread")
        self.worker.run_tasks()
        self.assertEqual(self.worker.given_back, [(exchange.conn, False)])
        self.worker.log.access.assert_called_once()
        self.worker.hook.assert_called_once()
        self.assertEqual(self.worker.warnings, [])
        self.assert_free()

    def test_a_connection_whose_request_has_a_body_is_not_used_again(self):
        exchange = self.make(headers=[("CONTENT-LENGTH", "5")])
        leave = exchange.send()
        leave()
        self.assertIn(b"\r\nConnection: close\r\n", self.received(b"data: {}\n\n\r\n"))

    def test_a_head_that_cannot_be_made_gives_the_place_back(self):
        exchange = self.make()
        exchange.req.should_close.side_effect = ZeroDivisionError
        with self.assertRaises(ZeroDivisionError):
            exchange.send()
        self.assert_nothing_sent()
        self.worker.log.access.assert_called_once()
        self.assert_free()

    def test_without_room_the_whole_body_is_a_refusal(self):
        other = self.hub.stream(EnvironBuilder("/", multithread=True).get_environ(), "a").response
        next(other)
        exchange = self.make()
        self.assertIsNone(exchange.send())
        self.assertIn(b"event: stream-unavailable\n", self.received(b"\r\n0\r\n\r\n"))
        other.close()
        self.assert_free()

    def test_a_stream_that_has_begun_is_not_parked(self):
        def begun(chunks):
            next(chunks)
            return chunks

        exchange = self.make(begun)
        sent = []
        thread = threading.Thread(target=lambda: sent.append(exchange.send()), daemon=True)
        thread.start()
        wait_until(lambda: self.hub.streams == 1, message="the stream")
        self.hub.publish("a", "hello")
        body = self.received(b"data: hello\n")
        self.hub.request_close()
        body += self.received(b"\r\n0\r\n\r\n")
        thread.join(10)
        self.assertEqual(sent, [None])
        self.assertNotIn(b"stream-start", body)
        self.assertIsNone(exchange.wrapped)
        exchange.finish()
        self.worker.hook.assert_called_once()

    def test_a_stream_of_another_request_is_not_parked(self):
        exchange = self.make()
        stream = self.hub.stream(
            {**EnvironBuilder("/", multithread=True).get_environ(), ENVIRON_KEY: FakeHandover()}, "a"
        ).response
        self.assertIsNone(stream.park(exchange, self.sock, chunked=True))
        self.assert_free()


class BareTest(HandoverCase):
    """Which streams go to the pump, and what is kept of them."""

    def ways(self, make):
        """Whether park() was asked, and whether the response could leave its thread where it was iterated."""
        exchange = make()
        found = []

        def note(exchange):
            self.assertTrue(bare_stream(exchange.respiter).joins)
            found.append((exchange.can_resume, next(exchange.chunks)))
            return Progress.ENDED

        with (
            mock.patch.object(EventStream, "park", return_value=None) as park,
            mock.patch.object(exchange_module, "advance", note),
        ):
            self.assertIsNone(exchange.send())
        ((may_leave, first),) = found
        self.assertIn(b"stream-start", first)
        return park.called, may_leave

    def test_only_a_plain_body_is_parked_and_what_it_refuses_stays(self):
        def change(**changes):
            def make():
                exchange = self.make()
                for name, value in changes.items():
                    setattr(exchange.resp if hasattr(exchange.resp, name) else exchange, name, value)
                return exchange

            return make

        for changes, expected in (
            ({}, (True, False)),
            ({"is_encoded": True}, (False, True)),
            ({"response_length": 5}, (False, True)),
            ({"_omits_body": True}, (False, True)),
            ({"status": None}, (False, True)),
        ):
            with self.subTest(changes):
                self.assertEqual(self.ways(change(**changes)), expected)
        # A TLS socket of a class that the pump cannot write to.
        with mock.patch.object(Config, "is_ssl", True), mock.patch.object(exchange_module, "_PARKABLE", ()):
            self.assertEqual(self.ways(self.make), (False, False))

    def test_park_is_told_whether_the_body_has_chunks(self):
        for chunked in (True, False):
            exchange = self.make()
            exchange.resp.chunked = chunked
            with mock.patch.object(EventStream, "park", return_value=b"full") as park:
                self.assertIsNone(exchange.send())
            park.assert_called_once_with(exchange, self.sock, chunked)
            self.received(b"full")

    def test_a_file_is_sent_to_its_end(self):
        exchange = self.make()
        exchange.respiter.close()
        exchange.resp.headers, exchange.resp.chunked = [], True
        file = io.BytesIO(b"contents")
        exchange.respiter = wsgi.FileWrapper(file)
        self.assertIsNone(exchange.send())
        self.assertTrue(self.received(b"\r\n0\r\n\r\n").endswith(b"8\r\ncontents\r\n0\r\n\r\n"))
        self.assertTrue(file.closed)

    def end(self, exchange, leave):
        """The stream ends, and the worker takes the connection back."""
        leave()
        body = self.received(b"\r\n0\r\n\r\n").partition(b"\r\n\r\n")[2]
        wait_until(lambda: self.worker.tasks, message="the pump to give the connection back")
        self.worker.run_tasks()
        ((conn, again),) = self.worker.given_back
        self.worker.given_back.clear()
        self.assertIs(conn, exchange.conn)
        return again, body

    def test_after_its_lease_the_connection_serves_on_without_its_parser(self):
        self.make_hub(lease=0.05)
        exchange = self.make()
        exchange.conn.parser = mock.Mock()
        exchange.conn.parser.unreader.buf.getvalue.return_value = b""
        leave = exchange.send()
        self.assertIsNone(exchange.conn.parser)
        again, body = self.end(exchange, leave)
        self.assertIs(again, True)
        self.assertIsNone(exchange.conn.parked)
        resp = self.worker.log.access.call_args.args[0]
        chunks = body.split(b"\r\n")
        self.assertEqual(resp.sent, sum(map(len, chunks[1::2])))
        self.assertIsNone(exchange.wrapped)

    def test_the_parser_is_kept_where_it_has_bytes_of_the_next_request(self):
        self.make_hub(lease=0.05)
        exchange = self.make()
        exchange.conn.parser = parser = mock.Mock()
        parser.unreader.buf.getvalue.return_value = b"GET"
        again, _ = self.end(exchange, exchange.send())
        self.assertEqual((again, exchange.conn.parser), (True, parser))

    def test_where_nobody_is_told_the_end_the_response_is_not_kept(self):
        self.make_hub(lease=0.05)
        self.worker.tells_ends = False
        exchange = self.make()
        leave = exchange.send()
        self.assertEqual((exchange.req, exchange.environ, exchange.resp), (None, None, None))
        again, _ = self.end(exchange, leave)
        self.assertIs(again, True)
        self.worker.log.access.assert_not_called()
        self.worker.hook.assert_not_called()

    def test_at_a_shutdown_the_connection_is_not_used_again(self):
        exchange = self.make()
        leave = exchange.send()
        self.hub.request_close()
        again, _ = self.end(exchange, leave)
        self.assertIs(again, False)

    def test_an_error_of_the_apps_close_ends_the_connection(self):
        self.make_hub(lease=0.05)
        for error in (ZeroDivisionError, SystemExit):
            exchange = self.make()
            leave = exchange.send()
            exchange.respiter = mock.Mock()
            exchange.respiter.close.side_effect = error
            again, _ = self.end(exchange, leave)
            self.assertIs(again, False)
        self.assertEqual(self.worker.log.exception.call_count, 2)
        self.assertEqual(self.worker.hook.call_count, 2)
        self.assertEqual(self.worker.failures, [])

    def test_an_exit_in_the_last_hook_ends_the_worker_and_the_connection(self):
        self.make_hub(lease=0.05)
        self.worker.hook.side_effect = SystemExit
        exchange = self.make()
        again, _ = self.end(exchange, exchange.send())
        self.assertIs(again, False)
        self.assertEqual([type(error) for error in self.worker.failures], [SystemExit])


class GoOnTest(HandoverCase):
    """What a thread does that asks a wrapped stream for chunks."""

    def setUp(self):
        super().setUp()
        self.exchange = self.make()
        self.exchange.respiter.close()
        self.exchange.respiter = None
        self.exchange.may_reuse = True
        self.wrapped = self.exchange.wrapped = mock.Mock(end_reason=None)
        self.wrapped.state.is_lost = False
        self.wrapped.leave.return_value = False
        self.permit = mock.Mock()
        self.exchange.can_resume = True

    def go_on(self, *steps, leaves=(), permit=True):
        """With the answers of advance() and of leave(): how often each was asked."""
        self.wrapped.leave.side_effect = [*leaves] if leaves else None
        with mock.patch.object(exchange_module, "advance", side_effect=[*steps]) as asked:
            if permit:
                self.exchange._go_on_with_permit(self.permit)
            else:
                self.exchange._go_on(self.wrapped, Progress.WAITING)
        return asked.call_count, self.wrapped.leave.call_count

    def assert_over(self, again):
        self.assertEqual(self.worker.given_back, [(self.exchange.conn, again)])
        self.wrapped.end_response.assert_called_once_with()
        self.assertFalse(self.exchange.can_resume)
        self.worker.hook.assert_called_once()

    def test_to_its_end(self):
        self.assertEqual(self.go_on(Progress.WAITING, Progress.ENDED), (2, 2))
        self.assert_over(True)
        self.permit.give_back.assert_called_once_with()
        self.wrapped.shut_down.assert_not_called()

    def test_without_a_permit(self):
        self.assertEqual(self.go_on(Progress.ENDED, permit=False), (1, 1))
        self.assert_over(True)

    def test_it_leaves(self):
        self.assertEqual(self.go_on(Progress.WAITING, leaves=(False, True)), (1, 2))
        self.assertEqual((self.worker.given_back, self.worker.tasks), ([], []))
        self.permit.give_back.assert_not_called()

    def test_interrupted_it_asks_for_another_turn(self):
        self.assertEqual(self.go_on(Progress.INTERRUPTED), (1, 1))
        self.wrapped.interrupt.assert_called_once_with()
        self.assertEqual((self.worker.given_back, len(self.worker.tasks)), ([], 1))

    def test_its_client_has_gone(self):
        self.wrapped.state.is_lost = True
        self.assertEqual(self.go_on(), (0, 1))
        self.assert_over(False)

    def test_errors(self):
        for error in (OSError, ZeroDivisionError, SystemExit):
            with self.subTest(error.__name__):
                self.setUp()
                self.go_on(error)
                self.assert_over(False)
                self.assertEqual(self.worker.log.exception.called, error is not OSError)

    def test_at_a_shutdown_it_closes(self):
        self.wrapped.end_reason = EndReason.SHUTDOWN
        self.go_on(Progress.ENDED)
        self.assert_over(False)
        self.wrapped.shut_down.assert_called_once_with()

    def test_a_connection_that_may_not_be_used_again(self):
        self.exchange.may_reuse = False
        self.go_on(Progress.ENDED)
        self.assert_over(False)

    def test_a_thread_that_stays_gives_its_permit_to_others_and_is_told_once(self):
        self.exchange.respiter = iter([])
        self.exchange.conn.upload_ended = ended = mock.Mock()
        self.exchange.keep_thread()
        ended.assert_called_once_with()
        self.assertEqual(self.worker.warnings, ["thread"])
        self.assertIn(f" {__name__}.test_a_thread_that_stays", self.worker.words)
        with mock.patch.object(exchange_module, "askers", return_value=""):
            self.exchange.keep_thread()
        self.assertIn("its wrapper (builtins.list_iterator)", self.worker.words)
        self.exchange._permit = self.permit
        self.exchange.keep_thread()
        self.permit.give_back.assert_called_once_with()

    def send(self, progress):
        """Send what is wrapped, on the request's thread."""
        self.exchange.respiter = [b""]
        resp = self.exchange.resp = mock.Mock(wraps=self.exchange.resp)
        with mock.patch.object(exchange_module, "advance", return_value=progress):
            return self.exchange.send(), resp

    def test_one_that_ends_on_its_first_thread(self):
        for is_lost in (False, True):
            self.wrapped.state.is_lost = is_lost
            self.sock.setblocking(False)
            leave, resp = self.send(Progress.ENDED)
            self.assertIsNone(leave)
            self.assertIs(resp.force_close.called, is_lost)
            self.assertTrue(self.sock.getblocking())
        self.assertEqual(self.wrapped.end_response.call_count, 2)
        self.sock.close()
        self.send(Progress.ENDED)

    def test_one_that_leaves_its_first_thread(self):
        leave, _ = self.send(Progress.WAITING)
        self.wrapped.end_response.assert_not_called()
        self.worker.log.access.assert_not_called()
        with mock.patch.object(exchange_module, "advance", return_value=Progress.ENDED):
            leave()
        self.assert_over(True)


class AdvanceTest(unittest.TestCase):
    """How the app's iterable is asked for chunks."""

    def setUp(self):
        self.worker = mock.Mock(has_tasks=False)
        self.worker.permits.waiting = 0
        self.resp = mock.Mock(headers_sent=False, is_encoded=False)
        self.conn = mock.Mock()
        self.resp.sock = self.conn
        self.req = mock.Mock(headers=[])
        self.exchange = Exchange(self.worker, self.req, self.conn, resp=self.resp)
        self.resp.should_close.return_value = False
        self.wrapped = mock.Mock(keeps_thread=False)
        self.wrapped.flush.return_value = True
        self.wrapped.is_idle.return_value = False
        self.wrapped.state.is_lost = False

    def advance(self, *chunks):
        self.exchange.chunks = iter(chunks)
        return advance(self.exchange)

    def written(self):
        found = [call.args[0] for call in self.resp.write.mock_calls]
        self.resp.write.reset_mock()
        return found

    def test_without_a_stream_all_is_written_and_the_connection_left_alone(self):
        self.assertIs(self.advance(b"a", b"b"), Progress.ENDED)
        self.assertEqual(self.written(), [b"a", b"b"])
        self.resp.close.assert_called_once_with()
        self.assertFalse(self.exchange.may_reuse)
        self.assertEqual(self.exchange.thread, threading.get_ident())
        self.assertIs(self.advance(), Progress.ENDED)
        self.resp.close.assert_called_once_with()

    def test_a_stream_on_its_thread_is_expected_before_the_head(self):
        self.exchange.has_stream = True
        for sent, expected in ((True, False), (False, True)):
            self.resp.headers_sent = sent
            self.exchange.has_ended = False
            self.advance(b"a")
            self.assertIs(self.exchange.may_reuse, expected)

    def test_a_wrapped_stream_begins_once(self):
        self.exchange.wrapped = self.wrapped
        self.assertIs(self.advance(b"a", b"b"), Progress.ENDED)
        self.assertEqual(self.written(), [b"a", b"b"])
        self.assertIs(self.resp.sock, self.wrapped)
        self.conn.sock.setblocking.assert_called_once_with(False)
        self.assertTrue(self.exchange.may_reuse)
        self.assertEqual(self.wrapped.flush.call_count, 3)
        self.assertEqual(self.wrapped.is_idle.mock_calls, [mock.call(True)] * 2)
        self.worker.warn_once.assert_not_called()

    def test_one_that_is_encoded_is_warned_of(self):
        self.exchange.wrapped = self.wrapped
        self.resp.is_encoded = True
        self.advance(b"a")
        self.assertEqual(self.worker.warn_once.call_args.args[0], "encoding")
        self.assertIn("Content-Encoding", self.worker.warn_once.call_args.args[1]())

    def test_one_that_keeps_its_thread_writes_on(self):
        self.wrapped.keeps_thread = True
        self.exchange.wrapped = self.wrapped
        self.assertIs(self.advance(b"a", b""), Progress.ENDED)
        self.assertEqual(self.written(), [b"a", b""])
        self.wrapped.flush.assert_not_called()
        self.conn.sock.setblocking.assert_not_called()

    def test_it_waits_for_the_socket_or_for_more(self):
        self.exchange.wrapped = self.wrapped
        self.wrapped.is_idle.side_effect = lambda gave_bytes: not gave_bytes
        self.assertIs(self.advance(b"a", b"", b"c"), Progress.WAITING)
        self.assertEqual(self.written(), [b"a", b""])
        self.wrapped.flush.return_value = False
        self.assertIs(self.advance(b"a", b"b"), Progress.WAITING)
        self.assertEqual(self.written(), [b"a"])
        self.resp.close.assert_not_called()
        self.assertIs(self.advance(), Progress.WAITING, "its last bytes are left")
        self.assertIs(self.advance(), Progress.WAITING)
        self.resp.close.assert_called_once_with()
        self.wrapped.flush.return_value = True
        self.assertIs(self.advance(), Progress.ENDED)

    def test_one_whose_client_has_gone_is_over(self):
        self.exchange.wrapped = self.wrapped
        self.wrapped.state.is_lost = True
        self.assertIs(self.advance(b"a", b"b"), Progress.ENDED)
        self.assertEqual(self.written(), [b"a"])
        self.resp.close.assert_not_called()

    def test_it_is_interrupted_after_its_time_if_others_wait(self):
        self.exchange.wrapped = self.wrapped
        for others, waiting, seconds, written in (
            (False, 0, 1.0, 3),
            (True, 0, 0.015, 2),
            (False, 1, 0.015, 2),
            (True, 0, 0.0, 3),
            (True, 0, 0.021, 1),
            (True, 0, 0.02, 2),
            (True, 0, 0.006, 3),
        ):
            with self.subTest(others=others, waiting=waiting, seconds=seconds):
                times = iter(seconds * number for number in range(10))
                self.worker.has_tasks, self.worker.permits.waiting = others, waiting
                with mock.patch.object(iteration, "time", mock.Mock(monotonic=lambda: next(times))):  # noqa: B023
                    progress = self.advance(b"a", b"b", b"c")
                count = len(self.written())
                self.assertIs(progress, Progress.ENDED if count == 3 else Progress.INTERRUPTED)
                self.assertEqual(count, written)

    def test_the_chunks_before_a_failure_leave(self):
        def failing():
            yield b"a"
            raise ZeroDivisionError

        for wrapped in (None, self.wrapped):
            self.exchange.wrapped = wrapped
            self.exchange.chunks = failing()
            self.assertRaises(ZeroDivisionError, advance, self.exchange)
        self.assertEqual(self.wrapped.flush.call_count, 2)

    def test_who_asks_is_named_the_nearest_first(self):
        found = []

        def inner():
            found.append(iteration.askers())
            yield b""

        def outer():
            yield from inner()

        self.advance(*())
        self.exchange.chunks = outer()
        advance(self.exchange)
        first, second = found[0].split("; ")
        self.assertIn(".inner, line", first)
        self.assertIn(".outer, line", second)


if __name__ == "__main__":
    unittest.main()
