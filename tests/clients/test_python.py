"""Clients for Python, each a process of its own."""

from __future__ import annotations

import unittest

from tests.clients.harness import Family, Programs, Scenarios, python
from tests.support import once

load_tests = once


class PythonTest(Scenarios, unittest.TestCase):
    clients = (
        python("sseclient-py"),
        python("httpx-sse"),
        python("requests-sse"),
        python("aiohttp-sse-client2"),
    )

    def start(self, url: str) -> Family:
        return Programs(self.clients, url)


if __name__ == "__main__":
    unittest.main()
