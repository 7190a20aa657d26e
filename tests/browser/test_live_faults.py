"""live.js in a real Chromium, with real faults in its way."""

from __future__ import annotations

import unittest
from contextlib import ExitStack

from tests.browser.live_faults import NetworkFaults, ProxyFaults, ServerFaults
from tests.browser.live_scenarios import Case
from tests.harness.live_page import path_of
from tests.harness.live_tabs import ChromiumTabs, chromium_tabs

ONCE = True  # it says the same under every Python
NPM = True


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        tabs = stack.enter_context(chromium_tabs())
        for case in (ProxyTest, ServerTest, NetworkTest, NoLocksTest):
            case.tabs = tabs
        unittest.addModuleCleanup(stack.pop_all().close)


class ProxyTest(ProxyFaults):
    pass


class ServerTest(ServerFaults):
    pass


class NetworkTest(NetworkFaults):
    pass


class NoLocksTest(Case):
    tabs: ChromiumTabs

    def test_a_browser_without_web_locks(self) -> None:
        first, second = (self.tabs.open(self.server.url + "/empty") for _ in range(2))
        self.opened += [first, second]
        for tab in (first, second):
            path = self.server.url + path_of("a", lastEventId=self.hub.log.last_event_id())
            source = "Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })"
            self.tabs.show(tab)
            self.tabs.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
            self.tabs.load(tab, path)
            self.tabs.wait(tab, "window.ready && !navigator.locks")
        self.wait_live(first, second)
        self.wait_streams(2)
        events = self.published("a")
        events.many(3)
        for tab in (first, second):
            self.wait_has(tab, events.ids["a"])


del NetworkFaults, ProxyFaults, ServerFaults  # their tests run in a browser only


if __name__ == "__main__":
    unittest.main()
