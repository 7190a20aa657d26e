"""The events and states of live.js, in a real Chromium."""

from __future__ import annotations

import unittest
from contextlib import ExitStack

from tests.browser.live_scenarios import EventsCase
from tests.harness.live_tabs import chromium_tabs

ONCE = True  # it says the same under every Python


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        EventsTest.tabs = stack.enter_context(chromium_tabs())
        unittest.addModuleCleanup(stack.pop_all().close)


class EventsTest(EventsCase):
    pass


del EventsCase  # its tests run in a browser only


if __name__ == "__main__":
    unittest.main()
