"""live.js in a real Firefox: the same as in Chromium."""

from __future__ import annotations

import unittest
from contextlib import ExitStack

from tests.browser.live_scenarios import Scenarios
from tests.harness.live_tabs import firefox_tabs

ONCE = True  # it says the same under every Python


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        FirefoxTest.tabs = stack.enter_context(firefox_tabs())
        unittest.addModuleCleanup(stack.pop_all().close)


class FirefoxTest(Scenarios):
    keeps_pages = False


del Scenarios  # its tests run in a browser only


if __name__ == "__main__":
    unittest.main()
