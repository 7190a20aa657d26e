"""What live.js must do in every browser, as tests: ``test_live.py`` and ``test_live_firefox.py`` run them."""

from __future__ import annotations

import itertools
import random
import threading
import unittest
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, LiveServer
from tests.harness.live_page import LiveApp, path_of
from tests.harness.live_tabs import Published, Tabs, close_all
from tests.support import enter, has_failed, wait_until

# Another tab leads within two seconds. Tests wait longer, as a machine under load is slow.
SECONDS = 20

STATE = "live.state"

# A page goes into the back/forward cache, and returns after so many milliseconds.
LEAVE_AND_RETURN = """
dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
setTimeout(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })), arguments[0]);
"""


class Case(unittest.TestCase):
    """A hub in memory behind a server, and tabs with pages on it."""

    tabs: Tabs
    hub: Hub

    def setUp(self) -> None:
        self.opened: list[str] = []
        self.hub = enter(self, self.make_hub())
        self.app = LiveApp(self.hub)
        self.server = enter(self, LiveServer(self.app))
        self.addCleanup(lambda: close_all(self.tabs, self.opened))
        self.addCleanup(self.show_pages)

    def make_hub(self, **settings: Any) -> Hub:
        return Hub(**{"heartbeat": 0.3, "retry": 200, **settings})

    def show_pages(self) -> None:
        """Where a test has failed: show what each page says."""
        if not has_failed(self):
            return
        script = "return JSON.stringify([live.state, live.detail, live.leads, document.hidden, got, told])"
        for tab in self.opened:
            try:
                print(tab, self.tabs.run(tab, script)[:2000])  # noqa: T201
            except Exception as error:
                print(tab, repr(error)[:200])  # noqa: T201

    def open(self, *channels: str, path: str | None = None, server: str | None = None, **options: Any) -> str:
        """Open a page that shows everything up to now, as a server would render it; returns its tab."""
        options.setdefault("lastEventId", self.hub.log.last_event_id())
        tab = self.tabs.open((server or self.server.url) + (path or path_of(*channels, **options)))
        self.opened.append(tab)
        self.tabs.wait(tab, "window.ready")
        return tab

    def close(self, tab: str) -> None:
        self.opened.remove(tab)
        self.tabs.close(tab)

    def wait_live(self, *tabs: str) -> None:
        for tab in tabs:
            self.tabs.wait(tab, f"{STATE} === 'live'")

    def leader(self, tabs: list[str]) -> str:
        leading = [tab for tab in tabs if self.tabs.value(tab, "live.leads")]
        self.assertEqual(len(leading), 1)
        return leading[0]

    def wait_streams(self, number: int) -> None:
        wait_until(lambda: self.hub.streams == number, timeout=SECONDS, message=f"{number} streams")

    def published(self, *channels: str) -> Published:
        return Published(lambda channel: self.hub.publish(channel, "x"), *channels)

    def wait_has(self, tab: str, ids: list[str], channel: str = "a") -> None:
        """Wait for the last of these ids; then the tab has just these."""
        self.tabs.wait(tab, "got[arguments[0]].at(-1) === arguments[1]", channel, ids[-1], timeout=SECONDS)
        self.assertEqual(self.tabs.value(tab, "got[arguments[0]]", channel), ids)

    def told(self, tab: str, kind: str) -> list[Any]:
        found: list[Any] = self.tabs.value(tab, "told.filter(([type]) => type === arguments[0])", kind)
        return [detail for _, detail in found]


