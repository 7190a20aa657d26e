"""Who is on a channel, as a view, a client and another process of the same log get to see it."""

from __future__ import annotations

import json
import logging
import threading
import time
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from werkzeug.test import create_environ
from werkzeug.wrappers import Request, Response

from sse_threaded import HistoryGone, Hub, HubClosed, InvalidEvent, LogUnavailable
from sse_threaded.fanout.attendance import Attendance, Moves
from sse_threaded.fanout.presence_port import PresencePort
from sse_threaded.log.retention import MESSAGES
from sse_threaded.presence import gossip
from sse_threaded.presence.directory import Directory
from sse_threaded.presence.times import PresenceTimes
from sse_threaded.testing import EventStreamClient, LiveServer, request
from tests.harness.warm_python import run_python
from tests.support import enter, sqlite_url, temporary_directory, wait_until

# Short times, so that nothing takes long. The code is the same.
QUICK = PresenceTimes(grace=0.5, batch=0.02, between_counts=0.1, beat=0.2, sync=0.5, answer=0.05)
# With these, nobody leaves during a test, unless that is said.
PATIENT = QUICK._replace(grace=600.0)


def make_hub(
    test: unittest.TestCase, url: str | Path = "memory://", times: PresenceTimes = QUICK, **options: Any
) -> Hub:
    """A hub, closed after the test."""
    hub = enter(test, Hub(url, **options))
    hub._presence.times = times
    return hub


def serve(test: unittest.TestCase, hub: Hub) -> str:
    """The URL of an app with streams: ``/room,hall?user=anna``, and ``&presence=hidden`` or ``no``."""

    @Request.application
    def app(web: Request) -> Response:
        presence = {"hidden": "hidden", "no": False}.get(web.args.get("presence", ""), True)
        return hub.stream(web, web.path.strip("/").split(","), user=web.args.get("user"), presence=presence)  # type: ignore[arg-type]

    return enter(test, LiveServer(app)).url


class Page:
    """A client that knows who is there, as a page would.

    :ivar blocks: the data of all events about presence.
    :ivar people: for each channel, who is there.
    """

    def __init__(self, test: unittest.TestCase, url: str) -> None:
        self.client = enter(test, EventStreamClient(url, timeout=20))
        self.blocks: list[dict[str, Any]] = []
        self.people: dict[str, set[str]] = {}

    def read(self) -> dict[str, Any]:
        event = self.client.next_event()
        if event.event != "stream-presence":
            raise AssertionError(f"another event: {event}")
        block: dict[str, Any] = json.loads(event.data)
        self.blocks.append(block)
        if "people" in block:
            self.people[block["channel"]] = set(block["people"] or ())
        else:
            people = self.people[block["channel"]]
            if people & set(block["joined"]) or not people >= set(block["left"]):
                raise AssertionError(f"a change that does not fit: {block} to {people}")
            people |= set(block["joined"])
            people -= set(block["left"])
        return block

    def wait_for(self, *people: str, channel: str = "room") -> None:
        while self.people.get(channel) != set(people):
            self.read()

    def close(self) -> None:
        self.client.close()


