"""The streams of all processes: questions, answers, and what a process says of each kind of stream."""

from __future__ import annotations

import json
import os
import resource
import threading
import time
import unittest
from typing import Any
from unittest import mock

from werkzeug.test import EnvironBuilder

from sse_threaded import HistoryGone, Hub, InvalidEvent, LogUnavailable
from sse_threaded.log import Page
from sse_threaded.log.memory import MemoryLog
from sse_threaded.log.retention import MESSAGES
from sse_threaded.overview import ProcessReport, StreamRow, ask, from_json, to_json
from sse_threaded.overview.answering import Answering
from sse_threaded.overview.report import LARGEST_MOST, answer, question, question_in, report_in
from tests.support import enter, sqlite_url, temporary_directory, wait_until

ROW = StreamRow(("a", "b"), 7, "anna", "127.0.0.1", "parked", 1.5, "kxqwzp-3", 2, 400)
REPORT = ProcessReport("f00d", "host", 17, 5, 3, "kxqwzp-9", (ROW, ROW._replace(user=None, address=None)))


def environ(accept: str = "text/event-stream", query: str = "") -> dict[str, Any]:
    made = EnvironBuilder("/", query_string=query, headers={"Accept": accept}, multithread=True).get_environ()
    return {**made, "werkzeug.socket": None, "REMOTE_ADDR": "192.0.2.7"}


class MessagesTest(unittest.TestCase):
    def test_a_question_and_a_report_survive_json(self) -> None:
        self.assertEqual(question_in(json.dumps(question("name", 5))), ("name", 5))
        self.assertEqual(report_in(json.dumps(answer("name", REPORT)), "name"), REPORT)
        self.assertEqual(from_json(json.loads(json.dumps(to_json(REPORT)))), REPORT)

    def test_a_question_never_wants_more_than_an_event_can_hold(self) -> None:
        for most, wanted in ((-1, 0), (0, 0), (LARGEST_MOST, LARGEST_MOST), (10**9, LARGEST_MOST)):
            self.assertEqual(question_in(json.dumps(question("x", most))), ("x", wanted))

    def test_the_longest_answer_fits_into_an_event(self) -> None:
        long = "\0" * 300  # JSON writes six characters for each
        log = MemoryLog()
        with Hub() as hub:
            subscriber = mock.Mock(channels=[long] * 20, cursor=None, after=0, allowed_at=0.0, waiting=10**9)
            subscriber.owner.user, subscriber.address = long, long
            subscriber.kind, subscriber.sent_bytes = "wrapped", 10**15
            with mock.patch.object(hub._pump, "subscribers", return_value=(subscriber,) * LARGEST_MOST):
                report = hub._answering._report(LARGEST_MOST)
        self.assertEqual(len(report.rows), LARGEST_MOST)
        log.append(MESSAGES, answer("name", report))

    def test_other_messages_are_neither(self) -> None:
        asked, good = question("name", 1), answer("name", REPORT)
        for data in (None, [], "streams", {}, {"v": 1, "type": "later"}, asked | {"v": 2}, asked | {"name": 1}):
            with self.subTest(data=data):
                self.assertIsNone(question_in(json.dumps(data)))
                self.assertIsNone(report_in(json.dumps(data), "name"))
        for data in (good | {"to": "other"}, good | {"rows": [[]]}, good | {"rows": 1}, good | {"v": 2}):
            with self.subTest(data=data):
                self.assertIsNone(report_in(json.dumps(data), "name"))
        for text in ("", '"streams?"', '"streams', '{"streams?"', '["streams"]'):
            with self.subTest(text=text):
                self.assertIsNone(question_in(text))
                self.assertIsNone(report_in(text, "name"))


