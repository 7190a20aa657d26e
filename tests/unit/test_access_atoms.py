"""The parts of a line in the access log."""

from __future__ import annotations

import unittest

from sse_threaded.server.access_atoms import OneLineAtoms


class AtomsTest(unittest.TestCase):
    def test_no_part_of_an_access_line_begins_a_line(self) -> None:
        atoms = OneLineAtoms({"U": '/a"\r\n\x85\u2028[INFO] forged', "a": "é ü", "s": 200, "t": None})
        self.assertEqual(atoms["U"], '/a\\"\\r\\n\\x85\\u2028[INFO] forged')
        self.assertEqual((atoms["a"], atoms["s"], atoms["nothing"]), ("é ü", 200, "-"))


if __name__ == "__main__":
    unittest.main()