class PageTest(unittest.TestCase):
    """What clients get."""

    def test_first_comes_the_list_and_then_the_changes(self) -> None:
        url = serve(self, make_hub(self))
        anna = Page(self, f"{url}/room?user=anna")
        anna.wait_for("anna")
        bo = Page(self, f"{url}/room?user=bo")
        self.assertEqual(set(bo.read()), {"channel", "people", "count"})
        bo.wait_for("anna", "bo")
        anna.wait_for("anna", "bo")
        self.assertEqual(anna.blocks[-1], {"channel": "room", "joined": ["bo"], "left": [], "count": 2})
        bo.close()
        anna.wait_for("anna")
        self.assertEqual(anna.blocks[-1], {"channel": "room", "joined": [], "left": ["bo"], "count": 1})

    def test_a_user_who_polls_is_listed_again_after_a_disconnection(self) -> None:
        hub = make_hub(self)
        stop = threading.Event()

        def poll() -> None:
            while not stop.is_set():
                environ = create_environ("/", query_string="wait=0.1", headers={"Accept": "application/json"})
                hub.stream({**environ, "wsgi.multithread": True}, "room", user="anna", presence=True).close()

        poller = threading.Thread(target=poll)
        poller.start()
        self.addCleanup(poller.join)
        self.addCleanup(stop.set)
        wait_until(lambda: hub.presence("room") == ["anna"])
        hub.disconnect(user="anna")
        time.sleep(0.5)  # the disconnection is a moment ago, and polls go on
        wait_until(lambda: hub.presence("room") == ["anna"])

    def test_many_disconnections_leave_nothing_behind(self) -> None:
        directory = Directory()
        for number in range(1000):
            directory.remove(f"user {number}", None, float(number))
        self.assertLess(len(directory._removals), 10)

    def test_after_a_defect_pages_are_right_again(self) -> None:
        hub = make_hub(self)
        url = serve(self, hub)
        anna, bo = Page(self, f"{url}/room?user=anna"), Page(self, f"{url}/room?user=bo")
        for page in (anna, bo):
            page.wait_for("anna", "bo")
        real, failed = gossip._Session._notices, threading.Event()

        def fail_once(session: gossip._Session, now: float) -> Any:
            if failed.is_set():
                return real(session, now)
            failed.set()
            raise RuntimeError("a defect")

        quick = mock.patch.object(gossip, "_AFTER_DEFECT", 0.01)
        with (
            quick,
            mock.patch.object(gossip._Session, "_notices", fail_once),
            self.assertLogs("sse_threaded", "ERROR"),
        ):
            Page(self, f"{url}/room?user=cy")
            self.assertTrue(failed.wait(10))
            bo.close()
            while True:  # its list may have been made before the defect, so only a whole one counts
                block = anna.read()
                if block.get("people") == ["anna", "cy"] or anna.people["room"] == {"anna", "cy"}:
                    break

    def test_a_use_at_the_idle_end_begins_a_session(self) -> None:
        hub = make_hub(self, times=QUICK._replace(idle=0.2))
        hub.presence("room")
        entered, released = threading.Event(), threading.Event()

        def is_shown(port: PresencePort) -> bool:
            entered.set()
            released.wait(10)
            return False

        with mock.patch.object(PresencePort, "is_shown", property(is_shown)):
            self.assertTrue(entered.wait(10))  # between the look at the last use and the end of the session
            opener = threading.Thread(target=hub._presence.start)
            opener.start()
            opener.join(0.2)
            released.set()
            opener.join(10)
        url = serve(self, hub)
        Page(self, f"{url}/room?user=anna").wait_for("anna")

    def test_the_position_of_a_client_does_not_move(self) -> None:
        hub = make_hub(self)
        url = serve(self, hub)
        anna = Page(self, f"{url}/room?user=anna")
        event_id = hub.publish("room", "one")
        seen = []
        while "one" not in seen:
            seen.append(anna.client.next_event().data)
        Page(self, f"{url}/room?user=bo").wait_for("anna", "bo")
        anna.client.wait_for(anna.client.has_events)
        self.assertEqual(anna.client.last_event_id, event_id)
        for block in anna.client.raw.decode().split("\n\n"):
            self.assertFalse("stream-presence" in block and "id:" in block, block)

    def test_several_tabs_are_one_person(self) -> None:
        hub = make_hub(self)
        url = serve(self, hub)
        tabs = [Page(self, f"{url}/room?user=anna") for _ in range(3)]
        watcher = Page(self, f"{url}/room?user=w")
        watcher.wait_for("anna", "w")
        for tab in tabs[:2]:
            tab.close()
        wait_until(lambda: hub.streams == 2)
        Page(self, f"{url}/room?user=bo")
        watcher.wait_for("anna", "bo", "w")
        self.assertEqual([block for block in watcher.blocks if block.get("left")], [])
        tabs[2].close()
        watcher.wait_for("bo", "w")

    def test_a_page_that_is_loaded_again_shows_nobody_leaving(self) -> None:
        hub = make_hub(self, times=QUICK._replace(grace=5.0))
        url = serve(self, hub)
        watcher = Page(self, f"{url}/room?user=w")
        watcher.wait_for("w")
        anna = Page(self, f"{url}/room?user=anna")
        watcher.wait_for("anna", "w")
        for _ in range(3):
            anna.close()
            wait_until(lambda: hub.streams == 1)
            anna = Page(self, f"{url}/room?user=anna")
            anna.wait_for("anna", "w")
        Page(self, f"{url}/room?user=last")
        watcher.wait_for("anna", "last", "w")
        told = [user for block in watcher.blocks for user in (*block.get("joined", ()), *block.get("left", ()))]
        self.assertEqual(told.count("anna"), 1)

    def test_each_channel_has_a_list(self) -> None:
        url = serve(self, make_hub(self))
        both = Page(self, f"{url}/room,hall?user=both")
        one = Page(self, f"{url}/hall?user=one")
        both.wait_for("both")
        both.wait_for("both", "one", channel="hall")
        one.wait_for("both", "one", channel="hall")
        self.assertEqual(set(one.people), {"hall"})

    def test_with_the_names_of_channels(self) -> None:
        url = serve(self, make_hub(self))
        anna = Page(self, f"{url}/room?user=anna&withChannel=1")
        Page(self, f"{url}/room?user=bo")
        anna.wait_for("anna", "bo")

    def test_who_is_hidden_sees_and_is_not_seen(self) -> None:
        hub = make_hub(self)
        url = serve(self, hub)
        anna = Page(self, f"{url}/room?user=anna")
        ghost = Page(self, f"{url}/room?user=ghost&presence=hidden")
        nameless = Page(self, f"{url}/room?presence=hidden")
        Page(self, f"{url}/room?user=bo")
        for page in (anna, ghost, nameless):
            page.wait_for("anna", "bo")
        self.assertNotIn("ghost", json.dumps(anna.blocks))
        self.assertEqual(hub.presence("room"), ["anna", "bo"])

    def test_a_user_alone_neither_sees_nor_is_seen(self) -> None:
        hub = make_hub(self)
        url = serve(self, hub)
        plain = Page(self, f"{url}/room?user=plain&presence=no")
        anna = Page(self, f"{url}/room?user=anna")
        anna.wait_for("anna")
        hub.publish("room", "one")
        self.assertEqual(plain.client.next_event().data, "one")
        self.assertNotIn("plain", json.dumps(anna.blocks))

    def test_of_many_people_the_number(self) -> None:
        hub = make_hub(self, times=PATIENT)
        url = serve(self, hub)
        anna = Page(self, f"{url}/room?user=anna")
        anna.wait_for("anna")
        attendance = hub._pump.presence.attendance
        for number in range(1500):
            attendance.enter(f"u{number}", ["room"])
        while anna.blocks[-1]["count"] < 1501:
            anna.read()
        self.assertEqual(anna.blocks[-1], {"channel": "room", "people": None, "count": 1501})
        late = Page(self, f"{url}/room?user=late")
        self.assertIsNone(late.read()["people"])
        wait_until(lambda: hub.presence_count("room") == 1502)
        self.assertEqual(len(hub.presence("room")), 1502)
        self.assertLess(len(anna.blocks), 50)

    def test_a_stream_that_its_server_closes(self) -> None:
        hub = make_hub(self)
        environ = {"REQUEST_METHOD": "GET", "wsgi.multithread": True}
        response = hub.stream(environ, "room", user="anna", presence=True)
        next(iter(response.response))
        next(iter(response.response))
        wait_until(lambda: hub.presence("room") == ["anna"])
        response.close()
        wait_until(lambda: hub.presence("room") == [])

    def test_a_disconnected_user_is_gone_at_once(self) -> None:
        hub = make_hub(self, times=PATIENT)
        attendance = hub._pump.presence.attendance
        leave = mock.patch.object(attendance, "leave", wraps=attendance.leave).start()
        self.addCleanup(mock.patch.stopall)
        url = serve(self, hub)
        anna = Page(self, f"{url}/room?user=anna")
        bo = Page(self, f"{url}/room?user=bo")
        anna.wait_for("anna", "bo")
        hub.disconnect(user="bo")
        anna.wait_for("anna")
        bo.client.wait_for_end()
        self.assertEqual(hub.presence("room"), ["anna"])
        leave.assert_called_once_with("bo", ("room",), was_removed=True)

    def test_a_long_poll_counts(self) -> None:
        hub = make_hub(self)
        url = serve(self, hub)
        anna = Page(self, f"{url}/room?user=anna")
        headers = {"Accept": "application/json"}
        answers: list[Any] = []

        def poll() -> None:
            answers.append(request("GET", f"{url}/room?user=bo&wait=30", headers=headers, timeout=60).json())

        thread = threading.Thread(target=poll)
        thread.start()
        anna.wait_for("anna", "bo")
        hub.publish("room", "one")
        thread.join(30)
        self.assertEqual([event["data"] for event in answers[0]["events"]], ["one"])
        wait_until(lambda: hub.presence("room") == ["anna"], message="bo polls no more")

    def test_a_long_poll_is_not_ended_by_people_who_come(self) -> None:
        hub = make_hub(self, times=PATIENT)
        url = serve(self, hub)
        answers: list[Any] = []

        def poll() -> None:
            headers = {"Accept": "application/json"}
            answers.append(request("GET", f"{url}/room?user=bo&wait=30", headers=headers, timeout=60).json())

        thread = threading.Thread(target=poll)
        thread.start()
        wait_until(lambda: hub.streams == 1)
        Page(self, f"{url}/room?user=anna").wait_for("anna", "bo")
        hub.publish("room", "one")
        thread.join(30)
        self.assertEqual(len(answers[0]["events"]), 1)


