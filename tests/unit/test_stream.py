"""Streams over Werkzeug's threaded server: the bytes, resuming, and every way a stream ends."""

import contextlib
import errno
import gc
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import unittest
from functools import partial
from unittest import mock

from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from sse_threaded import HistoryGone, Hub, HubClosed, InvalidEvent, LogUnavailable, Retention
from sse_threaded.fanout import cursor as replay
from sse_threaded.fanout.audience import Audience
from sse_threaded.fanout.handover import ENVIRON_KEY
from sse_threaded.fanout.lifecycle import hubs
from sse_threaded.fanout.log_reader import LogReader
from sse_threaded.fanout.pump import Pump
from sse_threaded.fanout.stream_state import EndReason
from sse_threaded.fanout.thread_subscriber import ThreadSubscriber
from sse_threaded.fanout.timers import Timers
from sse_threaded.protocol.decoder import EventStreamDecoder
from sse_threaded.testing import EventStreamClient, LiveServer, ResumingClient, StreamEnded, request
from sse_threaded.throttled_log import ThrottledLog
from tests.support import (
    FAREWELL,
    UNAVAILABLE,
    enter,
    position,
    preface,
    sqlite_url,
    temporary_directory,
    wait_until,
)
from tests.unit.fake_handover import FakeHandover


def make_environ(path="/"):
    """A WSGI environ of a threaded server, without a socket."""
    return {**EnvironBuilder(path, multithread=True).get_environ(), "werkzeug.socket": None}


def make_app(hub):
    """``GET /a,b`` streams the channels a and b."""

    @Request.application
    def app(web):
        return hub.stream(web, web.path.strip("/").split(","))

    return app


def pump_threads():
    """The pumps' threads that run now."""
    return {thread for thread in threading.enumerate() if thread.name == "sse_threaded pump"}


class StreamTest(unittest.TestCase):
    def serve(self, url="memory://", **settings):
        self.hub = Hub(url, **settings)
        self.addCleanup(self.hub.close)
        self.url = enter(self, LiveServer(make_app(self.hub))).url
        return self.hub

    def connect(self, path="/a", **options):
        client = EventStreamClient(self.url + path, **options)
        client.open()
        self.addCleanup(client.close)
        return client

    def ready(self, path="/a", **options):
        """A client whose stream has begun: what is published from here on is live."""
        client = self.connect(path, **options)
        client.wait_for(lambda: b"id: " in client.raw, what="the preface")
        return client


class PrefaceTest(StreamTest):
    def test_it_begins_with_the_reconnection_time_and_its_place(self):
        hub = self.serve()
        hub.publish("a", "before")
        client = self.ready()
        self.assertEqual(client.raw, preface(f"{hub.log.epoch}-1"))
        self.assertEqual(client.last_event_id, f"{hub.log.epoch}-1")

    def test_the_headers(self):
        self.serve()
        client = self.ready()
        self.assertEqual(client.status, 200)
        self.assertEqual(client.headers["Content-Type"], "text/event-stream; charset=utf-8")
        self.assertEqual(client.headers["Cache-Control"], "no-cache, no-transform")
        self.assertEqual(client.headers["X-Accel-Buffering"], "no")
        self.assertEqual(client.headers["Vary"], "Accept")

    def test_the_library_sets_no_hop_by_hop_header(self):
        hub = self.serve()
        response = hub.stream(make_environ("/a"), "a")
        hop_by_hop = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
        self.assertFalse(hop_by_hop & {name.lower() for name, _ in response.headers})
        self.assertNotIn("Content-Length", response.headers)

    def test_head_answers_and_holds_nothing(self):
        before = pump_threads()
        hub = self.serve()
        for accept in ("text/event-stream", "application/json"):
            reply = request("HEAD", self.url + "/a", headers={"Accept": accept})
            self.assertEqual((reply.status, reply.body), (200, b""))
            self.assertTrue(reply.headers["Content-Type"].startswith(accept))
            self.assertNotIn("Content-Length", reply.headers)
        self.assertEqual(hub.streams, 0)
        self.assertLessEqual(pump_threads(), before)

    def test_a_response_that_is_never_sent_holds_nothing(self):
        hub = self.serve(max_streams=1)
        for _ in range(3):
            hub.stream(make_environ("/a"), "a")
            hub.stream(make_environ("/a"), "a").close()
        self.assertEqual(hub.streams, 0)
        self.ready()

    def test_accept_decides_between_a_stream_and_a_poll(self):
        self.serve()
        stream, poll = "text/event-stream; charset=utf-8", "application/json"
        for accept, kind in (
            ("*/*", stream),
            (None, stream),
            ("text/event-stream", stream),
            ("text/html,application/xhtml+xml,*/*;q=0.8", stream),
            ("application/json", poll),
            ("application/json, text/event-stream;q=0.5", poll),
            ("text/event-stream, application/json", stream),
            ("text/event-stream;charset=utf-8", stream),
            ("application/json; charset=utf-8", poll),
        ):
            with self.subTest(accept=accept):
                headers = {} if accept is None else {"Accept": accept}
                reply = request("HEAD", self.url + "/a", headers=headers)
                self.assertEqual((reply.status, reply.headers["Content-Type"]), (200, kind))
        reply = request("GET", self.url + "/a", headers={"Accept": "image/png"})
        self.assertEqual((reply.status, reply.headers["Content-Type"]), (406, "application/problem+json"))
        reply = request("POST", self.url + "/a", json={})
        self.assertEqual((reply.status, reply.headers["Allow"]), (405, "GET, HEAD"))

    def test_requests_of_other_frameworks_and_a_bare_environ_will_do(self):
        hub = self.serve()
        environ = make_environ("/a")
        for web in (environ, mock.Mock(environ=environ, spec=["environ"])):
            self.assertEqual(hub.stream(web, "a").mimetype, "text/event-stream")

    def test_an_invalid_channel_is_refused(self):
        hub = self.serve()
        environ = make_environ("/a")
        for channels in ((), "", ["a", ""], ["a", 5], "c" * 256):
            with self.subTest(channels=channels):
                self.assertRaises(InvalidEvent, hub.stream, environ, channels)


