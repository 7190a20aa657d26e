"""The mutants of a module (tests/mutation): small changes that compile; which tests try them; the report."""

import importlib.util
import subprocess
import sys
import unittest
from unittest import mock

from tests.mutation import __main__ as tool
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.reach import Reach, Reached
from tests.support import temporary_directory

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

    def is_full(self) -> bool:
        """Whether it is."""
        return False
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
            ("constant", "False", "True"),
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

    def test_no_two_have_one_name(self):
        found = list(mutants_of("box.py", b"x = a and b or c\ny = 1 + 2 + 3\n"))
        self.assertGreater(len(found), 4)
        self.assertEqual(len({mutant.name for mutant in found}), len(found))


class ChangedTest(unittest.TestCase):
    def test_the_change_is_seen_inside_and_the_source_afterwards_whatever_bytecode_there_is(self):
        tree = temporary_directory(self)
        module = tree / "box.py"
        module.write_bytes(b"x = 1\n")

        def value():
            command = [sys.executable, "-c", "import box; print(box.x)"]
            return int(subprocess.run(command, cwd=tree, capture_output=True, check=True).stdout)

        self.assertEqual(value(), 1)
        self.assertTrue(importlib.util.cache_from_source(str(module)))
        before = module.stat().st_mtime_ns
        for after in ("2", "3", "4"):
            with tool.changed(Mutant("box.py", 1, "constant", 4, 5, "1", after), tree):
                self.assertEqual(value(), int(after))
            self.assertEqual(value(), 1)
        with self.assertRaises(ZeroDivisionError), tool.changed(Mutant("box.py", 1, "", 4, 5, "1", "5"), tree):
            raise ZeroDivisionError
        self.assertEqual((module.read_bytes(), module.stat().st_mtime_ns), (b"x = 1\n", before))


class ReachedTest(unittest.TestCase):
    def test_unit_tests_come_first_and_those_that_run_most_of_the_module(self):
        path = "sse_threaded/fanout/pace.py"
        reached = Reached(
            [
                Reach("tests.live.test_worker", 50.0, {path: [1, 2, 3, 4]}),
                Reach("tests.unit.test_event", 1.0, {path: [1, 2]}),  # it only imports the module
                Reach("tests.unit.test_stream", 9.0, {path: [1, 2, 3]}),
                Reach("tests.unit.test_fanout_parts", 1.0, {path: [1, 2, 3, 4]}),
                Reach("tests.unit.test_decoder", 1.0, {}),
            ]
        )
        unit = ["tests.unit.test_fanout_parts", "tests.unit.test_stream"]
        self.assertEqual([one.test for one in reached.tests(path, 1)], [*unit, "tests.live.test_worker"])
        self.assertEqual([one.test for one in reached.tests(path, 4)], [unit[0], "tests.live.test_worker"])
        self.assertEqual([one.test for one in reached.tests(path, 9)], [*unit, "tests.live.test_worker"])
        self.assertEqual(reached.tests("sse_threaded/none.py", 1), [])


class ReportTest(unittest.TestCase):
    def test_it_has_the_counts_each_hole_and_each_reason(self):
        path = "sse_threaded/fanout/timers.py"
        mutants = [Mutant(path, line, "constant", line, line, "1", str(line)) for line in range(20, 25)]
        hows = ("failed", "failed", "hung", "survived", "not run")
        verdicts = [tool.Verdict(mutant, "", how, 1.0) for mutant, how in zip(mutants, hows, strict=True)]
        argued = tool.Equivalent(path, tool.line_of(mutants[3]), "23", "Nobody sees it.")
        with mock.patch.object(tool, "equivalent", return_value=[argued]):
            text = tool.report(7, verdicts)
        for line in (
            "- Seed: 7",
            "- Mutants: 5",
            "- Caught: 3",
            "- Equivalent: 1",
            "- Holes: 1",
            "- Caught of those that are not equivalent: 75.0%",
            "| sse_threaded/fanout | 5 | 3 |",
            f"| {path}:24 | `1` | `24` |",
            f"| {path}:23 | `1` | `23` | Nobody sees it. |",
        ):
            self.assertIn(line, text.splitlines())


if __name__ == "__main__":
    unittest.main()
