"""live.js in a real Firefox, with real faults in its way: the same as in Chromium."""

from __future__ import annotations

import unittest
from contextlib import ExitStack

from tests.browser.live_faults import NetworkFaults, ProxyFaults, ServerFaults
from tests.harness.live_tabs import firefox_tabs

ONCE = True  # it says the same under every Python
NPM = True


def setUpModule() -> None:
    """Start one browser for all tests."""
    with ExitStack() as stack:
        tabs = stack.enter_context(firefox_tabs())
        for case in (ProxyTest, ServerTest, NetworkTest):
            case.tabs = tabs
        unittest.addModuleCleanup(stack.pop_all().close)


class ProxyTest(ProxyFaults):
    pass


class ServerTest(ServerFaults):
    pass


class NetworkTest(NetworkFaults):
    pass


del NetworkFaults, ProxyFaults, ServerFaults  # their tests run in a browser only


if __name__ == "__main__":
    unittest.main()