class LiveTest(StreamTest):
    def test_events_are_streamed_to_the_byte(self):
        hub = self.serve()
        client = self.ready()
        begin = len(client.raw)
        hub.publish("a", {"type": "x", "title": "ü"})
        hub.publish("b", "another channel")
        hub.publish("a", "two\nlines", "named")
        client.events(2)
        epoch = hub.log.epoch
        expected = f'data: {{"type":"x","title":"ü"}}\nid: {epoch}-1\n\n'
        expected += f"event: named\ndata: two\ndata: lines\nid: {epoch}-3\n\n"
        self.assertEqual(client.raw[begin:], expected.encode())

    def test_several_channels_share_one_stream_and_one_order(self):
        hub = self.serve()
        client = self.ready("/a,b,a")
        for number in range(6):
            hub.publish("abc"[number % 3], str(number))
        self.assertEqual([event.data for event in client.events(4)], ["0", "1", "3", "4"])

    def test_everything_from_the_call_on_is_in_the_stream(self):
        hub = self.serve()

        @Request.application
        def app(web):
            response = hub.stream(web, "a")
            hub.publish("a", "joined")
            return response

        with LiveServer(app) as server, EventStreamClient(server.url) as client:
            self.assertEqual(client.next_event().data, "joined")

    def test_each_events_bytes_are_made_once(self):
        hub = self.serve()
        clients = [self.ready() for _ in range(8)]
        with mock.patch("sse_threaded.fanout.audience.encode", wraps=replay.encode) as encode:
            for number in range(5):
                hub.publish("a", str(number))
            for client in clients:
                self.assertEqual([event.data for event in client.events(5)], list("01234"))
        self.assertEqual(encode.call_count, 5)

    def test_events_that_wait_leave_in_one_write(self):
        hub = self.serve()
        environ = make_environ("/a")
        for joins in (True, False):
            with self.subTest(joins=joins):
                body = hub.stream(environ, "a").response
                self.addCleanup(body.close)
                body.joins = joins  # a server that iterates the stream itself says so
                next(body)
                with hub.log.transaction() as transaction:
                    for number in range(50):
                        transaction.append("a", str(number))
                subscriber = body.subscriber
                wait_until(lambda s=subscriber: s.waiting == 50, message="the pump to hand the events out")
                self.assertEqual(next(body).count(b"data: "), 50 if joins else 1)

    def test_a_heartbeat_is_a_comment(self):
        self.serve(heartbeat=0.05)
        client = self.ready()
        client.wait_for(lambda: client.comments >= 3, what="three heartbeats")
        self.assertIn(b": heartbeat\n: heartbeat\n", client.raw)
        self.assertFalse(client.has_events())

    def test_there_is_one_pump_thread_and_it_starts_with_the_first_stream(self):
        hub = self.serve()
        hub.publish("a", "x")
        before = pump_threads()
        for _ in range(4):
            self.ready()
        self.assertEqual(len(pump_threads() - before), 1)


