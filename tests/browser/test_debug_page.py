"""The debug page in a real browser: events come, one channel's history, streams, publishing, a lost server."""

from __future__ import annotations

import unittest
from contextlib import ExitStack
from typing import Any

from selenium.webdriver.common.by import By
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, LiveServer
from tests.harness.chromium import Windows, resize, wait_for, windows
from tests.support import enter

ONCE = True  # the page is the same under every Python

STATE = "document.getElementById('state').dataset.state"
DATA = "[...document.querySelectorAll('#events .data')].map((each) => each.textContent)"
PUBLISHED = "document.getElementById('published').textContent"


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        DebugPageTest.windows = stack.enter_context(windows())
        unittest.addModuleCleanup(stack.pop_all().close)


class DebugPageTest(unittest.TestCase):
    windows: Windows

    def setUp(self) -> None:
        self.hub = enter(self, Hub())
        self.is_allowed = True
        page = self.hub.debug_page(allow=lambda environ: self.is_allowed)
        self.server = enter(
            self, LiveServer(DispatcherMiddleware(Request.application(self.stream), {"/debug": page}))
        )
        handle = self.windows.take()
        self.addCleanup(self.windows.give_back, handle)
        self.browser = self.windows.browser

    def stream(self, web: Request) -> Response:
        return self.hub.stream(web, web.path.strip("/"), user="anna")

    def open(self, query: str = "") -> Any:
        self.browser.get(f"{self.server.url}/debug{query}")
        wait_for(self.browser, f"{STATE} === 'live'")
        return self.browser

    def test_events_come_and_the_newest_is_first(self) -> None:
        self.hub.publish("news", {"before": 1})
        self.open()
        wait_for(self.browser, f"{DATA}.length === 1")
        self.hub.publish("orders", {"after": "<b>markup</b>"}, "paid")
        wait_for(self.browser, f"{DATA}.length === 2")
        first = self.browser.find_element(By.CSS_SELECTOR, "#events tr")
        self.assertIn("orders", first.text)
        self.assertIn("paid", first.text)
        self.assertIn('{ "after": "<b>markup</b>" }', first.text)

    def test_one_channel(self) -> None:
        for number in range(3):
            self.hub.publish("news", f"news {number}")
            self.hub.publish("orders", f"order {number}")
        self.open()
        wait_for(self.browser, f"{DATA}.length === 6")
        self.browser.find_element(By.CSS_SELECTOR, "#events .channel").click()
        wait_for(self.browser, f"{DATA}.join() === 'order 2,order 1,order 0'")
        self.assertIn("channel=orders", self.browser.current_url)
        self.hub.publish("news", "news 3")
        self.hub.publish("orders", "order 3")
        wait_for(self.browser, f"{DATA}.join() === 'order 3,order 2,order 1,order 0'")

    def test_who_listens(self) -> None:
        client = EventStreamClient(f"{self.server.url}/news")
        self.addCleanup(client.close)
        client.open()
        client.wait_for_retry()
        self.open()
        row = "document.getElementById('rows').innerText"
        wait_for(self.browser, f"{row}.includes('anna') && {row}.includes('127.0.0.1')")
        wait_for(self.browser, "document.getElementById('processes').textContent === '1 in 1 process'")

    def test_publishing_by_hand(self) -> None:
        self.open()
        form = self.browser.find_element(By.ID, "publish-form")
        wait_for(self.browser, "!document.getElementById('publish').hidden")
        form.find_element(By.NAME, "channel").send_keys("news")
        form.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        wait_for(self.browser, f"{PUBLISHED}.startsWith('Published as')")
        wait_for(self.browser, DATA + """[0] === '{ "type": "note" }'""")
        self.assertEqual([record.data for record in self.hub.log.read(0, channels=["news"])], ['{"type":"note"}'])
        form.find_element(By.NAME, "event").send_keys("reset")
        form.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        wait_for(self.browser, f"{PUBLISHED}.startsWith('Not published')")

    def test_a_pause_holds_events_back(self) -> None:
        self.open()
        self.browser.find_element(By.ID, "pause").click()
        wait_for(self.browser, f"{STATE} === 'paused'")
        self.hub.publish("news", "one")
        self.browser.find_element(By.ID, "pause").click()
        wait_for(self.browser, f"{DATA}.join() === 'one'")

    def test_a_refusal_shows_and_goes(self) -> None:
        self.open()
        self.is_allowed = False
        wait_for(self.browser, f"{STATE} === 'lost'")
        self.assertIn("You may not see this page", self.browser.find_element(By.ID, "state").text)
        self.is_allowed = True
        wait_for(self.browser, f"{STATE} === 'live'")

    def test_nothing_is_wider_than_a_phone(self) -> None:
        resize(self.browser, 390, 844, phone=True)
        self.hub.publish("a-channel-with-a-very-long-name-" * 5, {"text": "x" * 400})
        self.open()
        wait_for(self.browser, f"{DATA}.length === 1")
        width = self.browser.execute_script("return document.documentElement.scrollWidth")
        self.assertLessEqual(width, 390)

    def test_no_error_is_in_the_console(self) -> None:
        self.browser.get_log("browser")  # it has those of other tests
        self.hub.publish("news", "one")
        self.open()
        wait_for(self.browser, f"{DATA}.length === 1")
        self.assertEqual([line for line in self.browser.get_log("browser") if line["level"] == "SEVERE"], [])
