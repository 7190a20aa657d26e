"""docs/clients.md says what the tests have seen."""

from __future__ import annotations

import re
import unittest

from tests.browser.clients.catalogue import ALL, shown, table, table_at_the_end

ONCE = True  # it says the same under every Python


class DocsTest(unittest.TestCase):
    def test_the_tables_are_those_of_the_catalogue(self):
        for rows in (table(), table_at_the_end()):
            self.assertEqual(shown(rows), rows, "python -m tests.browser.clients.catalogue prints it")

    def test_the_code_that_a_client_needs_is_in_its_program(self):
        for client in ALL:
            with self.subTest(client.title):
                source = re.sub(r"\s+", " ", client.source.read_text(encoding="utf-8"))
                self.assertIn(client.needs, source)
                self.assertIn(client.at_the_end, source)


if __name__ == "__main__":
    unittest.main()
