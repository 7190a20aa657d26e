"""The parts of a line in the access log."""

from __future__ import annotations

import unittest

from sse_threaded.server.access_atoms import OneLineAtoms


class AtomsTest(unittest.TestCase):
    def test_no_part_of_an_access_line_begins_a_line(self) -> None:
        atoms = OneLineAtoms({"U": '/a"\r\n\x85\u2028[INFO] forged', "a": "é ü", "s": 200, "t": None})
        self.assertEqual(atoms["U"], '/a\\"\\r\\n\\x85\\u2028[INFO] forged')
        self.assertEqual((atoms["a"], atoms["s"], atoms["nothing"]), ("é ü", 200, "-"))

    def test_no_part_shows_a_ticket(self) -> None:
        atoms = OneLineAtoms(
            {
                "r": "GET /events?a=1&ticket=abc.def-_x&lastEventId=k-1 HTTP/1.1",
                "q": "ticket=abc.def-_x",
                "f": "https://app.example/page?ticket=abc.def-_x#top",
                "U": "/ticket=abc",
                "{x}i": "\nticket=abc.def-_x",
            }
        )
        self.assertEqual(atoms["r"], "GET /events?a=1&ticket=...&lastEventId=k-1 HTTP/1.1")
        self.assertEqual(atoms["q"], "ticket=...")
        self.assertEqual(atoms["f"], "https://app.example/page?ticket=...#top")
        self.assertEqual(atoms["U"], "/ticket=abc")
        self.assertNotIn("\n", atoms["{x}i"])


if __name__ == "__main__":
    unittest.main()
