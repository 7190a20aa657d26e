"""The mutants of a module (tests/mutation): small changes that compile, of code that runs."""

import unittest

from tests.mutation.mutants import mutants_of

SOURCE = b'''"""A module."""

LIMIT: int = 16

class Box:
    """A box."""

    __slots__ = ("size",)

    def grow(self, by: int = 1) -> bool:
        """Grow."""
        if not self.full and by >= 1:
            self.size += by
            self.log.warning("grown by %d", by + 1)
            self.tell()
        for each in self.all:
            if each:
                break
        return self.size + by
'''


class MutantsTest(unittest.TestCase):
    def setUp(self):
        self.mutants = list(mutants_of("box.py", SOURCE))

    def test_each_kind_of_change(self):
        found = {(mutant.kind, mutant.before, mutant.after) for mutant in self.mutants}
        expected = {
            ("constant", "16", "32"),
            ("constant", "1", "2"),
            ("boolean", "not self.full and by >= 1", "(not self.full or by >= 1)"),
            ("negate", "not self.full", "(self.full)"),
            ("negate", "not self.full and by >= 1", "not (not self.full and by >= 1)"),
            ("negate", "each", "not (each)"),
            ("compare", "by >= 1", "by > 1"),
            ("operator", "self.size += by", "self.size -= by"),
            ("operator", "self.size + by", "(self.size - by)"),
            ("no call", "self.tell()", "pass"),
            ("return", "return self.size + by", "return None"),
            ("loop", "break", "continue"),
        }
        self.assertEqual(found, expected)

    def test_each_compiles_and_changes_its_line_only(self):
        lines = SOURCE.splitlines()
        for mutant in self.mutants:
            with self.subTest(mutant):
                changed = mutant.apply(SOURCE)
                compile(changed, "box.py", "exec")
                differing = [n for n, line in enumerate(changed.splitlines(), 1) if line != lines[n - 1]]
                self.assertEqual(differing, [mutant.line])


if __name__ == "__main__":
    unittest.main()
