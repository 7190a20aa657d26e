"""Clients for node, each a process of its own."""

from __future__ import annotations

import unittest

from tests.clients.harness import Family, Programs, Scenarios, node
from tests.support import once

load_tests = once


class NodeTest(Scenarios, unittest.TestCase):
    clients = (
        node("eventsource-4"),
        node("eventsource-5"),
        node("eventsource-client"),
        node("launchdarkly-eventsource"),
    )

    def start(self, url: str) -> Family:
        return Programs(self.clients, url)


if __name__ == "__main__":
    unittest.main()
