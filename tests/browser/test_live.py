"""live.js in a real Chromium: tabs that share a connection, and the loss of the tab that has it."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.browser.live_scenarios import Scenarios
from tests.harness.live_tabs import ChromiumTabs, chromium_tabs

ONCE = True  # it says the same under every Python


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        ChromiumTest.tabs = stack.enter_context(chromium_tabs())
        unittest.addModuleCleanup(stack.pop_all().close)


class ChromiumTest(Scenarios):
    tabs: ChromiumTabs
    keeps_pages = True

    def test_the_leader_is_frozen(self) -> None:
        frozen = []

        @contextmanager
        def lose(tab: str) -> Iterator[None]:
            self.tabs.freeze(tab, "frozen")
            frozen.append(tab)
            yield

        self.check_loss_of_leader(lose)
        self.tabs.freeze(frozen[0], "active")
        self.wait_live(frozen[0])
        last = self.hub.publish("a", "x")
        self.tabs.wait(frozen[0], "got.a.at(-1) === arguments[0]", last)
        count = self.hub.log.last_sequence()
        self.assertEqual(self.tabs.value(frozen[0], "[got.a.length, new Set(got.a).size]"), [count, count])


del Scenarios  # its tests run in a browser only


if __name__ == "__main__":
    unittest.main()
