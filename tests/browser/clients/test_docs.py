"""docs/clients.md says what the tests have seen."""

from __future__ import annotations

import re
import unittest

from tests.browser.clients.catalogue import CHROMIUM, FIREFOX, NODE, PYTHON, shown_table, table

ONCE = True  # it says the same under every Python


class DocsTest(unittest.TestCase):
    def test_the_table_is_that_of_the_catalogue(self):
        self.assertEqual(shown_table(), table(), "python -m tests.browser.clients.catalogue prints it")

    def test_the_code_that_a_client_needs_is_in_its_program(self):
        for client in (*CHROMIUM, *FIREFOX, *NODE, *PYTHON):
            with self.subTest(client.title):
                source = re.sub(r"\s+", " ", client.source.read_text(encoding="utf-8"))
                self.assertIn(client.needs, source)


if __name__ == "__main__":
    unittest.main()