class ProcessesTest(unittest.TestCase):
    """Several hubs on one log stand for several processes."""

    def setUp(self) -> None:
        self.url = sqlite_url(temporary_directory(self))

    def test_all_agree(self) -> None:
        hubs = [make_hub(self, self.url, PATIENT) for _ in range(3)]
        pages = [Page(self, f"{serve(self, hub)}/room?user=u{number}") for number, hub in enumerate(hubs)]
        for page in pages:
            page.wait_for("u0", "u1", "u2")
        for hub in hubs:
            self.assertEqual(hub.presence("room"), ["u0", "u1", "u2"])
            self.assertEqual(hub.presence_count("room"), 3)
            self.assertEqual(hub.presence("empty"), [])

    def test_a_process_without_streams_can_ask(self) -> None:
        Page(self, f"{serve(self, make_hub(self, self.url))}/room?user=anna").wait_for("anna")
        self.assertEqual(make_hub(self, self.url).presence("room"), ["anna"])

    def test_a_hub_that_is_closed_says_so_and_its_people_have_their_time(self) -> None:
        first, second = make_hub(self, self.url, PATIENT), make_hub(self, self.url, PATIENT)
        watcher = Page(self, f"{serve(self, second)}/room?user=w")
        Page(self, f"{serve(self, first)}/room?user=anna")
        watcher.wait_for("anna", "w")
        first.close()
        data = [record.data for record in second.log.read(0, channels=[MESSAGES]) if '"bye"' in record.data]
        self.assertEqual(len(data), 1)
        self.assertEqual(second.presence("room"), ["anna", "w"])
        third = make_hub(self, self.url, PATIENT)
        self.assertEqual(third.presence("room"), ["anna", "w"])
        self.assertRaises(HubClosed, first.presence, "room")

    def test_a_process_that_is_silent_has_died(self) -> None:
        first, second = make_hub(self, self.url), make_hub(self, self.url)
        watcher = Page(self, f"{serve(self, second)}/room?user=w")
        Page(self, f"{serve(self, first)}/room?user=anna")
        watcher.wait_for("anna", "w")
        with mock.patch.object(first.log, "append", side_effect=LogUnavailable("", "for the test")):
            watcher.wait_for("w")
            self.assertEqual(second.presence("room"), ["w"])
        watcher.wait_for("anna", "w")

    def test_after_a_gap_in_the_log_a_process_begins_again_and_keeps_the_people(self) -> None:
        hub = make_hub(self, times=PATIENT)
        Page(self, f"{serve(self, hub)}/room?user=anna").wait_for("anna")
        session = hub._presence._session
        assert session is not None
        before = session._member.name
        read, gaps = hub.log.read, [HistoryGone("expired")]

        def read_with_gap(*arguments: Any, **options: Any) -> Any:
            if gaps:
                raise gaps.pop()
            return read(*arguments, **options)

        with mock.patch.object(hub.log, "read", read_with_gap):
            hub.publish("news", "one")
            wait_until(lambda: session._member.name != before and session._member.is_synced)
        self.assertEqual(hub.presence("room"), ["anna"])

    def test_a_log_that_cannot_be_written_is_told(self) -> None:
        hub = make_hub(self, self.url, QUICK._replace(sync=0.05))
        with (
            mock.patch.object(hub.log, "append", side_effect=LogUnavailable(self.url, "for the test")),
            mock.patch("sse_threaded.presence.gossip._PATIENCE", 0.2),
            self.assertLogs("sse_threaded.presence.gossip", logging.WARNING),
            self.assertRaises(LogUnavailable),
        ):
            hub.presence("room")
        self.assertEqual(hub.presence("room"), [])

    def test_a_message_of_a_later_release_is_ignored_with_one_warning(self) -> None:
        hub = make_hub(self, self.url)
        hub.presence("room")
        with self.assertLogs("sse_threaded.presence.gossip", logging.WARNING) as logs:
            for _ in range(3):
                hub.log.append(MESSAGES, '{"v":2,"type":"hello","from":"x","n":1,"at":1.0}')
            hub.log.append(MESSAGES, '{"v":1,"type":"later","from":"x","n":1,"at":1.0}')
            Page(self, f"{serve(self, hub)}/room?user=anna").wait_for("anna")
        self.assertEqual(len(logs.output), 1)


