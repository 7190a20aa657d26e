"""Observers of a hub: which facts they get, on which thread, without a lock; and their faults."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

from werkzeug.test import Client

from sse_threaded import Hub, HubClosed, InvalidEvent, LogUnavailable, Observer
from sse_threaded.fanout.cursor import Cursor
from sse_threaded.fanout.delivery_times import DeliveryTimes
from sse_threaded.fanout.observers import Observers
from sse_threaded.fanout.sent_counts import SentCounts
from sse_threaded.fanout.socket_subscriber import SocketSubscriber
from sse_threaded.log import MemoryLog
from sse_threaded.observer import Cause, Ending, Kind, Publication, Stream
from sse_threaded.testing import EventStreamClient, LiveServer
from tests.support import enter, wait_until
from tests.unit.fake_handover import FakeHandover

_WAIT = 10.0


class Facts(Observer):
    """Notes all facts, and that the hub holds no lock."""

    def __init__(self) -> None:
        self.facts: list[tuple[Any, ...]] = []
        self.threads: dict[str, set[str]] = {}
        self.hub: Any = None

    def note(self, name: str, *values: Any) -> None:
        self.facts.append((name, *values))
        self.threads.setdefault(name, set()).add(threading.current_thread().name)
        if self.hub is not None:
            # This thread would wait for itself.
            for lock in (self.hub._pump._registry._lock, self.hub._pump._thread._starting):
                assert lock.acquire(timeout=_WAIT), name
                lock.release()

    def hub_made(self, hub: Any) -> None:
        self.hub = hub
        self.note("hub_made")

    def publishing(self, channels: tuple[str, ...], events: int) -> object:
        self.note("publishing", channels, events)
        return "begun"

    def published(self, begun: object, publication: Publication) -> None:
        self.note("published", begun, publication.channels, publication.events, type(publication.error).__name__)

    def opening(self, channels: tuple[str, ...], resumes: bool) -> object:
        self.note("opening", channels, resumes)
        return "opening"

    def opening_ended(self, begun: object, cause: Cause | None) -> None:
        self.note("opening_ended", begun, cause)

    def stream_refused(self, cause: Cause) -> None:
        self.note("refused", cause)

    def stream_opened(self, stream: Stream) -> None:
        self.note("opened", stream.kind, stream.channels, stream.user)

    def stream_caught_up(self, kind: Kind, events: int) -> None:
        self.note("caught_up", kind, events)

    def stream_ended(self, ending: Ending) -> None:
        self.note("ended", ending.stream.kind, ending.reason, ending.events, ending.size)

    def reset_sent(self, reason: str) -> None:
        self.note("reset", reason)

    def sent(self, kind: Kind, events: int, size: int) -> None:
        self.note("sent", kind, events, size)

    def handed_out(self, hub: Any, position: int, events: int, seconds: float) -> None:
        self.note("handed_out", position, events)

    def delivered(self, seconds: Any) -> None:
        self.note("delivered", len(seconds))

    def second_passed(self, hub: Any, position: int) -> None:
        self.note("second_passed")

    def read_failed(self) -> None:
        self.note("read_failed")

    def pump_failed(self) -> None:
        self.note("pump_failed")

    def connections_cut(self, count: int) -> None:
        self.note("connections_cut", count)

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        return [fact for fact in self.facts if fact[0] in names]

    def sum_of(self, kind: Kind) -> tuple[int, int]:
        """The events and bytes that were sent to streams of a kind."""
        found = [fact for fact in self.of("sent") if fact[1] is kind]
        return sum(fact[2] for fact in found), sum(fact[3] for fact in found)


def environ(query: str = "", **values: Any) -> dict[str, Any]:
    return {"REQUEST_METHOD": "GET", "QUERY_STRING": query, "wsgi.multithread": True, **values}


class HubCase(unittest.TestCase):
    def make_hub(self, *others: Observer, **arguments: Any) -> Hub:
        self.facts = Facts()
        self.hub = enter(self, Hub(observers=[self.facts, *others], **arguments))
        return self.hub

    def wait_for(self, *fact: Any) -> None:
        wait_until(lambda: fact in self.facts.facts, message=f"{fact} among {self.facts.facts}")

    def park(
        self, last_event_id: str | None = None, *, send_buffer: int | None = None, size: int = 1000
    ) -> tuple[SocketSubscriber, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        theirs.settimeout(_WAIT)
        if send_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        pump = self.hub._pump
        pump.reserve()
        cursor = pump.open_cursor(("a",), last_event_id)
        handover = FakeHandover(ours.close)
        parked = SocketSubscriber(("a",), size, ours, chunked=True, cursor=cursor, handover=handover)
        pump.park(parked, b"head")
        return parked, theirs


def received(client: socket.socket, events: int) -> bytes:
    """Read until so many events have come; returns the bytes of all, with their framing."""
    data = b""
    while data.count(b"\nid: ") < events:
        data += client.recv(1 << 16)
    return data


class PublishingTest(HubCase):
    def test_each_call_is_told_on_its_thread(self) -> None:
        hub = self.make_hub()
        hub.publish("a", 1)
        hub.finish("a")
        hub.disconnect(user="7")
        self.assertEqual(
            self.facts.of("publishing", "published"),
            [
                fact
                for channel in ("a", "a", "sse_threaded:control")
                for fact in (
                    ("publishing", (channel,), 1),
                    ("published", "begun", (channel,), 1, "NoneType"),
                )
            ],
        )
        self.assertEqual(self.facts.threads["published"], {threading.current_thread().name})

    def test_an_error_is_told_and_raised(self) -> None:
        hub = self.make_hub()
        with self.assertRaises(InvalidEvent):
            hub.publish("", 1)
        hub.close()
        with self.assertRaises(HubClosed):
            hub.publish("a", 1)
        self.assertEqual(
            [fact[-1] for fact in self.facts.of("published")],
            ["InvalidEvent", "HubClosed"],
        )

    def post(self, body: object, **fields: str) -> int:
        app = self.hub.publisher(tokens={"token-of-this-test": "*"})
        data = json.dumps(body).encode()
        headers = {"Authorization": "Bearer token-of-this-test", "Content-Type": "application/json", **fields}
        return Client(app).post("/", data=data, headers=headers).status_code

    def test_a_request_to_the_publisher_counts_its_new_events_once(self) -> None:
        self.make_hub()
        many = [{"channel": channel, "data": "x"} for channel in ("a", "b", "a")]
        self.assertEqual(self.post({"channel": "a", "data": "x"}), 201)
        self.assertEqual(self.post(many), 201)
        for _ in range(2):
            self.assertEqual(self.post(many, **{"Idempotency-Key": '"key"'}), 201)
        self.assertEqual([fact[3] for fact in self.facts.of("published")], [1, 3, 3, 0])
        self.assertEqual(self.facts.of("published")[1][2], ("a", "b"))


class ThreadStreamTest(HubCase):
    def test_its_life(self) -> None:
        hub = self.make_hub()
        first = hub.publish("a", "missed before")
        missed = hub.publish("a", "missed")
        body = hub.stream(environ(f"lastEventId={first}"), "a", user=7).response
        chunks = [next(body)]  # its preface
        chunks.append(next(body))
        self.assertIn(missed.encode(), chunks[1])

        def publish() -> None:
            self.wait_for("caught_up", Kind.THREAD, 1)
            hub.publish("a", "new")

        publisher = threading.Thread(target=publish)
        publisher.start()
        chunks.append(next(body))
        publisher.join(_WAIT)
        self.assertIn(b"new", chunks[2])
        hub.request_close()
        chunks += list(body)
        body.close()
        sizes = [len(chunk) for chunk in chunks]
        self.wait_for("ended", Kind.THREAD, "shutdown", 2, sizes[1] + sizes[2])
        hub.close()
        self.assertEqual(
            self.facts.of("opening", "opening_ended"),
            [("opening", ("a",), True), ("opening_ended", "opening", None)],
        )
        self.assertEqual(self.facts.of("opened"), [("opened", Kind.THREAD, ("a",), "7")])
        self.assertEqual(self.facts.of("caught_up"), [("caught_up", Kind.THREAD, 1)])
        self.assertEqual(self.facts.sum_of(Kind.THREAD), (2, sizes[1] + sizes[2]))
        self.assertEqual(self.facts.of("handed_out"), [("handed_out", 3, 1)])
        self.assertEqual(self.facts.of("delivered"), [("delivered", 1)])

    def test_a_chunk_that_the_server_could_not_send_does_not_count(self) -> None:
        hub = self.make_hub()
        body = hub.stream(environ(), "a").response
        next(body)
        hub.publish("a", "new")
        self.assertIn(b"new", next(body))
        body.close()  # the server's send has failed
        self.wait_for("ended", Kind.THREAD, "gone", 0, 0)
        hub.close()
        self.assertEqual(self.facts.sum_of(Kind.THREAD), (0, 0))

    def test_a_reset(self) -> None:
        hub = self.make_hub()
        body = hub.stream(environ("lastEventId=abcdef-1"), "a").response
        chunks = [next(body), next(body)]
        self.assertIn(b"event: reset", chunks[-1])
        body.close()
        self.wait_for("reset", "epoch")
        hub.close()
        self.assertEqual(self.facts.sum_of(Kind.THREAD), (0, 0))


class ParkedStreamTest(HubCase):
    def test_its_life(self) -> None:
        hub = self.make_hub()
        first = hub.publish("a", "before")
        hub.publish("a", "missed")
        parked, client = self.park(first)
        begun = received(client, 1)
        self.wait_for("caught_up", Kind.PARKED, 1)
        new = b""
        for number in range(3):
            hub.publish("a", number)
            new += received(client, 1)
        hub.request_close()
        wait_until(lambda: parked.state.is_closed, message="the end")
        hub.close()
        sizes = [len(part) for part in begun.removeprefix(b"head").split(b"\r\n")[1::2]]
        sizes += [len(part) for part in new.split(b"\r\n")[1::2]]
        self.assertEqual(self.facts.sum_of(Kind.PARKED), (4, sum(sizes)))
        self.assertEqual(self.facts.of("opened"), [("opened", Kind.PARKED, ("a",), None)])
        ((_, kind, reason, events, size),) = self.facts.of("ended")
        self.assertEqual((kind, reason, events), (Kind.PARKED, "shutdown", 4))
        self.assertGreater(size, sum(sizes))  # the farewell, too
        self.assertEqual(self.facts.threads["ended"], {"sse_threaded pump"})
        self.assertEqual(self.facts.threads["sent"] - {"sse_threaded pump"}, set())

    def test_a_broadcast_is_counted_in_one_step(self) -> None:
        hub = self.make_hub()
        clients = [self.park()[1] for _ in range(20)]
        hub.publish("a", "first")  # each has joined the broadcast after it
        for client in clients:
            received(client, 1)
        wait_until(lambda: self.facts.sum_of(Kind.PARKED)[0] == 20, message="the count of the first")
        self.facts.facts.clear()
        hub.publish("a", "second")
        size = {len(received(client, 1).split(b"\r\n")[1]) for client in clients}
        wait_until(lambda: self.facts.of("sent"), message="the count")
        self.assertEqual(self.facts.of("sent"), [("sent", Kind.PARKED, 20, 20 * size.pop())])

    def test_bytes_that_wait_are_counted_when_the_kernel_has_taken_them(self) -> None:
        hub = self.make_hub()
        parked, client = self.park(send_buffer=4096)
        wait_until(lambda: self.facts.of("caught_up"), message="the stream's beginning")
        long = "x" * 50_000
        for _ in range(4):
            hub.publish("a", long)
        wait_until(lambda: hub.queues().waiting >= 3, message="events that wait")
        self.assertEqual(hub.queues().most, hub.queues().waiting)
        hub.report()
        self.assertLess(self.facts.sum_of(Kind.PARKED)[0], 2)
        data = received(client, 4)
        sizes = [len(part) for part in data.removeprefix(b"head").split(b"\r\n")[1::2]]
        wait_until(lambda: self.facts.sum_of(Kind.PARKED)[0] == 4, message="the counts")
        self.assertEqual(self.facts.sum_of(Kind.PARKED)[1], sum(sizes))
        self.assertEqual(hub.queues().waiting, 0)
        self.assertEqual(parked.sent_events, 4)

    def test_a_client_that_is_cut_off_as_slow_gets_no_count_for_the_rest(self) -> None:
        hub = self.make_hub()
        _, client = self.park(send_buffer=4096, size=2)
        long = "x" * 50_000
        for number in range(1, 6):
            hub.publish("a", long)  # alone in its page
            wait_until(lambda number=number: hub._pump.position == number, message="the event")
        data = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(1 << 16):
                data += part
        wait_until(lambda: self.facts.of("ended"), message="the end")
        hub.close()
        self.assertEqual(self.facts.of("ended")[0][2], "slow")
        self.assertEqual(self.facts.sum_of(Kind.PARKED)[0], data.count(b"xxx\nid: "))
        self.assertLess(data.count(b"xxx\nid: "), 5)

    def test_a_replay_from_the_log(self) -> None:
        hub = self.make_hub()
        first = hub.publish("a", 0)
        for number in range(3000):  # more than are in memory
            hub.publish("a", number)
        _, client = self.park(first)
        received(client, 3000)
        self.wait_for("caught_up", Kind.PARKED, 3000)
        hub.report()
        self.assertEqual(self.facts.sum_of(Kind.PARKED)[0], 3000)

    def test_a_reset(self) -> None:
        self.make_hub()
        _, client = self.park("abcdef-7")
        self.assertIn(b"event: reset", received(client, 1))
        self.wait_for("reset", "epoch")
        self.wait_for("caught_up", Kind.PARKED, 0)
        self.hub.report()
        self.assertEqual(self.facts.sum_of(Kind.PARKED), (0, 0))

    def test_one_that_comes_after_the_end_is_opened_and_ended(self) -> None:
        hub = self.make_hub()
        pump = hub._pump
        pump.reserve()
        cursor = Cursor(hub.log, ("a",), None)
        hub.request_close()
        pump.join(_WAIT)
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        pump.park(
            SocketSubscriber(("a",), 9, ours, chunked=True, cursor=cursor, handover=FakeHandover(ours.close)), b""
        )
        self.assertEqual([fact[0] for fact in self.facts.of("opened", "ended")], ["opened", "ended"])
        self.assertEqual(self.facts.of("ended")[0][2], "shutdown")


class PollTest(HubCase):
    def poll(self, query: str = "wait=0", **values: Any) -> dict[str, Any]:
        asked = environ(query, HTTP_ACCEPT="application/json", **values)
        response = self.hub.stream(asked, "a")
        self.size = len(response.data)
        return dict(response.get_json())

    def test_it_counts_as_open_until_its_answer(self) -> None:
        hub = self.make_hub()
        first = hub.publish("a", 1)
        hub.publish("a", 2)
        self.assertEqual(len(self.poll(f"lastEventId={first}&wait=0")["events"]), 1)
        self.assertEqual(
            self.facts.of("opened", "ended", "sent"),
            [
                ("opened", Kind.POLL, ("a",), None),
                ("ended", Kind.POLL, "answered", 1, self.size),
                ("sent", Kind.POLL, 1, self.size),
            ],
        )

    def test_one_that_waits(self) -> None:
        hub = self.make_hub()
        waiting = threading.Thread(target=self.poll, args=("wait=20",))
        waiting.start()
        wait_until(lambda: hub.streams, message="a poll that waits")
        hub.publish("a", 1)
        waiting.join(_WAIT)
        self.assertEqual([fact[:3] for fact in self.facts.of("ended")], [("ended", Kind.POLL, "answered")])
        self.assertEqual(len(self.facts.of("opened")), 1)

    def test_one_that_a_shutdown_ends(self) -> None:
        hub = self.make_hub()
        waiting = threading.Thread(target=self.poll, args=("wait=20",))
        waiting.start()
        wait_until(lambda: hub.streams, message="a poll that waits")
        hub.request_close()
        waiting.join(_WAIT)
        self.assertEqual([fact[:3] for fact in self.facts.of("ended")], [("ended", Kind.POLL, "shutdown")])

    def test_a_reset(self) -> None:
        self.make_hub()
        self.assertTrue(self.poll("lastEventId=abcdef-1&wait=0")["reset"])
        self.assertEqual(self.facts.of("reset"), [("reset", "epoch")])

    def test_one_for_which_no_place_is_left(self) -> None:
        self.make_hub(max_streams=0)
        self.poll("wait=20")
        self.assertEqual(self.facts.of("refused"), [("refused", Cause.FULL)])
        self.assertEqual([fact[2] for fact in self.facts.of("ended")], ["answered"])

    def test_an_invalid_wait(self) -> None:
        hub = self.make_hub()
        response = hub.stream(environ("wait=x", HTTP_ACCEPT="application/json"), "a")
        self.assertEqual(response.status_code, 400)
        self.assertEqual(self.facts.of("refused", "opened"), [("refused", Cause.REQUEST)])


class RefusalTest(HubCase):
    def refusals(self, environ: dict[str, Any], channels: str | None = "a", **options: Any) -> list[Cause]:
        self.facts.facts.clear()
        response = self.hub.stream(environ, channels, **options)
        list(response.response)
        return [fact[1] for fact in self.facts.of("refused")]

    def test_by_the_request(self) -> None:
        self.make_hub(secret="not secret", origins=["https://app.example"])
        request = [Cause.REQUEST]
        self.assertEqual(self.refusals(environ(REQUEST_METHOD="POST")), request)
        self.assertEqual(self.refusals(environ(HTTP_ACCEPT="text/html")), request)
        self.assertEqual(self.refusals(environ("ticket=x"), None), [Cause.TICKET])
        self.assertEqual(self.refusals(environ(HTTP_ORIGIN="https://evil.example")), [Cause.ORIGIN])
        self.assertEqual(self.refusals(environ(REQUEST_METHOD="HEAD")), [])

    def test_by_a_limit(self) -> None:
        hub = self.make_hub(max_streams=1, max_streams_per_user=1, max_streams_per_address=1)
        body = hub.stream(environ(REMOTE_ADDR="10.0.0.1"), "a", user="7").response
        next(body)
        self.assertEqual(self.refusals(environ(REMOTE_ADDR="10.0.0.2"), user="7"), [Cause.USER])
        self.assertEqual(self.refusals(environ(REMOTE_ADDR="10.0.0.1"), user="8"), [Cause.ADDRESS])
        self.assertEqual(self.refusals(environ(REMOTE_ADDR="10.0.0.2"), user="8"), [Cause.FULL])
        body.close()

    def test_by_the_end(self) -> None:
        hub = self.make_hub()
        hub.request_close()
        self.assertEqual(self.refusals(environ()), [Cause.CLOSING])
        self.assertEqual(self.facts.of("opening_ended"), [("opening_ended", "opening", Cause.CLOSING)])

    def test_by_the_log(self) -> None:
        hub = self.make_hub()
        broken = mock.patch.object(MemoryLog, "newest", side_effect=LogUnavailable("memory://", "broken"))
        with broken, self.assertLogs("sse_threaded.stream", "WARNING") as logged:
            self.assertEqual(self.refusals(environ()), [Cause.LOG])
        self.assertEqual(vars(logged.records[0])["event"], "stream_refused")
        self.assertEqual(hub.streams, 0)

    def test_by_the_view(self) -> None:
        hub = self.make_hub()
        hub.come_back("a database cannot be reached")
        self.assertEqual(self.facts.of("refused"), [("refused", Cause.APP)])

    def test_of_a_finished_channel(self) -> None:
        hub = self.make_hub()
        last = hub.finish("a")
        self.assertEqual(self.refusals(environ(f"lastEventId={last}")), [Cause.FINISHED])

    def test_by_http2(self) -> None:
        self.make_hub()
        self.assertEqual(
            self.refusals(environ(SERVER_PROTOCOL="HTTP/2.0", **{"gunicorn.socket": None})), [Cause.SERVER]
        )


class PumpTest(HubCase):
    def test_it_tells_that_a_second_has_passed(self) -> None:
        hub = self.make_hub()
        body = hub.stream(environ(), "a").response
        next(body)
        wait_until(lambda: len(self.facts.of("second_passed")) >= 2, message="two seconds")
        self.assertEqual(self.facts.threads["second_passed"], {"sse_threaded pump"})
        body.close()

    def test_failures_of_the_log_and_its_own(self) -> None:
        hub = self.make_hub()
        body = hub.stream(environ(), "a").response
        next(body)
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.assertLogs("sse_threaded.fanout"))
            for error in (LogUnavailable("memory://", "broken"), RuntimeError("a defect")):
                patch = mock.patch.object(MemoryLog, "read", side_effect=error)
                with patch:
                    hub.publish("a", 1)
                    name = "read_failed" if isinstance(error, LogUnavailable) else "pump_failed"
                    wait_until(lambda name=name: self.facts.of(name), message=name)
        wait_until(lambda: "\nevent: stream-end" in next(body).decode(), message="the end")
        body.close()


class FaultTest(HubCase):
    class Faulty(Observer):
        def sent(self, kind: Kind, events: int, size: int) -> None:
            raise RuntimeError("a fault in sent")

        def publishing(self, channels: tuple[str, ...], events: int) -> object:
            raise RuntimeError("a fault in publishing")

        def stream_opened(self, stream: Stream) -> None:
            raise RuntimeError("a fault in stream_opened")

        def second_passed(self, hub: Any, position: int) -> None:
            raise RuntimeError("a fault in second_passed")

    def test_it_is_logged_once_and_streams_go_on(self) -> None:
        with self.assertLogs("sse_threaded.fanout.observers", "ERROR") as logged:
            hub = self.make_hub(self.Faulty())
            app = LiveServer(lambda environ, start: hub.stream(environ, "a")(environ, start))
            with app, EventStreamClient(app.url) as client:
                client.wait_for_retry()
                for number in range(20):
                    hub.publish("a", number)
                    self.assertEqual(client.next_event().data, str(number))
                wait_until(lambda: self.facts.sum_of(Kind.THREAD)[0] == 20, message="the counts of the other")
            hub.close()
        names = [vars(record)["method"].rpartition(".")[2] for record in logged.records]
        self.assertEqual(sorted(names), ["publishing", "second_passed", "sent", "stream_opened"])
        self.assertEqual({vars(record)["event"] for record in logged.records}, {"observer_failed"})

    def test_a_fault_after_an_error_hides_nothing(self) -> None:
        hub = self.make_hub(self.Faulty())
        with self.assertLogs("sse_threaded.fanout.observers"), self.assertRaises(InvalidEvent):
            hub.publish("", 1)

    def test_something_else_is_refused(self) -> None:
        for wrong in (3, [3], [Facts], Facts()):
            with self.subTest(wrong), self.assertRaisesRegex(ValueError, "observer"):
                Hub(observers=wrong)  # type: ignore[arg-type]

    def test_a_program_that_ends_is_not_held_up(self) -> None:
        class Ending(Observer):
            def publishing(self, channels: tuple[str, ...], events: int) -> object:
                raise SystemExit

        with self.assertRaises(SystemExit):
            Hub(observers=[Ending()]).publish("a", 1)


class PartsTest(unittest.TestCase):
    @contextlib.contextmanager
    def observed(self) -> Iterator[tuple[Facts, Observers]]:
        facts = Facts()
        yield facts, Observers([facts])

    def test_each_note_is_reported_once_by_many_threads(self) -> None:
        with self.observed() as (facts, observers):
            counts = SentCounts(observers)

            def work() -> None:
                for _ in range(1000):
                    counts.add(Kind.THREAD, 1, 10)
                    counts.report()

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(_WAIT)
            self.assertEqual(facts.sum_of(Kind.THREAD), (4000, 40_000))

    def test_without_observers_nothing_is_kept(self) -> None:
        counts, times = SentCounts(Observers()), DeliveryTimes(Observers())
        counts.add(Kind.THREAD, 1, 10)
        times.note(1, 0.0)
        self.assertEqual(len(counts._notes) + len(times._notes), 0)

    def test_a_delivery_is_measured_whichever_thread_is_first(self) -> None:
        class Times(Observer):
            def __init__(self) -> None:
                self.seconds: list[float] = []

            def delivered(self, seconds: Any) -> None:
                self.seconds += seconds

        found = Times()
        times = DeliveryTimes(Observers([found]))
        times.handed_out(0, 5, 100.0)
        times.note(5, 99.0)  # the pump was first
        times.note(7, 99.5)  # the pump comes later
        times.note(0, 99.5)  # before the pump began
        times.report()
        self.assertEqual(found.seconds, [1.0])
        times.handed_out(5, 7, 101.0)
        times.report()
        times.report()
        self.assertEqual(found.seconds, [1.0, 1.5])
        for number in range(8, 100):
            times.handed_out(number - 1, number, 200.0)
        times.note(7, 99.5)  # so long ago that its page is forgotten
        times.report()
        self.assertEqual(found.seconds, [1.0, 1.5])


class EndLineTest(HubCase):
    def test_it_has_all_fields_and_its_old_text(self) -> None:
        with self.assertLogs("sse_threaded.stream", "DEBUG") as logged:
            hub = self.make_hub()
            body = hub.stream(environ(REMOTE_ADDR="10.0.0.1"), "a", user=7).response
            next(body)
            hub.publish("a", "new")
            size = len(next(body))
            hub.disconnect(user="7")
            list(body)
        (record,) = logged.records
        self.assertEqual(record.getMessage(), "stream of ('a',) ended: disconnected")
        fields = {name: vars(record)[name] for name in ("event", "kind", "channels", "user", "address", "reason")}
        self.assertEqual(
            fields,
            {
                "event": "stream_ended",
                "kind": "thread",
                "channels": ["a"],
                "user": "7",
                "address": "10.0.0.1",
                "reason": "disconnected",
            },
        )
        self.assertEqual((vars(record)["events"], vars(record)["bytes"]), (1, size))
        self.assertGreaterEqual(vars(record)["seconds"], 0)

    def test_a_parked_stream_has_one_too(self) -> None:
        with self.assertLogs("sse_threaded.stream", "DEBUG") as logged:
            hub = self.make_hub()
            _, client = self.park()
            hub.publish("a", "new")
            received(client, 1)
            client.close()
            wait_until(lambda: self.facts.of("ended"), message="the end")
        (record,) = logged.records
        self.assertEqual(
            (vars(record)["kind"], vars(record)["reason"], vars(record)["events"]), ("parked", "gone", 1)
        )


if __name__ == "__main__":
    unittest.main()