class AnsweringTest(unittest.TestCase):
    def test_each_question_is_answered_once(self) -> None:
        log = MemoryLog()
        answering = Answering(log, lambda most: (3, most, "x-1", ()))
        after = log.last_sequence()
        for name in ("one", "two", "three"):
            log.append(MESSAGES, question(name, 4))
        for record in log.read(after, channels=[MESSAGES]):
            answering.take(record)

        def answers() -> list[Any]:
            data = [json.loads(record.data) for record in log.read(after, channels=[MESSAGES])]
            return sorted(each["to"] for each in data if each["type"] == "streams")

        wait_until(lambda: len(answers()) == 3)
        self.assertEqual(answers(), ["one", "three", "two"])
        wait_until(lambda: not answering._is_answering)

    def test_a_log_that_cannot_be_written_ends_no_thread_and_no_later_answer(self) -> None:
        log = MemoryLog()
        answering = Answering(log, lambda most: (0, 0, "x-1", ()))
        log.append(MESSAGES, question("one", 4))
        (record,) = log.read(0, channels=[MESSAGES])
        error = LogUnavailable("memory://", "away")
        with mock.patch.object(log, "append", side_effect=error), self.assertLogs("sse_threaded", "WARNING"):
            answering.take(record)
            wait_until(lambda: not answering._is_answering)
        answering.take(record)
        wait_until(lambda: log.last_sequence() == 2)

    def test_without_a_thread_to_answer_it_goes_on(self) -> None:
        log = MemoryLog()
        answering = Answering(log, lambda most: (0, 0, "x-1", ()))
        log.append(MESSAGES, question("one", 4))
        (record,) = log.read(0, channels=[MESSAGES])
        with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("no thread")):
            answering.take(record)
        answering.take(record)
        wait_until(lambda: log.last_sequence() == 2)