class ResumeTest(StreamTest):
    def test_events_after_the_last_event_id_are_replayed_and_then_it_is_live(self):
        hub = self.serve()
        ids = [hub.publish("ab"[number % 2], str(number)) for number in range(10)]
        for options in (
            {"path": "/a", "last_event_id": ids[3]},
            {"path": f"/a?lastEventId={ids[3]}"},
            {"path": f"/a?lastEventId={ids[8]}", "last_event_id": ids[3]},
        ):
            with self.subTest(**options):
                client = self.connect(**options)
                self.assertEqual([event.last_event_id for event in client.events(3)], [ids[4], ids[6], ids[8]])
        live = hub.publish("a", "live")
        self.assertEqual(client.next_event().last_event_id, live)

    def test_an_empty_last_event_id_counts_as_missing(self):
        hub = self.serve()
        hub.publish("a", "before")
        client = self.ready(last_event_id="")
        hub.publish("a", "after")
        self.assertEqual(client.next_event().data, "after")

    def test_a_client_that_was_cut_off_before_its_first_event_misses_nothing(self):
        hub = self.serve()
        client = self.ready()
        client.close()
        missed = hub.publish("a", "while away")
        self.assertEqual(self.connect(last_event_id=client.last_event_id).next_event().last_event_id, missed)

    def test_an_id_that_cannot_be_resumed_gets_a_reset_and_then_it_is_live(self):
        hub = self.serve(retention=Retention(count=5, age=None))
        first = hub.publish("a", "x")
        for _ in range(50):
            hub.publish("a", "x")
        epoch = hub.log.epoch
        other = "aaaaaa" if epoch != "aaaaaa" else "bbbbbb"
        for event_id, reason in (
            (first, "expired"),
            (f"{other}-1", "epoch"),
            (f"{epoch}-1000", "beyond"),
            ("rubbish", "malformed"),
            ("\xff\xfe", "malformed"),
        ):
            with self.subTest(reason=reason):
                client = self.connect(last_event_id=event_id)
                self.assertEqual(client.status, 200)
                reset = client.next_event()
                before = client.raw.partition(b"event: reset")[0].decode()
                self.assertNotIn(reset.last_event_id, before, "an id before the reset would hide it")
                self.assertEqual((reset.event, json.loads(reset.data)), ("reset", {"reason": reason}))
                self.assertEqual(reset.last_event_id, hub.log.last_event_id())
                live = hub.publish("a", "live")
                self.assertEqual(client.next_event().last_event_id, live)

    def test_a_long_replay_is_paged_and_complete(self):
        hub = self.serve(queue_size=10)
        with hub.log.transaction() as transaction:
            for number in range(3000):
                transaction.append("a", str(number))
        client = self.connect(last_event_id=f"{hub.log.epoch}-0")
        self.assertEqual([int(event.data) for event in client.events(3000)], list(range(3000)))

    def test_events_trimmed_in_the_midst_of_a_replay_are_a_reset_and_no_gap(self):
        hub = self.serve(retention=Retention(count=1000, age=None))
        with hub.log.transaction() as transaction:
            for number in range(1000):
                transaction.append("a", str(number))
        body = hub.stream(make_environ(f"/?lastEventId={hub.log.epoch}-0"), "a").response
        self.addCleanup(body.close)
        body.joins = True
        self.assertIn(b"data: 0\n", next(body))
        with hub.log.transaction() as transaction:
            for _ in range(900):
                transaction.append("a", "later")
        self.assertIn(b'event: reset\ndata: {"reason":"expired"}', next(body))

    def test_events_that_come_while_replay_meets_live_come_once(self):
        hub = self.serve()
        ids = [hub.publish("a", "first")]
        attach = Pump.attach

        def publish(data):
            ids.append(hub.publish("a", data))
            wait_until(lambda: position(hub) == len(ids), message="the pump to hand it out")

        def attach_in_between(pump, subscriber, after):
            publish("after the last page, before it is attached")
            upto = attach(pump, subscriber, after)
            publish("in its queue, before it has read what came before")
            return upto

        with mock.patch.object(Pump, "attach", attach_in_between):
            client = self.connect(last_event_id=ids[0])
            client.wait_for(lambda: b"in its queue" in client.raw)
        publish("live")
        self.assertEqual([event.last_event_id for event in client.events(3)], ids[1:])

    def test_replay_meets_live_without_gap_or_double_while_events_pour_in(self):
        for url in ("memory://", sqlite_url(temporary_directory(self)) + "?synchronous=normal"):
            with self.subTest(url=url[:6]):
                self.pour(self.serve(url, retention=Retention(count=None)))

    def pour(self, hub):
        stop = threading.Event()
        published = []

        def publish():
            while not stop.is_set():
                published.append(hub.publish("ab"[len(published) % 2], "x"))

        publisher = threading.Thread(target=publish)
        publisher.start()
        clients = {}
        try:
            for start in (0, 1, 50, 200):
                wait_until(lambda least=start + 100: len(published) > least, message="events")
                event_id = f"{hub.log.epoch}-{start}"
                clients[start] = ResumingClient(self.url + "/a,b", last_event_id=event_id, retry_factor=0.001)
                clients[start].start()
                self.addCleanup(clients[start].stop)
            wait_until(lambda: all(client.events for client in clients.values()), message="first events")
            goal = len(published) + 300
            wait_until(lambda: len(published) > goal, timeout=60, message="more events")
        finally:
            stop.set()
            publisher.join()
        for start, client in clients.items():
            client.wait_for(lambda c=client: c.ids[-1:] == published[-1:], 60, "the last event")
            self.assertEqual(client.ids, published[start:])
            self.assertEqual(client.resets, [])

    def test_several_channels_while_another_process_publishes(self):
        directory = temporary_directory(self)
        hub = self.serve(sqlite_url(directory) + "?synchronous=normal", retention=Retention(count=None))
        code = """
import sys
from sse_threaded import Hub
hub = Hub(sys.argv[1])
for number in range(2000):
    hub.publish("abc"[number % 3], "x")
"""
        first = f"{hub.log.epoch}-0"
        with subprocess.Popen([sys.executable, "-c", code, hub.url]) as publisher:
            clients = [
                ResumingClient(self.url + path, last_event_id=first, retry_factor=0.001).start()
                for path in ("/a,b,c", "/a,c", "/b")
            ]
            for client in clients:
                self.addCleanup(client.stop)
            # Long polls go by pages only, and so meet more of the moments between two reads.
            polled, last = [], first
            while publisher.poll() is None or last != hub.log.last_event_id():
                query = f"/a,b,c?wait=0.2&lastEventId={last}"
                body = json.loads(request("GET", self.url + query, headers={"Accept": "application/json"}).body)
                polled += [event["id"] for event in body["events"]]
                last = body["lastEventId"]
        ids = [f"{hub.log.epoch}-{number}" for number in range(1, 2001)]
        self.assertEqual(polled, ids)
        wanted = [ids, [i for n, i in enumerate(ids) if n % 3 != 1], ids[1::3]]
        for client, expected in zip(clients, wanted, strict=True):
            client.wait_for(lambda c=client, e=expected: len(c.ids) >= len(e), 60, "the last event")
            self.assertEqual(client.ids, expected)


