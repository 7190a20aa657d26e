"""Clients for Python, each a process of its own."""

from __future__ import annotations

import dataclasses
import os
import sys
import unittest
from unittest import mock

from tests.browser.clients.catalogue import PYTHON, Client
from tests.browser.clients.harness import Family, Programs, Scenarios

ONCE = True  # it says the same under every Python


class PythonTest(Scenarios, unittest.TestCase):
    clients = PYTHON

    def start(self, url: str) -> Family:
        return Programs(self.clients, url, may_end=self.may_end)

    def test_without_its_code_a_loop_asks_again_and_a_library_raises_an_error(self):
        for client in PYTHON:
            if client.at_the_end:
                with self.subTest(client.title):
                    self.assertEqual(self.without_its_end(client), client.name in ("sseclient-py", "httpx-sse"))

    def without_its_end(self, client: Client) -> bool:
        """Whether the client asks again if its code for the status 204 is never reached; else it has ended."""
        source = client.source.read_text(encoding="utf-8").replace("204", "299")
        self.clients = [dataclasses.replace(client, program=(sys.executable, "-c", source))]
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join([str(client.source.parent), *sys.path])):
            self.finish()
        try:
            self.wait(lambda _, requests: len(requests) >= 4, "two requests after the one that 204 answers")
        except AssertionError as error:
            self.assertRegex(str(error), "(?s)has ended with status 1.* 204")
            return False
        return True


if __name__ == "__main__":
    unittest.main()