class OverviewTest(unittest.TestCase):
    def setUp(self) -> None:
        self.url = sqlite_url(temporary_directory(self))
        # Two hubs on one file are as two processes.
        self.hubs = [enter(self, Hub(self.url, heartbeat=None)) for _ in range(2)]

    def open(self, hub: Hub, channel: str | list[str], **arguments: Any) -> None:
        response = hub.stream(environ(), channel, **arguments)
        self.addCleanup(response.close)
        next(iter(response.response))
        wait_until(lambda: hub.streams)

    def answers(self, count: int) -> list[ProcessReport]:
        found: list[ProcessReport] = []

        def complete() -> bool:
            found[:] = self.hubs[0].overview(seconds=0.2)
            return len(found) == count

        wait_until(complete)
        return found

    def test_without_a_stream_nobody_answers(self) -> None:
        self.assertEqual(self.hubs[0].overview(seconds=0.05), [])

    def test_it_shows_the_streams_of_all_processes(self) -> None:
        self.open(self.hubs[0], "news", user="anna")
        self.open(self.hubs[1], [f"c{number}" for number in range(9)])
        self.hubs[0].publish("news", "hello")
        reports = self.answers(2)
        self.assertEqual([report.streams for report in reports], [1, 1])
        rows = sorted(row for report in reports for row in report.rows)
        several, news = rows
        self.assertEqual((news.channels, news.channel_count, news.user), (("news",), 1, "anna"))
        self.assertEqual((several.channels, several.channel_count), (("c0", "c1", "c2", "c3", "c4"), 9))
        self.assertIsNone(several.user)
        for row in rows:
            self.assertEqual((row.address, row.kind), ("192.0.2.7", "thread"))

    def test_it_shows_events_that_wait_and_bytes(self) -> None:
        hub = self.hubs[0]
        response = hub.stream(environ(), "news")
        self.addCleanup(response.close)
        chunks = iter(response.response)
        next(chunks)
        first = hub.publish("news", "one")
        wire = next(chunk for chunk in chunks if chunk)
        hub.publish("news", "two")
        next(chunk for chunk in chunks if chunk)  # only now has its thread sent the first one
        last = [hub.publish("news", "more") for _ in range(3)][-1]
        found: list[StreamRow] = []

        def complete() -> bool:
            found[:] = [row for report in hub.overview(seconds=0.1) for row in report.rows]
            return bool(found) and found[0].waiting == 3

        wait_until(complete)
        # The questions are events, too: so its position is that of the newest event or of a later question.
        self.assertGreaterEqual(int(found[0].last_event_id.split("-")[1]), int(last.split("-")[1]))
        self.assertIn(first.encode(), wire)
        self.assertEqual(found[0].sent, len(wire))

    def test_rows_are_bounded_and_those_that_wait_come_first(self) -> None:
        hub = self.hubs[0]
        for number in range(5):
            self.open(hub, f"c{number}")
        hub.publish("c3", "waits")
        (report,) = self.answers(1)
        self.assertEqual([row.channels[0] for row in report.rows], ["c3", "c0", "c1", "c2", "c4"])
        reports = hub.overview(seconds=0.3, most=2)
        self.assertEqual([row.channels[0] for row in reports[0].rows], ["c3", "c0"])
        self.assertEqual(reports[0].streams, 5)

    def test_a_long_poll_is_shown_as_one(self) -> None:
        hub = self.hubs[0]
        poll = threading.Thread(target=hub.stream, args=[environ("application/json", "wait=20"), "news"])
        poll.start()
        self.addCleanup(poll.join)
        self.addCleanup(hub.publish, "news", "end")
        wait_until(lambda: hub.streams)
        (report,) = self.answers(1)
        self.assertEqual([(row.kind, row.address) for row in report.rows], [("poll", "192.0.2.7")])

    def test_a_process_with_very_many_descriptors_can_ask(self) -> None:
        self.open(self.hubs[0], "news")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 2000:
            resource.setrlimit(resource.RLIMIT_NOFILE, (2000, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            self.addCleanup(os.close, os.dup(0))
        self.assertEqual(len(self.answers(1)), 1)

    def test_arguments(self) -> None:
        for most in (-1, LARGEST_MOST + 1, 1.5, None):
            with self.subTest(most=most), self.assertRaises(ValueError):
                self.hubs[0].overview(most=most)  # type: ignore[arg-type]
        with self.assertRaises(InvalidEvent):
            self.hubs[0].publish(MESSAGES, "mine")

    def test_if_answers_are_trimmed_those_that_came_are_returned(self) -> None:
        log = MemoryLog()
        answering = Answering(log, lambda most: (1, 0, "x-1", ()))
        calls = 0

        def read(after: int, **options: Any) -> Page:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise HistoryGone("expired")
            (question,) = MemoryLog.read(log, after - 1)
            answering.take(question)
            wait_until(lambda: log.last_sequence() > after)
            return MemoryLog.read(log, after, **options)

        with mock.patch.object(log, "read", read):
            begun = time.monotonic()
            self.assertEqual(len(ask(log, seconds=20)), 1)
        self.assertLess(time.monotonic() - begun, 20)

    def test_answers_of_several_pages_are_all_read(self) -> None:
        log = MemoryLog()
        long = StreamRow(("c" * 59,) * 5, 5, "u" * 59, "a" * 40, "parked", 1.0, "x-1", 0, 0)
        others = [Answering(log, lambda most: (300, 0, "x-1", (long,) * 300)) for _ in range(8)]
        asked = log.last_sequence()
        asking = threading.Thread(target=lambda: found.extend(ask(log, seconds=2, most=300)))
        found: list[ProcessReport] = []
        asking.start()
        wait_until(lambda: log.last_sequence() > asked)
        (record,) = log.read(asked)[:1]
        for other in others:
            other.take(record)
        asking.join()
        self.assertEqual(len(found), 8)

    def test_a_defect_or_strange_name_does_not_silence_a_process(self) -> None:
        hub = self.hubs[0]
        self.open(hub, "news", user="half \ud800 of a character")
        (report,) = self.answers(1)
        self.assertEqual(report.rows[0].user, "half ? of a character")
        with (
            mock.patch.object(hub._answering, "_look", side_effect=ZeroDivisionError),
            self.assertLogs("sse_threaded", "ERROR"),
        ):
            self.assertEqual(hub.overview(seconds=0.3), [])
        self.assertEqual(len(self.answers(1)), 1)