class EndTest(StreamTest):
    def test_a_hang_up_is_noticed_without_a_write(self):
        hub = self.serve(heartbeat=None)
        for leave in ("close", "abort"):
            with self.subTest(leave=leave):
                client = self.ready()
                self.assertEqual(hub.streams, 1)
                getattr(client, leave)()
                wait_until(lambda: hub.streams == 0, message="the hang-up to be noticed")

    def test_a_client_that_goes_on_talking_is_let_talk(self):
        hub = self.serve()
        client = self.ready()
        client._socket.sendall(b"GET /pipelined HTTP/1.1\r\n")
        hub.publish("a", "x")
        self.assertEqual(client.next_event().data, "x")

    def test_a_lease_ends_the_stream_and_the_client_resumes(self):
        hub = self.serve(lease=0.2)
        client = self.ready()
        client.wait_for_end()
        self.assertTrue(client.complete)
        self.assertRegex(client.raw, FAREWELL + rb"\Z")
        self.assertLessEqual(client.retry, 1000)
        wait_until(lambda: hub.streams == 0)
        with ResumingClient(self.url + "/a", retry_factor=0.01) as client:
            client.wait_for_connections(1)
            ids = []
            while client.connections < 4:
                ids.append(hub.publish("a", "x"))
                client.wait_for(lambda: client.ids[-1:] == ids[-1:])
            self.assertEqual(client.ids, ids)

    def test_leases_and_first_heartbeats_are_drawn_at_random(self):
        begun = time.monotonic()
        with Hub(lease=1000, heartbeat=100) as hub, mock.patch.object(Timers, "add") as add:
            bodies = [hub.stream(make_environ("/"), "a").response for _ in range(50)]
            for body in bodies:
                next(body)
            passed = time.monotonic() - begun
            beats = [call.args[0] - begun for call in add.call_args_list]
            leases = [call.args[1].deadline - begun for call in add.call_args_list]
            for body in bodies:
                body.close()
        for times, least, most in ((leases, 800, 1000), (beats, 50, 100)):
            self.assertEqual(len(times), 50)
            self.assertTrue(least <= min(times) <= max(times) <= most + passed, times)
            self.assertGreater(max(times) - min(times), (most - least) / 4 + passed)

    def test_farewells_are_drawn_at_random(self):
        self.serve(lease=0.2)
        retries = set()
        for client in [self.ready() for _ in range(12)]:
            client.wait_for_end()
            retries.add(client.retry)
        self.assertGreater(len(retries), 3)

    def test_close_says_farewell_to_all_and_ends_them(self):
        hub = self.serve()
        clients = [self.ready() for _ in range(5)]
        last = hub.publish("a", "last")
        hub.close()
        for client in clients:
            client.wait_for_end()
            self.assertTrue(client.complete)
            self.assertEqual(client.last_event_id, last)
            self.assertTrue(1000 <= client.retry <= 5000, client.retry)
        self.assertEqual(hub.streams, 0)
        client = self.connect()
        client.wait_for_end()
        self.assertEqual(client.status, 200)
        self.assertRegex(client.raw, rb"\A" + UNAVAILABLE + rb": the hub is closed")

    def test_over_the_budget_a_client_is_told_to_come_back(self):
        hub = self.serve(max_streams=2)
        first, _ = self.ready(), self.ready()
        for _ in range(3):
            client = self.connect()
            client.wait_for_end()
            self.assertEqual(client.status, 200)
            self.assertEqual(client.headers["Content-Type"], first.headers["Content-Type"])
            self.assertRegex(
                client.raw, rb"\A" + UNAVAILABLE + rb": all 2 streams of this process are taken; come"
            )
            self.assertTrue(2000 <= client.retry <= 10000, client.retry)
            self.assertEqual(hub.streams, 2)
        first.close()
        wait_until(lambda: hub.streams == 1)
        self.ready()

    def test_a_slow_client_is_cut_off_the_others_are_not_and_it_resumes_without_loss(self):
        hub = self.serve(queue_size=20)
        slow = self.ready(receive_buffer=4096)
        with (
            ResumingClient(self.url + "/a", retry_factor=0.001) as fast,
            self.assertLogs("sse_threaded.fanout", "INFO") as logs,
        ):
            fast.wait_for_connections(1)
            wait_until(lambda: hub.streams == 2)
            ids = []
            while hub.streams == 2 and not logs.output and len(ids) < 5000:
                ids.append(hub.publish("a", "x" * 20_000))
                fast.wait_for(lambda: fast.ids[-1:] == ids[-1:], 60)
            self.assertIn("cut off as too slow, to resume by replay: 1 client(s)", logs.output[0])
            self.assertEqual(fast.connections, 1)
        got = []
        try:
            while True:
                got.append(slow.next_event().last_event_id)
        except StreamEnded:
            pass
        self.assertLess(len(got), len(ids))
        self.assertEqual(got, ids[: len(got)])
        again = self.connect(last_event_id=slow.last_event_id)
        self.assertEqual([event.last_event_id for event in again.events(len(ids) - len(got))], ids[len(got) :])

    def test_the_events_that_wait_are_bounded_in_bytes_too(self):
        with mock.patch("sse_threaded.fanout.subscriber.WAITING_BYTES", 100_000):
            hub = self.serve()
            body = hub.stream(make_environ("/a"), "a").response
            self.addCleanup(body.close)
            next(body)
            wait_until(
                lambda: hub.publish("a", "x" * 50_000) and body.subscriber.end_reason is EndReason.SLOW,
                message="the cut",
            )
            self.assertLess(body.subscriber.waiting, 50)

    def test_a_reader_that_stalls_for_good_gives_its_thread_back(self):
        subscribers, admit = [], Pump.admit

        def noting(pump, subscriber, **options):
            subscribers.append(subscriber)
            admit(pump, subscriber, **options)

        with mock.patch("sse_threaded.hub.Pump", partial(Pump, grace=0.2)):
            hub = self.serve(queue_size=5, heartbeat=None)
        with mock.patch.object(Pump, "admit", noting):
            self.ready(receive_buffer=4096)
        (subscriber,) = subscribers
        with self.assertLogs("sse_threaded.fanout", "INFO") as logs:
            # More than the kernel keeps for it, so that its thread is stuck in the send; then some to wait.
            subscriber.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for data in ("x" * 1_000_000, *"xxxxxx"):
                event_id = hub.publish("a", data)
                wait_until(lambda i=event_id: position(hub) == hub.log.sequence_of(i))
                if len(data) > 1:
                    wait_until(lambda: subscriber.waiting == 0, message="the thread to take it")
            wait_until(lambda: hub.streams == 0, message="the stalled stream to be cut")
            wait_until(lambda: len(logs.output) >= 2, message="the log lines")
        self.assertIn("cut off as too slow, to resume by replay: 1 client(s)", logs.output[0])
        self.assertIn("cut the connection of a client that does not read (slow)", logs.output[1])