class Scenarios(Case):
    """What every browser must do.

    :cvar keeps_pages: whether the browser keeps such a page in its back/forward cache. Firefox keeps none that has
        a lock or a request at the time.
    """

    keeps_pages: bool

    def check_loss_of_leader(self, lose: Any, number: int = 4) -> None:
        """Lose the tab that leads while events are published; the others have each event once.

        :param lose: loses a tab; returns a context in which it is lost.
        """
        tabs = [self.open("a") for _ in range(number)]
        self.wait_live(*tabs)
        events = self.published("a")
        leader = self.leader(tabs)
        others = [tab for tab in tabs if tab != leader]
        self.tabs.show(others[-1])
        events.many(5)
        for tab in others:
            self.wait_has(tab, events.ids["a"])
        stop = threading.Event()

        def publish() -> None:
            while not stop.wait(0.02):
                events.once()

        thread = threading.Thread(target=publish)
        thread.start()
        with ExitStack() as stack:
            stack.callback(thread.join)
            stack.callback(stop.set)
            stack.enter_context(lose(leader))
            self.tabs.show(others[-1])  # a person looks at one of them
            lost_at = len(events.ids["a"])
            for tab in others:
                # One that was published after the loss.
                self.tabs.wait(tab, "got.a.length > arguments[0] + 3", lost_at, timeout=SECONDS)
            stop.set()
            thread.join()
            events.once()
            for tab in others:
                self.wait_has(tab, events.ids["a"])
        self.wait_live(*others)
        self.wait_streams(1)

    def test_ten_tabs_have_one_stream_and_each_event_once(self) -> None:
        tabs = [self.open("a") for _ in range(10)]
        self.wait_live(*tabs)
        self.wait_streams(1)
        events = self.published("a")
        events.many(50, 0.001)
        for tab in tabs:
            self.wait_has(tab, events.ids["a"])
        self.assertEqual(self.hub.streams, 1)
        leader = self.leader(tabs)
        self.close(leader)
        tabs.remove(leader)
        events.once()
        for tab in tabs:
            self.wait_has(tab, events.ids["a"])
        self.wait_live(*tabs)
        self.wait_streams(1)

    def test_the_leader_is_closed(self) -> None:
        def lose(tab: str) -> ExitStack:
            self.close(tab)
            return ExitStack()

        self.check_loss_of_leader(lose)

    def test_the_leader_crashes(self) -> None:
        def lose(tab: str) -> ExitStack:
            self.tabs.crash(tab)
            return ExitStack()

        self.check_loss_of_leader(lose)

    def test_the_leader_hangs(self) -> None:
        leader = ""

        def lose(tab: str) -> Any:
            nonlocal leader
            leader = tab
            return self.tabs.stopped(tab)

        self.check_loss_of_leader(lose)
        # When it goes on, it follows, and has what it missed.
        self.tabs.wait(leader, "!live.leads && live.state === 'live'")
        last = self.hub.publish("a", "x")
        self.tabs.wait(leader, "got.a.at(-1) === arguments[0]", last)
        expected = [self.hub.log.event_id(record.sequence) for record in all_records(self.hub)]
        self.assertEqual(self.tabs.value(leader, "got.a"), expected)

    def test_tabs_with_different_channels_share_one_stream(self) -> None:
        first, second = self.open("a"), self.open("b", "c")
        self.wait_live(first, second)
        events = self.published("a", "b", "c", "d")
        events.many(5)
        self.wait_has(first, events.ids["a"])
        for channel in ("b", "c"):
            self.wait_has(second, events.ids[channel], channel)
        self.assertEqual(self.tabs.value(first, "Object.keys(got)"), ["a"])
        self.wait_streams(1)
        # Later a tab subscribes to another channel, whose state it has just loaded.
        position = self.hub.log.last_event_id()
        self.tabs.run(first, "add('d', arguments[0])", position)
        before = len(events.ids["d"])
        events.many(5)
        self.wait_has(first, events.ids["d"][before:], "d")
        self.wait_has(first, events.ids["a"])
        for channel in ("b", "c"):
            self.wait_has(second, events.ids[channel], channel)
        self.wait_streams(1)

    def test_an_older_page_gets_what_it_lacks_and_a_newer_one_no_more(self) -> None:
        events = self.published("a", "b")
        start = self.hub.log.last_event_id()
        events.many(300, 0)
        middle, number = self.hub.log.last_event_id(), len(events.ids["a"])
        leader = self.open("a", lastEventId=middle)
        self.wait_live(leader)
        old = self.open("a", lastEventId=start)
        self.wait_live(old)
        self.wait_has(old, events.ids["a"])
        events.many(3)
        self.wait_has(old, events.ids["a"])
        self.wait_has(leader, events.ids["a"][number:])
        other = self.open("b", lastEventId=start)
        self.wait_has(other, events.ids["b"], "b")
        newest, number = self.hub.log.last_event_id(), len(events.ids["b"])
        new = self.open("a", "b", lastEventId=newest)
        self.wait_live(new)
        events.many(3)
        for channel in ("a", "b"):
            self.wait_has(new, events.ids[channel][number:], channel)
        self.wait_has(leader, events.ids["a"][300:])

    def test_whatever_tabs_do_none_loses_or_doubles_an_event(self) -> None:
        chance = random.Random(self.seed())
        events = self.published("a", "b", "c")
        stop = threading.Event()

        def publish() -> None:
            while not stop.wait(0.005):
                events.once()

        thread = threading.Thread(target=publish)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)
        tabs: dict[str, dict[str, str]] = {}
        for _ in range(20):
            old = chance.choice([*itertools.chain(*events.ids.values()), self.hub.log.last_event_id()])
            channels = chance.sample("abc", chance.randint(1, 3))
            if len(tabs) < 4:
                tab = self.open(*channels, lastEventId=old)
                tabs[tab] = dict.fromkeys(channels, old)
                continue
            tab = chance.choice([*tabs])
            (what,) = chance.choices(["close", "crash", "end", "hide", "subscribe"], [25, 10, 15, 15, 35])
            if what == "close":
                del tabs[tab]
                self.close(tab)
            elif what == "crash":
                del tabs[tab]
                self.opened.remove(tab)
                self.tabs.crash(tab)
                self.tabs.show(chance.choice([*tabs]))
            elif what == "end":
                self.hub.disconnect(channel=chance.choice("abc"))
            elif what == "hide":
                self.tabs.run(tab, LEAVE_AND_RETURN, chance.randint(0, 300))
            else:
                self.tabs.show(tab)
                for channel in set(channels) - set(tabs[tab]):
                    self.tabs.run(tab, "add(arguments[0], arguments[1])", channel, old)
                    tabs[tab][channel] = old
        stop.set()
        thread.join()
        events.once()
        numbers = {channel: [number_of(each) for each in ids] for channel, ids in events.ids.items()}
        for tab, positions in tabs.items():
            for channel, position in positions.items():
                after = [
                    each
                    for each, number in zip(events.ids[channel], numbers[channel], strict=True)
                    if number > number_of(position)
                ]
                self.wait_has(tab, after, channel)
        self.wait_streams(1)

    def seed(self) -> int:
        seed = random.randrange(10**6)
        self.addCleanup(lambda: print(f"seed {seed}") if has_failed(self) else None)  # noqa: T201
        return seed

    def test_a_server_that_begins_at_the_start(self) -> None:
        self.app.stream = lambda web, channels: self.hub.stream(web, channels, from_start=True)
        events = self.published("a", "b")
        events.many(3)
        first, second = self.open("a", lastEventId=""), self.open("a", "b", lastEventId="")
        events.many(3)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"])
        self.wait_has(second, events.ids["b"], "b")
        self.wait_streams(1)

    def test_pages_without_a_position_have_what_comes_after(self) -> None:
        events = self.published("a")
        events.many(3)
        first, second = self.open("a", lastEventId=""), self.open("a", lastEventId="")
        self.wait_live(first, second)
        events.once()
        for tab in (first, second):
            self.tabs.wait(tab, "got.a.length")
        events.many(3)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"][3:])

    def test_a_tab_leaves_and_returns_from_the_back_forward_cache(self) -> None:
        stays, leaves = self.open("a"), self.open("a")
        self.wait_live(stays, leaves)
        self.assertTrue(self.tabs.value(stays, "live.leads"))
        self.tabs.run(stays, "window.shown = []; addEventListener('pageshow', (e) => shown.push(e.persisted))")
        self.tabs.load(stays, self.server.url + "/empty")
        self.tabs.wait(leaves, "live.leads")
        events = self.published("a")
        events.many(5)
        self.tabs.back(stays)
        self.tabs.wait(stays, "window.live?.state === 'live'")
        self.assertEqual(self.tabs.value(stays, "Boolean(window.shown?.[0])"), self.keeps_pages)
        self.wait_has(stays, events.ids["a"])  # a page that is loaded again has the old id in its URL
        self.wait_has(leaves, events.ids["a"])
        self.wait_streams(1)


