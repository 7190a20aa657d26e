"""Clients for node, each a process of its own."""

from __future__ import annotations

import dataclasses
import unittest

from tests.browser.clients.catalogue import NODE
from tests.browser.clients.harness import Family, Programs, Scenarios

ONCE = True  # it says the same under every Python


class NodeTest(Scenarios, unittest.TestCase):
    clients = NODE

    def start(self, url: str) -> Family:
        return Programs(self.clients, url, may_end=self.may_end)

    def test_without_its_code_it_ends_node_with_the_first_stream(self):
        self.serve()
        for client in NODE:
            if client.needs:
                with self.subTest(client.title):
                    program = tuple(part.replace(client.needs, "") for part in client.program)
                    self.clients = (dataclasses.replace(client, program=program),)
                    self.run_clients()
                    self.server.kill()
                    with self.assertRaisesRegex(AssertionError, f"{client.name} has ended"):
                        self.wait(lambda reports, _: False, "the end of node")
                    self.server.restart()


if __name__ == "__main__":
    unittest.main()