class BrokenLogTest(StreamTest):
    def break_log(self, hub, *methods):
        failing = mock.Mock(side_effect=LogUnavailable("x://", "cut off"))
        return mock.patch.multiple(hub.log, **dict.fromkeys(methods, failing))

    def test_streams_stay_open_while_the_log_cannot_be_read_and_then_have_everything(self):
        hub = self.serve(heartbeat=0.05)
        client = self.ready()
        with self.assertLogs("sse_threaded.fanout", "WARNING") as logs:
            with self.break_log(hub, "read"):
                missed = hub.publish("a", "written")
                wait_until(lambda: logs.output, message="the error line")
                beats = client.comments
                client.wait_for(lambda: client.comments > beats + 2, what="heartbeats")
            self.assertEqual(client.next_event().last_event_id, missed)
        self.assertEqual(len(logs.output), 2, "one line when it fails, one when it is back")

    def test_why_a_stream_or_a_poll_cannot_begin_is_logged_once_a_while(self):
        hub = self.serve()
        for module, methods, environ in (
            ("stream", ("last_sequence",), make_environ("/a")),
            ("stream", ("read",), make_environ(f"/a?lastEventId={hub.log.epoch}-0")),
            ("longpoll", ("read",), make_environ("/a") | {"HTTP_ACCEPT": "application/json"}),
        ):
            name = f"sse_threaded.{module}"
            throttled = mock.patch(f"{name}._throttled", ThrottledLog(logging.getLogger(name)))
            broken = self.break_log(hub, *methods)
            with self.subTest(module), throttled, self.assertLogs(name, "WARNING") as logs, broken:
                for _ in range(3):
                    b"".join(hub.stream(dict(environ), "a").response)
                (line,) = logs.output
                self.assertIn("cut off", line)

    def test_a_stream_that_cannot_begin_is_told_to_come_back(self):
        hub = self.serve()
        for methods in (("last_sequence",), ("read",)):
            with self.subTest(methods=methods), self.break_log(hub, *methods):
                client = self.connect()
                client.wait_for_end()
                self.assertEqual(client.status, 200)
                self.assertRegex(client.raw, rb"\A" + UNAVAILABLE + rb": the log cannot be read")
                wait_until(lambda: hub.streams == 0)

    def test_a_pump_that_is_behind_and_cannot_look_where_to_go_on_ends_its_streams_later(self):
        hub = self.serve()
        client = self.ready()
        read, last = hub.log.read, hub.log.last_sequence
        calls = []

        def gone(after, **options):
            calls.append("read")
            if not options and len(calls) == 1:
                raise HistoryGone("epoch")
            return read(after, **options)

        def away():
            calls.append("last")
            if calls.count("last") < 3:
                raise LogUnavailable("x://", "cut off")
            return last()

        with (
            mock.patch.object(hub.log, "read", gone),
            mock.patch.object(hub.log, "last_sequence", away),
            self.assertLogs("sse_threaded.fanout"),
        ):
            hub.log.ring()
            client.wait_for_end(30)
        self.assertEqual(calls.count("last"), 3)

    def test_a_log_made_anew_in_the_midst_of_a_replay_gives_no_id_of_both(self):
        hub = self.serve()
        cursor = replay.Cursor(hub.log, ["a"], hub.publish("a", "x"))
        hub.log._epoch = "aaaaaa"
        self.assertRaises(LogUnavailable, cursor.read, 1)
        cursor.read()
        self.assertEqual((cursor.event_id, cursor.reset), ("aaaaaa-1", "epoch"))

    def test_live_events_of_a_log_that_was_made_anew_get_no_id_of_the_old_one(self):
        hub = self.serve()
        client = self.ready()
        hub.log._epoch = "aaaaaa"
        hub.publish("a", "x")
        client.wait_for_end(30)
        self.assertEqual(client.pending(), [])

    def test_a_log_that_cannot_be_read_is_read_again_after_a_while(self):
        log = mock.Mock(poll_interval=None, read=mock.Mock(side_effect=LogUnavailable("x://", "cut off")))
        reader = LogReader(log, mock.Mock(position=0), mock.Mock(), first_retry=3.0)
        with self.assertLogs("sse_threaded.fanout", "ERROR"):
            for seconds in (3.0, 5.0):  # twice as long each time, and five seconds at most
                before = time.monotonic()
                reader.read(was_rung=True, is_closing=False)
                self.assertGreaterEqual(reader.due, before + seconds)
                self.assertLessEqual(reader.due, time.monotonic() + seconds)

    def test_a_stream_that_attaches_while_the_pump_is_found_behind_misses_nothing(self):
        hub = self.serve(sqlite_url(temporary_directory(self)), retention=Retention(count=1, age=None))
        living = self.ready()
        reading, go_on = threading.Event(), threading.Event()
        read = hub.log.read

        def slow_read(after, **options):
            if threading.current_thread().name == "sse_threaded pump":
                reading.set()
                go_on.wait(10)
            return read(after, **options)

        with mock.patch.object(hub.log, "read", slow_read):
            hub.publish("a", "1")
            self.assertTrue(reading.wait(10))
            ids = [hub.publish("a", str(number)) for number in range(2, 5)]
            hub.log.trim()
            joining = self.ready(last_event_id=ids[-1])
            go_on.set()
            living.wait_for_end()
            ids.append(hub.publish("a", "5"))
            seen = []
            try:
                while ids[-1] not in seen:
                    seen.append(joining.next_event().last_event_id)
            except StreamEnded:
                again = self.connect(last_event_id=joining.last_event_id)
                seen.append(again.next_event().last_event_id)
        self.assertEqual(seen, ids[-1:])

    def test_an_invalid_row_of_another_program_is_an_error_and_no_injection(self):
        directory = temporary_directory(self)
        hub = self.serve(sqlite_url(directory))
        client = self.ready()
        insert = "INSERT INTO sse_events (channel, event, data, created) VALUES ('a', ?, ?, 0)"
        for row in (("two\nlines", "x"), (None, b"bytes")):
            with self.subTest(row=row), self.assertLogs("sse_threaded", "ERROR") as logs:
                with hub.log.transaction() as transaction:
                    transaction.connection.execute(insert, row)
                hub.log.ring()
                wait_until(lambda logs=logs: logs.output, message="the error line")
                late = self.connect(last_event_id=f"{hub.log.epoch}-0")
                late.wait_for_end()
            self.assertIn("delete or mend that row", logs.output[0])
            self.assertIn(b"come back", late.raw)
            with hub.log.transaction() as transaction:
                transaction.connection.execute("DELETE FROM sse_events")
            event_id = hub.publish("a", "good")
            self.assertEqual(client.next_event().last_event_id, event_id)

    def test_publish_raises_and_health_too(self):
        hub = self.serve()
        with self.break_log(hub, "last_sequence"):
            self.assertRaises(LogUnavailable, hub.health)
        self.assertEqual(hub.health()["streams"], 0)

    def test_a_defect_in_the_pump_ends_streams_instead_of_hanging_them(self):
        hub = self.serve()
        client = self.ready()
        defect = mock.patch("sse_threaded.fanout.audience.encode", side_effect=RuntimeError("defect"))
        with self.assertLogs("sse_threaded.fanout", "ERROR"), defect:
            hub.publish("a", "x")
            client.wait_for_end()
            self.assertTrue(client.complete)
        again = self.connect(last_event_id=client.last_event_id)
        self.assertEqual(again.next_event(timeout=30).data, "x", "the pump goes on when it can")

    def test_where_the_system_has_nothing_for_the_pump_the_client_is_to_come_back_and_is_served_then(self):
        hub = self.serve()
        no_thread = mock.patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread"))
        full = OSError(errno.EMFILE, "Too many open files")
        no_descriptor = mock.patch.object(hub.log, "open_doorbell", side_effect=full)
        for lack, words in ((no_thread, b"no more threads"), (no_descriptor, b"Too many open files")):
            for environ in (make_environ("/a"), {**make_environ("/a"), ENVIRON_KEY: FakeHandover()}):
                with self.subTest(words=words, parked=ENVIRON_KEY in environ):
                    body = hub.stream(environ, "a").response
                    with lack:
                        self.assertRegex(b"".join(body), rb"\A" + UNAVAILABLE + rb": .*%b.*\n\Z" % words)
                    body.close()
        self.assertEqual(hub.streams, 0)
        client = self.ready()
        hub.publish("a", "x")
        self.assertEqual(client.next_event().data, "x")

    def test_an_interrupt_at_the_start_of_the_pump_leaves_neither_none_nor_two(self):
        start = threading.Thread.start

        def interrupted_before(thread):
            raise KeyboardInterrupt

        def interrupted_behind(thread):
            start(thread)
            raise KeyboardInterrupt

        for interrupted in (interrupted_before, interrupted_behind):
            with self.subTest(interrupted=interrupted.__name__):
                hub = self.serve()
                before = pump_threads()
                for _ in range(2):
                    body = hub.stream(make_environ("/a"), "a").response
                    with mock.patch("threading.Thread.start", interrupted), contextlib.suppress(KeyboardInterrupt):
                        next(body)
                    body.close()
                client = self.ready()
                hub.publish("a", "x")
                hub.publish("a", "y")
                self.assertEqual([client.next_event().data for _ in range(2)], ["x", "y"])
                wait_until(lambda b=before: len(pump_threads() - b) == 1, message="one pump")

    @staticmethod
    def alive(kind):
        """How many objects of a class there are."""
        gc.collect()
        return sum(type(each) is kind for each in gc.get_objects())

    def test_clients_that_left_are_forgotten_though_their_timers_are_far_away(self):
        for settings in ({"heartbeat": None, "lease": None}, {"heartbeat": None}, {}):
            with self.subTest(**settings):
                subscribers, audiences = self.alive(ThreadSubscriber), self.alive(Audience)
                hub = Hub(**settings)
                self.addCleanup(hub.close)
                for _ in range(300):
                    body = hub.stream(make_environ("/"), "a").response
                    next(body)
                    body.close()
                self.assertEqual(hub.streams, 0)
                self.assertLess(self.alive(ThreadSubscriber) - subscribers, 150)
                self.assertLessEqual(self.alive(Audience), audiences)