class CostTest(unittest.TestCase):
    """Nothing runs, and nothing is written, while nobody uses presence."""

    def names(self) -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "sse_threaded presence"]

    def test_without_presence_there_is_no_thread_and_no_message(self) -> None:
        hub = make_hub(self)
        before = len(self.names())
        page = Page(self, f"{serve(self, hub)}/room?user=anna&presence=no")
        hub.publish("room", "one")
        self.assertEqual(page.client.next_event().data, "one")
        self.assertEqual(len(self.names()), before)
        self.assertEqual(hub.log.last_sequence(), 1)

    def test_some_time_after_the_last_use_it_ends(self) -> None:
        hub = make_hub(self, times=PATIENT._replace(idle=0.2))
        page = Page(self, f"{serve(self, hub)}/room?user=anna")
        page.wait_for("anna")
        session = hub._presence._session
        assert session is not None
        # Not while somebody is there.
        last = hub.log.last_sequence()
        wait_until(lambda: hub.log.last_sequence() > last + 3, message="beats")
        self.assertIs(hub._presence._session, session)
        page.close()
        wait_until(lambda: not session._thread.is_alive(), message="the end of the thread")
        self.assertIn('"bye"', hub.log.read(0, channels=[MESSAGES])[-1].data)
        self.assertEqual(hub.presence("room"), ["anna"])  # a new session reads the farewell

    def test_while_a_page_shows_the_people_it_does_not_end(self) -> None:
        hub = make_hub(self, times=QUICK._replace(idle=0.1))
        ghost = Page(self, f"{serve(self, hub)}/room?presence=hidden")
        ghost.wait_for()
        session = hub._presence._session
        last = hub.log.last_sequence()
        wait_until(lambda: hub.log.last_sequence() > last + 3, message="beats")
        self.assertIs(hub._presence._session, session)

    def test_no_message_is_kept_for_a_replay(self) -> None:
        hub = make_hub(self)
        Page(self, f"{serve(self, hub)}/room?user=anna").wait_for("anna")
        recent = hub._pump._registry._recent
        self.assertEqual(list(recent._records), [])
        wait_until(lambda: recent._newest == hub._pump.position > 0)

    def test_nobody_can_subscribe_to_the_messages(self) -> None:
        hub = make_hub(self)
        self.assertRaises(InvalidEvent, hub.stream, {"REQUEST_METHOD": "GET"}, MESSAGES)
        self.assertRaises(InvalidEvent, hub.publish, MESSAGES, "x")

    def test_the_child_of_a_fork_begins_anew(self) -> None:
        code = """
import os, sys, threading
from sse_threaded import Hub
hub = Hub(sys.argv[1])
hub.presence("room")
child = os.fork()
if not child:
    status = 1
    try:
        hub._pump.presence.attendance.enter("anna", ["room"])
        while hub.presence("room") != ["anna"]:
            pass
        status = 0
    finally:
        hub.close()
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
while hub.presence("room") != ["anna"]:
    pass
hub.close()
"""
        done = run_python(code, sqlite_url(temporary_directory(self)))
        self.assertEqual(done.returncode, 0, done.stderr)