class EventsCase(Case):
    """What the client says about itself. One browser is enough for these."""

    def test_a_refused_channel_leaves_the_others_alone(self) -> None:
        first = self.open("a")
        self.wait_live(first)
        second = self.open("secret-1", "b", "secret-2", "x" * 256, "sse_threaded:x")
        self.tabs.wait(second, "told.some(([type]) => type === 'refused')")
        (refused,) = self.told(second, "refused")
        names = sorted(["secret-1", "secret-2", "x" * 256, "sse_threaded:x"])
        self.assertEqual((refused["status"], sorted(refused["channels"])), (403, names))
        self.assertIn("may not read these channels", refused["detail"])
        events = self.published("a", "b")
        events.many(3)
        self.wait_has(first, events.ids["a"])
        self.wait_has(second, events.ids["b"], "b")
        self.assertEqual(self.told(first, "refused"), [])
        self.wait_live(first, second)
        self.wait_streams(1)

    def test_more_channels_than_a_url_can_have(self) -> None:
        channels = [f"channel-{number:03}" for number in range(250)]
        tab = self.open(*channels, lastEventId="")
        self.tabs.wait(tab, "told.some(([type]) => type === 'refused')")
        (refused,) = self.told(tab, "refused")
        self.assertEqual(refused["status"], 414)
        self.assertIn("250 channels is too long", refused["detail"])
        self.wait_live(tab)
        fitting = channels[: -len(refused["channels"])]
        self.assertGreater(len(fitting), 150)
        self.assertEqual(sorted(refused["channels"]), channels[len(fitting) :])
        self.assertLess(max(len(query) for query, _ in self.app.requests), 4050)
        self.hub.publish(fitting[-1], "x")
        self.tabs.wait(tab, "got[arguments[0]].length === 1", fitting[-1])

    def test_everything_is_refused_until_somebody_logs_in(self) -> None:
        refuses = True

        def stream(web: Request, channels: list[str]) -> Response:
            return Response("no", 401) if refuses else self.hub.stream(web, channels)

        self.app.stream = stream
        first = self.open("a")
        self.tabs.wait(first, f"{STATE} === 'refused'")
        self.assertEqual(self.told(first, "refused")[0]["status"], 401)
        asked = len(self.app.requests)
        refuses = False
        second = self.open("a")
        self.wait_live(first, second)
        self.assertGreater(len(self.app.requests), asked)

    def test_a_login_page_in_place_of_the_stream(self) -> None:
        self.app.stream = lambda web, channels: Response("log in", mimetype="text/html")
        tab = self.open("a")
        self.tabs.wait(tab, f"{STATE} === 'refused'")
        self.assertIn("login page", self.tabs.value(tab, "live.detail"))

    def test_a_reset_comes_once_to_each_tab(self) -> None:
        first, second = self.open("a"), self.open("a", "b")
        self.wait_live(first, second)
        events = self.published("a")
        events.many(3)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"])
        old, self.app.hub = self.hub, enter(self, self.make_hub())
        self.app.stream = self.app.hub.stream
        old.close()
        for tab in (first, second):
            self.tabs.wait(tab, "told.some(([type]) => type === 'reset')", timeout=SECONDS)
        self.wait_live(first, second)
        last = self.app.hub.publish("a", "x")
        for tab, channels in ((first, ["a"]), (second, ["a", "b"])):
            self.tabs.wait(tab, "got.a.at(-1) === arguments[0]", last)
            self.assertEqual(self.tabs.value(tab, "got.a"), [*events.ids["a"], last])
            (reset,) = self.told(tab, "reset")
            self.assertEqual((reset["channels"], reset["reason"]), (channels, "epoch"))

    def test_a_page_with_an_id_of_another_log_is_told_to_load_again(self) -> None:
        first = self.open("a")
        self.wait_live(first)
        second = self.open("a", lastEventId="abcdef-5")
        self.tabs.wait(second, "told.some(([type]) => type === 'reset')")
        events = self.published("a")
        events.many(3)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"])
        self.assertEqual(self.told(first, "reset"), [])
        self.assertEqual(len(self.told(second, "reset")), 1)

    def test_a_channel_that_is_finished(self) -> None:
        first, second = self.open("a"), self.open("b")
        self.wait_live(first, second)
        self.hub.finish("a", {"result": 7})
        self.tabs.wait(first, "told.some(([type]) => type === 'finished')")
        (finished,) = self.told(first, "finished")
        self.assertEqual((finished["channel"], finished["data"]), ("a", '{"result":7}'))
        self.assertEqual(self.told(second, "finished"), [])
        events = self.published("b")
        events.many(3)
        self.wait_has(second, events.ids["b"], "b")
        self.hub.finish("b")
        for tab in (first, second):
            self.tabs.wait(tab, f"{STATE} === 'finished'")
        self.wait_streams(0)
        asked = len(self.app.requests)
        # A page that subscribes to another channel goes on with all.
        third = self.open("c")
        self.wait_live(first, second, third)
        self.assertGreater(len(self.app.requests), asked)

    def test_a_full_server_is_waited_for_and_asked_in_between(self) -> None:
        full = enter(self, self.make_hub(max_streams=0))
        self.app.stream = full.stream
        tab = self.open("a", lastEventId=full.log.last_event_id())
        self.tabs.wait(tab, f"{STATE} === 'waiting'")
        ids = [full.publish("a", "x") for _ in range(3)]
        self.wait_has(tab, ids)
        states = [each["state"] for each in self.told(tab, "state")]
        self.assertEqual(set(states), {"waiting"})
        self.assertEqual(len(self.told(tab, "overload")), 1)

    def test_notices_that_it_does_not_know_are_events(self) -> None:
        notice = b'event: stream-later\nchannel: "a"\ndata: {"joined":["ann"]}\n\n'

        def stream(web: Request, channels: list[str]) -> Response:
            response = self.hub.stream(web, channels)
            return Response(
                with_notice(response.iter_encoded(), notice), response.status_code, headers=response.headers
            )

        first, second = self.open("a"), self.open("a")
        self.wait_live(first, second)
        self.app.stream = stream
        self.tabs.run(first, "add('b')")
        for tab in (first, second):
            self.tabs.wait(tab, "told.some(([type]) => type === 'stream-later')")
            later = self.told(tab, "stream-later")[0]
            self.assertEqual((later["channel"], later["data"]), ("a", '{"joined":["ann"]}'))

    def test_a_stream_after_a_change_of_channels_is_watched_like_the_first(self) -> None:
        tab = self.open("a")
        self.wait_live(tab)
        released = threading.Event()
        self.addCleanup(released.set)

        def body() -> Iterator[bytes]:
            released.wait(60)
            yield b""

        def stream(web: Request, channels: list[str]) -> Response:
            if web.headers["Accept"] != "text/event-stream":
                return self.hub.stream(web, channels)
            return Response(body(), mimetype="text/event-stream")

        self.app.stream = stream
        self.tabs.run(tab, "add('b')")
        self.tabs.wait(tab, "live.state === 'polling'")
        event_id = self.hub.publish("b", "x")
        self.tabs.wait(tab, "got.b.at(-1) === arguments[0]", event_id)

    def test_each_tab_knows_the_users_on_its_channel(self) -> None:
        self.app.stream = lambda web, channels: self.hub.stream(
            web, channels, user=web.args.get("user", "anna"), presence=True
        )
        people = "live.people('a')?.people.join() === arguments[0] && live.people('a').count === arguments[1]"
        tabs = [self.open("a"), self.open("a")]
        for tab in tabs:
            self.tabs.wait(tab, people, "anna", 1)
        with EventStreamClient(f"{self.server.url}/events?channel=a&user=bo") as client:
            client.wait_for_retry()
            tabs.append(self.open("a"))  # its list comes from another tab
            for tab in tabs:
                self.tabs.wait(tab, people, "anna,bo", 2)
                self.tabs.wait(tab, "told.some(([type, { count }]) => type === 'people' && count === 2)")
            self.hub.disconnect(user="bo")
            for tab in tabs:
                self.tabs.wait(tab, people, "anna", 1)
        self.wait_streams(1)
        leader = self.leader(tabs)
        self.close(leader)
        tabs.remove(leader)
        self.wait_live(*tabs)
        for tab in tabs:
            self.tabs.wait(tab, people, "anna", 1)

    def test_a_handler_that_fails_stops_no_other(self) -> None:
        tab = self.open("a")
        self.tabs.run(tab, "live.subscribe('a', () => { throw new Error('mine'); }); add('a')")
        self.wait_live(tab)
        first = self.hub.publish("a", "x")
        second = self.hub.publish("a", "x")
        self.tabs.wait(tab, "got.a.length === 4")
        self.assertEqual(self.tabs.value(tab, "got.a"), [first, first, second, second])

    def test_who_has_unsubscribed_gets_no_more_and_without_any_there_is_no_stream(self) -> None:
        tab = self.open("a")
        self.wait_live(tab)
        self.tabs.run(tab, "window.leave = add('b')")
        self.wait_has(tab, [self.hub.publish("a", "x")])
        self.hub.publish("b", "x")
        self.tabs.wait(tab, "got.b.length === 1")
        self.tabs.run(tab, "leave()")
        self.hub.publish("b", "x")
        last = self.hub.publish("a", "x")
        self.tabs.wait(tab, "got.a.at(-1) === arguments[0]", last)
        self.assertEqual(self.tabs.value(tab, "got.b.length"), 1)
        self.tabs.run(tab, "live.close()")
        self.wait_streams(0)
        self.assertEqual(self.tabs.value(tab, STATE), "closed")

    def test_all_events_of_a_url(self) -> None:
        tab = self.open("", url="/all?lastEventId=" + self.hub.log.last_event_id(), lastEventId=None)
        self.wait_live(tab)
        ids = [self.hub.publish(channel, "x") for channel in ("a", "b", "a")]
        self.wait_has(tab, ids, "")
        self.assertTrue(all("channel=" not in query for query, _ in self.app.requests))

    def test_tabs_of_two_people_share_nothing(self) -> None:
        first, second = self.open("a", key="1"), self.open("a", key="2")
        self.wait_live(first, second)
        self.wait_streams(2)
        self.assertEqual([self.tabs.value(tab, "live.leads") for tab in (first, second)], [True, True])

    def test_without_sharing_each_tab_has_its_own_stream(self) -> None:
        first, second = self.open("a", shared=False), self.open("a", shared=False)
        self.wait_live(first, second)
        self.wait_streams(2)
        events = self.published("a")
        events.many(3)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"])

    def test_hidden_tabs_release_the_connection_and_have_all_when_shown(self) -> None:
        tab = self.open("a")
        self.wait_live(tab)
        hide = """
            window.isHidden = arguments[0];
            Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
            document.dispatchEvent(new Event("visibilitychange"));
        """
        self.tabs.run(tab, hide, True)
        self.tabs.wait(tab, f"{STATE} === 'paused'")
        self.wait_streams(0)
        events = self.published("a")
        events.many(3)
        self.tabs.run(tab, hide, False)
        self.wait_has(tab, events.ids["a"])
        self.wait_live(tab)

    def test_a_visible_tab_takes_over_from_a_hidden_one_that_cannot_connect(self) -> None:
        first, second = self.open("a"), self.open("a")
        self.wait_live(first, second)
        self.assertTrue(self.tabs.value(first, "live.leads"))
        events = self.published("a")
        events.many(3)
        hold_back = """
            Object.defineProperty(document, "hidden", { get: () => true });
            document.dispatchEvent(new Event("visibilitychange"));
            window.fetch = () => Promise.reject(new Error("held back"));
        """
        self.tabs.run(first, hold_back)
        self.hub.disconnect(channel="a")
        self.tabs.wait(second, "live.leads && live.state === 'live'", timeout=SECONDS)
        events.many(3)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"])

    def test_tickets_are_renewed(self) -> None:
        hub = enter(self, self.make_hub(secret="not secret", lease=1.0))
        self.app.stream = lambda web, channels: hub.stream(web)
        made: list[list[str]] = []

        def ticket(web: Request) -> Response:
            made.append(web.args.getlist("channel"))
            return Response(hub.ticket(made[-1], seconds=0.5, resume=0))

        answer = self.app.answer
        self.app.answer = lambda web: ticket(web) if web.path == "/ticket" else answer(web)
        path = path_of(lastEventId=hub.log.last_event_id(), shared=False)
        tab = self.open(path=path)
        script = """
            const ticket = async (channels) =>
              (await fetch("/ticket?" + new URLSearchParams(channels.map((name) => ["channel", name])))).text();
            window.live = new Live("/events", { ticket, times: { silence: 2500 } });
            add("a");
        """
        self.tabs.run(tab, script)
        self.tabs.wait(tab, f"{STATE} === 'live'")
        for _ in range(3):
            last = hub.publish("a", "x")
            self.tabs.wait(tab, "got.a.at(-1) === arguments[0]", last)
            count = len(made)
            # The lease ends the stream, and by then the ticket is too old.
            wait_until(lambda count=count: len(made) > count, timeout=SECONDS, message="another ticket")
        self.assertEqual(made[0], ["a"])

    def test_another_origin_with_cookies(self) -> None:
        other = enter(self, LiveServer(self.app))
        hub = enter(self, self.make_hub(origins=[other.url]))
        cookies = []

        def stream(web: Request, channels: list[str]) -> Response:
            cookies.append(web.cookies.get("who"))
            return hub.stream(web, channels)

        self.app.stream = stream
        path = path_of("a", url=f"{self.server.url}/events", lastEventId=hub.log.last_event_id())
        tab = self.tabs.open(f"{other.url}/empty")
        self.opened.append(tab)
        self.tabs.run(tab, "document.cookie = 'who=ann'")
        self.tabs.load(tab, other.url + path)
        self.tabs.wait(tab, "window.ready")
        self.wait_live(tab)
        self.wait_has(tab, [hub.publish("a", "x")])
        self.assertEqual(set(cookies), {"ann"})


def with_notice(chunks: Any, notice: bytes) -> Any:
    """A stream with a block between its first chunk and the others."""
    for number, chunk in enumerate(chunks):
        yield chunk
        if number == 0:
            yield notice


def number_of(event_id: str) -> int:
    """The number in an id."""
    return int(event_id.rpartition("-")[2])


def all_records(hub: Hub) -> list[Any]:
    """All events of a log."""
    found: list[Any] = []
    while page := hub.log.read(found[-1].sequence if found else 0):
        found += page
    return found