class LongPollTest(StreamTest):
    def poll(self, query="", **headers):
        reply = request("GET", f"{self.url}/a{query}", headers={"Accept": "application/json", **headers})
        return reply, json.loads(reply.body)

    def test_events_that_are_there_come_at_once(self):
        hub = self.serve()
        ids = [hub.publish("a", {"n": 1}), hub.publish("b", "x"), hub.publish("a", "t", "named")]
        reply, body = self.poll(f"?wait=60&lastEventId={hub.log.epoch}-0")
        events = [{"id": ids[0], "data": '{"n":1}'}, {"id": ids[2], "data": "t", "event": "named"}]
        self.assertEqual(body, {"events": events, "lastEventId": ids[2], "reset": False})
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        self.assertEqual(reply.headers["Cache-Control"], "no-cache")
        _, body = self.poll("?wait=60", **{"Last-Event-ID": ids[0]})
        self.assertEqual([event["id"] for event in body["events"]], [ids[2]])

    def test_else_when_one_comes(self):
        hub = self.serve()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.poll("?wait=60")))
        thread.start()
        wait_until(lambda: hub.streams == 1, message="the poll to wait")
        hub.publish("b", "another channel")
        event_id = hub.publish("a", "x")
        thread.join(30)
        self.assertEqual(answers[0][1]["events"], [{"id": event_id, "data": "x"}])
        self.assertEqual(hub.streams, 0)

    def test_else_empty_after_the_wait(self):
        hub = self.serve()
        last = hub.publish("a", "before")
        for wait in ("0", "0.05"):
            _, body = self.poll(f"?wait={wait}")
            self.assertEqual(body, {"events": [], "lastEventId": last, "reset": False})

    def test_an_id_that_cannot_be_resumed_gets_a_reset_at_once(self):
        hub = self.serve()
        last = hub.publish("a", "x")
        _, body = self.poll("?wait=60&lastEventId=rubbish")
        self.assertEqual(body, {"events": [], "lastEventId": last, "reset": True})

    def test_without_a_wait_it_waits_for_25_seconds_and_never_for_more_than_60(self):
        for query, seconds in (("", 25), ("?wait=60", 60), ("?wait=0.5", 0.5)):
            deadlines = []

            def take(subscriber, deadline=None, deadlines=deadlines):
                deadlines.append(deadline)
                return []

            with self.subTest(query), Hub() as hub, mock.patch.object(ThreadSubscriber, "take", take):
                environ = make_environ(f"/a{query}") | {"HTTP_ACCEPT": "application/json"}
                begun = time.monotonic()
                response = hub.stream(environ, "a")
                passed = time.monotonic() - begun
                self.assertEqual(json.loads(response.get_data())["events"], [])
                (deadline,) = deadlines
                self.assertTrue(begun + seconds <= deadline <= begun + seconds + passed, deadline - begun)

    def test_a_bad_wait_is_refused(self):
        self.serve()
        for wait in ("soon", "-1", "61", "nan", "inf", "", "1_0", "1e1", "%D9%A3"):
            with self.subTest(wait=wait):
                reply, body = self.poll(f"?wait={wait}")
                self.assertEqual((reply.status, reply.headers["Content-Type"]), (400, "application/problem+json"))
                self.assertIn("wait", body["detail"])

    def test_a_client_changes_between_the_two_and_loses_nothing(self):
        hub = self.serve()
        ids, got = [], []
        client = self.ready()
        last = client.last_event_id
        for turn in range(4):
            ids.append(hub.publish("a", "live"))
            got.append(client.next_event().last_event_id)
            client.close()
            ids += [hub.publish("a", f"{turn}") for _ in range(3)]
            _, body = self.poll(f"?lastEventId={client.last_event_id}")
            got += [event["id"] for event in body["events"]]
            last = body["lastEventId"]
            ids.append(hub.publish("a", "between"))
            client = self.connect(last_event_id=last)
            got.append(client.next_event().last_event_id)
        self.assertEqual(got, ids)

    def test_over_the_budget_it_answers_at_once_and_says_when_to_ask_again(self):
        hub = self.serve(max_streams=1)
        client = self.ready()
        reply, body = self.poll("?wait=60")
        self.assertEqual((reply.status, body["events"], reply.headers["Retry-After"]), (200, [], "5"))
        client.close()
        wait_until(lambda: hub.streams == 0)
        self.ready()
        reply, _ = self.poll("?wait=60")
        self.assertEqual(reply.headers["Retry-After"], "5", "the poll gave back only what it took")

    def test_the_end_of_the_hub_ends_it(self):
        hub = self.serve()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.poll("?wait=60")))
        thread.start()
        wait_until(lambda: hub.streams == 1, message="the poll to wait")
        hub.close()
        thread.join(30)
        self.assertEqual((answers[0][0].status, answers[0][1]["events"]), (200, []))

    def test_a_client_that_leaves_gives_its_thread_back(self):
        hub = self.serve()
        with socket.create_connection(self.url.removeprefix("http://").split(":")) as connection:
            connection.sendall(b"GET /a?wait=60 HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n")
            wait_until(lambda: hub.streams == 1, message="the poll to wait")
        wait_until(lambda: hub.streams == 0, message="the hang-up to be noticed")