class ArgumentsTest(unittest.TestCase):
    def test_wrong_arguments(self) -> None:
        hub = make_hub(self, secret="not secret")
        environ = {"REQUEST_METHOD": "GET", "wsgi.multithread": True}
        for user in (None, "", "x" * 256, "\ud800"):
            with self.subTest(user=user), self.assertRaises(ValueError):
                hub.stream(dict(environ), "room", user=user, presence=True)
        ticket = hub.ticket("room")
        with self.assertRaisesRegex(ValueError, "user="):
            hub.stream(environ | {"QUERY_STRING": f"ticket={ticket}"}, presence=True)
        with self.assertRaisesRegex(ValueError, "hidden"):
            hub.stream(dict(environ), "room", user="anna", presence="shown")  # type: ignore[arg-type]
        self.assertRaises(InvalidEvent, hub.presence, "")
        self.assertRaises(InvalidEvent, hub.presence_count, MESSAGES)


class AttendanceTest(unittest.TestCase):
    def setUp(self) -> None:
        self.calls = 0
        self.attendance = Attendance(hold=0.0)
        self.attendance.on_change = self.count

    def count(self) -> None:
        self.calls += 1

    def test_each_is_told_once(self) -> None:
        self.assertTrue(self.attendance.is_empty)
        for _ in range(3):
            self.attendance.enter("anna", ["room", "hall"])
        self.assertFalse(self.attendance.is_empty)
        self.assertEqual(self.calls, 1)
        self.assertEqual(self.attendance.take(), Moves([], [("room", "anna"), ("hall", "anna")]))
        self.assertEqual(self.attendance.take(), Moves([], []))
        for _ in range(3):
            self.assertEqual(self.attendance.take(), Moves([], []))
            self.attendance.leave("anna", ["room", "hall"])
        self.assertEqual(self.calls, 2)
        self.assertEqual(self.attendance.take(), Moves([("room", "anna"), ("hall", "anna")], []))
        self.assertTrue(self.attendance.is_empty)

    def test_who_comes_and_goes_at_once_is_not_told(self) -> None:
        self.attendance.enter("anna", ["room"])
        self.attendance.leave("anna", ["room"])
        self.assertEqual(self.attendance.take(at_end=True), Moves([], []))

    def test_who_comes_back_soon_is_not_told(self) -> None:
        attendance = Attendance(hold=600.0)
        attendance.enter("anna", ["room"])
        attendance.take()
        attendance.leave("anna", ["room"])
        self.assertEqual(attendance.take(), Moves([], []))
        attendance.enter("anna", ["room"])
        self.assertEqual(attendance.take(at_end=True), Moves([], []))
        attendance.leave("anna", ["room"])
        self.assertEqual(attendance.take(at_end=True), Moves([("room", "anna")], []))

    def test_who_was_disconnected_and_comes_back_is_told_in_that_order(self) -> None:
        attendance = Attendance(hold=600.0)
        attendance.enter("anna", ["room"])
        attendance.take()
        attendance.leave("anna", ["room"], was_removed=True)
        attendance.enter("anna", ["room"])
        self.assertEqual(attendance.take(), Moves([("room", "anna")], [("room", "anna")]))

    def test_all_people(self) -> None:
        self.attendance.enter("anna", ["room"])
        self.attendance.enter("bo", ["room"])
        self.attendance.leave("bo", ["room"])
        self.assertEqual(self.attendance.take_all(), [("room", "anna")])
        self.assertEqual(self.attendance.take(at_end=True), Moves([], []))


if __name__ == "__main__":
    unittest.main()
