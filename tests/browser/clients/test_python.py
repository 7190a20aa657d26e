"""Clients for Python, each a process of its own."""

from __future__ import annotations

import unittest

from tests.browser.clients.catalogue import PYTHON
from tests.browser.clients.harness import Family, Programs, Scenarios

ONCE = True  # it says the same under every Python


class PythonTest(Scenarios, unittest.TestCase):
    clients = PYTHON

    def start(self, url: str) -> Family:
        return Programs(self.clients, url)


if __name__ == "__main__":
    unittest.main()