class WrappedByTheAppTest(unittest.TestCase):
    def test_a_view_that_filters_a_stream_can_refuse_polls_whose_answer_is_one_chunk(self):
        with Hub() as hub:
            hub.publish("a", "for:admin")
            for accept, status in (("application/json", 406), ("text/event-stream", 200), ("*/*", 200)):
                environ = make_environ(f"/?lastEventId={hub.log.epoch}-0") | {"HTTP_ACCEPT": accept}
                response = hub.stream(environ, "a", long_poll=False)
                self.assertEqual(response.status_code, status)
                if status == 406:
                    self.assertNotIn("for:admin", response.get_data(as_text=True))
                    self.assertIn("text/event-stream only", response.get_data(as_text=True))
                response.close()


class ComeBackTest(unittest.TestCase):
    def test_a_view_can_tell_a_client_to_come_back(self):
        with Hub(retry=1000) as hub:
            for shutdown, longest in ((False, 2000), (True, 1000)):
                response = hub.come_back("the database is away", shutdown=shutdown)
                self.assertEqual((response.status_code, response.mimetype), (200, "text/event-stream"))
                self.assertEqual(response.headers["Cache-Control"], "no-cache, no-transform")
                body = response.get_data()
                self.assertRegex(
                    body, rb"\A" + UNAVAILABLE + rb": the database is away; come back after the .*\n\Z"
                )
                self.assertLessEqual(int(body.partition(b"\n")[0].removeprefix(b"retry: ")), longest)
            self.assertEqual(hub.streams, 0)

    def test_a_reason_cannot_break_the_framing(self):
        with Hub() as hub:
            (event,) = EventStreamDecoder().feed(hub.come_back("a\n\ndata: forged\n\n").get_data())
            self.assertEqual(event.event, "stream-unavailable")


