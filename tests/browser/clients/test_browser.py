"""Clients for browsers, each in a frame of its own: all in Chromium; in Firefox its own EventSource alone."""

from __future__ import annotations

import dataclasses
import unittest
from contextlib import ExitStack

from tests.browser.clients.app import RETRY
from tests.browser.clients.catalogue import CHROMIUM, FIREFOX, Client
from tests.browser.clients.firefox import firefox
from tests.browser.clients.harness import Family, Frames, Scenarios, Together, forms, numbers
from tests.browser.clients.scissors import Scissors
from tests.harness.chromium import chromium

ONCE = True  # it says the same under every Python


class BrowserTest(Scenarios, unittest.TestCase):
    clients = (*CHROMIUM, *FIREFOX)

    @classmethod
    def setUpClass(cls) -> None:
        with ExitStack() as browsers:
            # The frames have a host each. Without this they would have a process each, too.
            cls.chromium = browsers.enter_context(chromium(1280, 800, "--disable-site-isolation-trials"))
            cls.firefox = browsers.enter_context(firefox())
            cls.addClassCleanup(browsers.pop_all().close)

    def start(self, url: str) -> Family:
        in_firefox = [client for client in self.clients if client in FIREFOX]
        in_chromium = [client for client in self.clients if client not in FIREFOX]
        return Together([Frames(self.chromium, in_chromium, url), Frames(self.firefox, in_firefox, url)])

    def test_after_a_farewell_it_has_what_was_published_while_the_server_was_away(self):
        super().test_after_a_farewell_it_has_what_was_published_while_the_server_was_away()
        for name in ("native", "native-firefox"):
            opens = sum("open" in report for report in self.family.reports()[name])
            self.assertEqual(opens, len(self.requested()[name]), "onopen is called once for each connection")

    def test_cut_off_between_the_line_of_the_id_and_the_blank_line_two_clients_lose_the_event(self):
        self.clients = [
            client for client in self.clients if client.hasty or client.title.startswith("EventSource")
        ]
        self.serve()
        scissors = Scissors(self.server.port, lambda _, event: [len(event) - 1], 1)
        self.addCleanup(scissors.close)
        self.run_clients(url=scissors.url)
        self.publish(3)
        self.wait(lambda reports, _: {"n": 3} in reports, "event 3")
        seen = {name: numbers(reports) for name, reports in self.family.reports().items()}
        # A fault of their own. The browsers' EventSource, which waits for the blank line, has all.
        whole = {"native": [1, 2, 3], "native-firefox": [1, 2, 3]}
        self.assertEqual(seen, {**whole, "fetch-event-source": [1, 3], "datastar": [1, 3]})

    def test_without_their_code_two_clients_stop_at_a_clean_end_and_an_older_datastar_always(self):
        stopping = [
            Client(name, name) for name in ("fetch-event-source-default", "datastar-default", "datastar-beta")
        ]
        self.clients = [*CHROMIUM[:1], *stopping]
        self.serve()
        self.run_clients()
        self.server.terminate()
        self.server.wait()
        self.server.restart()
        self.publish(3)
        self.wait(lambda reports, _: {"n": 3} in reports or {"end": True} in reports, "an event, or the end")
        requests = {name: len(each) for name, each in self.requested().items()}
        self.assertGreater(requests.pop("native"), 1)
        self.assertEqual(requests, {client.name: 1 for client in stopping})

    def test_without_their_code_these_ask_again_after_a_finished_channel(self):
        self.clients = [dataclasses.replace(c, name=f"{c.name}-endless") for c in CHROMIUM if c.at_the_end]
        self.finish()
        self.wait(lambda _, requests: len(requests) >= 4, "two requests after the one that 204 answers")

    def test_killed_before_its_first_event_it_comes_back_with_the_id_of_the_first_block(self):
        super().test_killed_before_its_first_event_it_comes_back_with_the_id_of_the_first_block()
        self.assertIn({"start": True, "retry": RETRY}, self.family.reports()["htmx-4"], "it takes the retry")

    def test_what_swaps_html_by_itself_swaps_events_of_one_name(self):
        self.clients = [client for client in self.clients if client.name in ("htmx-2", "htmx-4", "turbo")]
        self.serve()
        self.run_clients()
        for channel, (data, event) in forms(100).items():
            self.log.append(channel, data, None if event else "other")
        self.publish(1)
        self.wait_for_all()


if __name__ == "__main__":
    unittest.main()
