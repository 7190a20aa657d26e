"""The people on the board: a name that is chosen in the page, seen by others, in a real browser."""

from __future__ import annotations

import unittest
from contextlib import ExitStack
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from sse_threaded.board import create_app
from sse_threaded.testing import EventStreamClient, LiveServer, request
from tests.harness.chromium import Windows, resize, wait_for, windows
from tests.support import enter, wait_until

ONCE = True  # the page is the same under every Python

PEOPLE = "[...document.querySelectorAll('#people-here li')].map((each) => each.textContent).join()"


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        PeopleTest.windows = stack.enter_context(windows())
        unittest.addModuleCleanup(stack.pop_all().close)


class PeopleTest(unittest.TestCase):
    windows: Windows

    def setUp(self) -> None:
        self.app = create_app("memory://")
        self.addCleanup(self.app.hub.close)
        self.server = enter(self, LiveServer(self.app))
        self.browser = self.windows.browser

    def open(self) -> str:
        window = self.windows.take()
        self.addCleanup(self.windows.give_back, window)
        self.browser.get(f"{self.server.url}/boards/board-1")
        wait_for(self.browser, "document.getElementById('connection').dataset.state === 'live'")
        return window

    def join(self, name: str) -> EventStreamClient:
        client = EventStreamClient(f"{self.server.url}/events?channel=board-1&name={name}")
        self.addCleanup(client.close)
        client.open()
        client.wait_for_retry()
        return client

    def choose(self, name: str) -> None:
        self.browser.find_element(By.ID, "people-name").click()
        field: Any = self.browser.find_element(By.CSS_SELECTOR, "#people-form input")
        field.send_keys(Keys.DELETE, name, Keys.ENTER)  # it is selected

    def test_a_name_is_chosen_and_kept(self) -> None:
        self.open()
        self.choose("Anna")
        wait_for(self.browser, f"{PEOPLE} === 'Anna'")
        self.join("%3Cb%3EBo%3C%2Fb%3E")
        wait_for(self.browser, f"{PEOPLE} === 'Anna,<b>Bo</b>'")
        self.browser.refresh()
        wait_for(self.browser, f"{PEOPLE} === 'Anna,<b>Bo</b>'")
        self.assertEqual(self.app.hub.presence("board-1"), ["<b>Bo</b>", "Anna"])

    def test_all_tabs_have_the_name_and_one_stream(self) -> None:
        first = self.open()
        self.open()
        self.choose("Anna")
        for window in (first, None):
            if window is not None:
                self.windows.bring_to_front(window)
            wait_for(self.browser, f"{PEOPLE} === 'Anna'")
        wait_until(lambda: self.app.hub.streams == 1)
        wait_until(lambda: self.app.hub.presence("board-1") == ["Anna"])

    def test_another_name_takes_the_place_of_the_first(self) -> None:
        self.open()
        self.choose("Anna")
        wait_for(self.browser, f"{PEOPLE} === 'Anna'")
        self.choose("Ann")
        wait_for(self.browser, f"{PEOPLE} === 'Ann'")
        self.choose("")
        wait_for(self.browser, f"{PEOPLE} === ''")
        wait_for(self.browser, "document.getElementById('people-name').textContent === 'Show my name'")

    def test_who_has_no_name_sees_the_others_and_is_not_seen(self) -> None:
        self.join("Bo")
        self.open()
        wait_for(self.browser, f"{PEOPLE} === 'Bo'")
        self.assertEqual(self.app.hub.presence("board-1"), ["Bo"])

    def test_changes_still_come_after_a_new_name(self) -> None:
        self.open()
        self.choose("Anna")
        wait_for(self.browser, f"{PEOPLE} === 'Anna'")
        body = b'{"title":"After the name"}'
        request(
            "POST",
            f"{self.server.url}/boards/board-1/tasks",
            headers={"Content-Type": "application/json"},
            body=body,
        )
        wait_for(self.browser, "document.getElementById('board').textContent.includes('After the name')")

    def test_many_people_fit_on_a_phone(self) -> None:
        for number in range(12):
            self.join(f"{'Longname' * 4}-{number}")
        self.open()
        resize(self.browser, 390, 844, phone=True)
        wait_for(self.browser, f"{PEOPLE}.endsWith('and 4 more')")
        self.assertLessEqual(self.browser.execute_script("return document.documentElement.scrollWidth"), 390)

    def test_a_name_that_is_too_long_is_refused(self) -> None:
        answer = request("GET", f"{self.server.url}/events?channel=board-1&name={'x' * 41}")
        self.assertEqual(answer.status, 400)


if __name__ == "__main__":
    unittest.main()