class HubTest(unittest.TestCase):
    def test_numbers_out_of_range_are_refused_and_named(self):
        for name, value in (
            ("retry", -1),
            ("heartbeat", 0),
            ("lease", 0),
            ("max_streams", -1),
            ("queue_size", 0),
            ("heartbeat", float("nan")),
            ("retry", 1.5),
            ("max_streams", 2.5),
        ):
            with self.subTest(name=name, value=value):
                self.assertRaisesRegex(ValueError, name, Hub, **{name: value})

    def test_repr_tells_the_counts(self):
        with Hub() as hub:
            self.assertEqual(repr(hub), "<Hub memory:// streams=0 position=0>")

    def test_health(self):
        with Hub(max_streams=7) as hub:
            last = hub.publish("a", "x")
            expected = {"log": {"url": "memory://", "lastEventId": last}, "streams": 0, "maxStreams": 7}
            self.assertEqual(hub.health(), expected)

    def test_a_closed_hub_takes_no_streams(self):
        hub = Hub()
        hub.close()
        hub.close()
        body = hub.stream(make_environ("/"), "a").response
        self.assertIn(b"come back", next(body))
        self.assertRaises(StopIteration, next, body)
        body.close()
        self.assertRaises(HubClosed, hub.publish, "a", "x")

    def test_a_hub_that_nobody_holds_is_there_for_as_long_as_its_streams(self):
        before = hubs()
        body = Hub(retry=1000).stream(make_environ("/"), "a").response
        next(body)
        gc.collect()
        (hub,) = set(hubs()) - set(before)
        self.assertEqual(hub.streams, 1)
        hub.request_close()
        self.assertRegex(b"".join(body), FAREWELL + rb"\Z")
        body.close()

    def test_new_clients_of_a_closed_hub_get_the_same_delays_as_those_whose_streams_ended(self):
        for url in ("memory://", sqlite_url(temporary_directory(self))):
            with self.subTest(url):
                hub = Hub(url, retry=1000)
                hub.close()
                told = []
                for _ in range(100):
                    body = hub.stream(make_environ("/"), "a").response
                    told.append(int(next(body).partition(b"\n")[0].removeprefix(b"retry: ")))
                    body.close()
                self.assertTrue(200 <= min(told) < max(told) <= 1000, told)

    def test_a_server_that_cannot_stream_safely_is_named_once(self):
        for environ, words in (
            ({"wsgi.multithread": False, "SERVER_SOFTWARE": "a server", "wsgi.input": sys.stdin}, "one request"),
            ({"wsgi.multithread": True}, "every thread"),
        ):
            with self.subTest(words), Hub() as hub:
                with self.assertLogs("sse_threaded.hub", "WARNING") as logs:
                    for _ in range(3):
                        hub.stream({**EnvironBuilder("/").get_environ(), **environ}, "a")
                self.assertEqual(len(logs.output), 1)
                self.assertIn(words, logs.output[0])
        with Hub(max_streams=5) as hub, self.assertNoLogs("sse_threaded.hub"):
            hub.stream({**EnvironBuilder("/").get_environ(), "wsgi.multithread": True}, "a")
        for environ in (
            {},  # a test's request
            {"wsgi.multithread": True, "SERVER_SOFTWARE": "WSGIServer/0.2"},  # Django's own server
            {"wsgi.multithread": True, "SERVER_SOFTWARE": "WSGIServer"},  # the same from Python 3.15 on
        ):
            with self.subTest(environ=environ), Hub() as hub, self.assertNoLogs("sse_threaded.hub"):
                hub.stream({**EnvironBuilder("/").get_environ(), **environ}, "a")

    def test_an_invalid_request_is_refused(self):
        with Hub() as hub:
            for request in (None, "/events", object()):
                with self.subTest(request=request), self.assertRaisesRegex(TypeError, "framework's request"):
                    hub.stream(request, "a")

    def test_an_app_may_answer_with_it_as_any_response(self):
        with Hub() as hub:
            response = hub.stream(make_environ("/"), "a")
            self.assertIsInstance(response, Response)
            response.set_cookie("seen", "1")
            self.assertIn("Set-Cookie", response.headers)
