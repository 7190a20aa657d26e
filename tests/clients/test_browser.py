"""Clients for browsers, each in a frame of its own: all in Chromium, and Firefox's own EventSource."""

from __future__ import annotations

import unittest
from contextlib import AbstractContextManager
from typing import Any

from tests.browser import chromium
from tests.clients.firefox import firefox
from tests.clients.harness import Client, Family, Frames, Scenarios
from tests.support import once

load_tests = once


class BrowserTest(Scenarios):
    """Clients in the frames of a browser that is started once."""

    browser: Any

    def start(self, url: str) -> Family:
        return Frames(self.browser, self.clients, url)

    @classmethod
    def keep(cls, browser: AbstractContextManager[Any]) -> None:
        """Start the browser; it ends after the class."""
        cls.browser = browser.__enter__()
        cls.addClassCleanup(browser.__exit__, None, None, None)

    def test_after_a_farewell_it_has_what_was_published_while_the_server_was_away(self):
        super().test_after_a_farewell_it_has_what_was_published_while_the_server_was_away()
        opens = sum("open" in report for report in self.family.reports()["native"])
        self.assertEqual(opens, len(self.requested()["native"]), "onopen is called once for each connection")


class ChromiumTest(BrowserTest, unittest.TestCase):
    clients = (
        Client("native"),
        Client("event-source-polyfill"),
        Client("fetch-event-source"),
        Client("htmx-2", "named"),
        Client("htmx-4", "html"),
        Client("turbo", "turbo"),
        Client("datastar", "datastar"),
    )

    @classmethod
    def setUpClass(cls) -> None:
        cls.keep(chromium())


class FirefoxTest(BrowserTest, unittest.TestCase):
    clients = (Client("native"),)

    @classmethod
    def setUpClass(cls) -> None:
        cls.keep(firefox())


if __name__ == "__main__":
    unittest.main()
