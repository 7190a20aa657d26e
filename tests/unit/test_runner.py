"""The command that runs the tests, on small packages of tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from tests.runner import pythons
from tests.runner.selection import UnknownName, find_modules, select
from tests.support import ROOT, nothing_may_be_skipped, temporary_directory, wait_until

PASSING = """
import unittest

class First(unittest.TestCase):
    def test_one(self): pass
    def test_two(self): pass

class Second(unittest.TestCase):
    def test_three(self): pass
"""

_SECONDS = 60


class RunnerCase(unittest.TestCase):
    def setUp(self) -> None:
        self.root = temporary_directory(self) / "sample"

    def write(self, **modules: str) -> None:
        self.write_files({name.replace("__", "/"): text for name, text in modules.items()})

    def write_files(self, modules: dict[str, str]) -> None:
        for name, text in modules.items():
            path = self.root / f"{name}.py"
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tests", "--root", str(self.root), *arguments]

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("SSE_TESTS")
        }
        return {**kept, **changes}

    def run_it(self, *arguments: str, code: int = 0, **environment: str) -> list[str]:
        """The lines that the command prints; it must exit with ``code``."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout.splitlines()


class CountTest(RunnerCase):
    """One run of modules of all kinds."""

    lines: list[str]

    @classmethod
    def setUpClass(cls) -> None:
        one = "    def test_one"
        modules = {
            "passing": PASSING,
            "more/test_below": PASSING,
            "failing": """
import os, unittest

class Case(unittest.TestCase):
    def test_1_passes(self):
        os.write(1, b"not of interest")
    def test_2_fails(self):
        self.addCleanup(os.write, 2, b"a server's last words")
        os.write(2, b"a server's line")
        self.assertEqual(1, 2, "the numbers differ")
    def test_3_has_bad_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(number, 0)
    @unittest.expectedFailure
    def test_4_fails_as_expected(self): self.fail()
    @unittest.expectedFailure
    def test_5_passes_unexpectedly(self): pass
""",
            "importing": "import no_such_module",
            "setting_up": PASSING.replace(one, f"    @classmethod\n    def setUpClass(cls): raise OSError\n{one}"),
            "warning": "import warnings\nwarnings.warn('old news', DeprecationWarning)\n" + PASSING,
            "exiting": "import os\n" + PASSING.replace("one(self): pass", "one(self): os._exit(0)"),
            "killed": "import os\n" + PASSING.replace("one(self): pass", "one(self): os.kill(os.getpid(), 9)"),
            "dying_early": "import os\nos._exit(3)",
        }
        with tempfile.TemporaryDirectory() as directory:
            case = cls("write")
            case.root = Path(directory, "sample")
            case.write_files({name if "/" in name else f"test_{name}": text for name, text in modules.items()})
            cls.lines = case.run_it("-j", "4", code=1)

    def assert_module(self, name: str, counts: str) -> None:
        (line,) = (line for line in self.lines if f"/9] sample.{name}: " in line)
        self.assertIn(f": {counts} in ", line)

    def test_counts_all_modules_and_says_which_have_finished(self) -> None:
        self.assert_module("test_passing", "3 passed")
        self.assert_module("more.test_below", "3 passed")
        self.assertEqual([sum(f"[{number}/9]" in line for line in self.lines) for number in range(1, 10)], [1] * 9)
        self.assertEqual(self.lines[-1], "14 passed, 8 failed, 0 skipped")

    def test_shows_a_failure_with_what_was_printed_in_the_test(self) -> None:
        self.assert_module("test_failing", "2 passed, 3 failed")
        text = "\n".join(self.lines)
        for shown in (
            "the numbers differ",
            "a server's line",
            "a server's last words",
            "(number=1)",
            "(number=2)",
        ):
            self.assertIn(shown, text)
        for hidden in ("not of interest", "(number=0)"):
            self.assertNotIn(hidden, text)

    def test_a_module_that_cannot_be_imported_is_one_failed_test(self) -> None:
        self.assert_module("test_importing", "0 passed, 1 failed")
        self.assertIn("No module named 'no_such_module'", "\n".join(self.lines))

    def test_what_fails_outside_of_a_test_is_counted_once(self) -> None:
        self.assert_module("test_setting_up", "1 passed, 1 failed")

    def test_shows_a_warning_once(self) -> None:
        self.assertEqual(sum("old news" in line and "warn(" not in line for line in self.lines), 1, self.lines)

    def test_a_process_that_dies_is_a_failure_and_the_other_classes_run(self) -> None:
        for name, end in (("exiting", "with exit code 0"), ("killed", "by signal 9")):
            self.assert_module(f"test_{name}", "1 passed, 1 failed")
            self.assertIn(f"Its process ended {end}, in sample.test_{name}.First.test_one.", self.lines)

    def test_a_process_that_dies_at_its_import_is_a_failure_that_names_the_module(self) -> None:
        self.assert_module("test_dying_early", "0 passed, 1 failed")
        self.assertIn("FAILED: sample.test_dying_early", self.lines)


class SmallTest(RunnerCase):
    def test_a_skipped_test_is_a_failure_where_nothing_may_be_skipped(self) -> None:
        self.write(test_a=PASSING.replace("    def test_one", "    @unittest.skip('too hot')\n    def test_one"))
        for code, environment in ((0, {}), (1, {"CI": "1"})):
            lines = self.run_it(code=code, **environment)
            self.assertEqual(lines[-1], "2 passed, 0 failed, 1 skipped")
            self.assertIn("too hot", "\n".join(lines))

    def test_a_failure_is_shown_where_a_cleanup_ends_the_process(self) -> None:
        dies = "self.addCleanup(__import__('os')._exit, 3); self.fail('its reason')"
        self.write(test_a=PASSING.replace("one(self): pass", f"one(self): {dies}"))
        text = "\n".join(self.run_it(code=1))
        self.assertIn("Its process ended with exit code 3, in sample.test_a.First.test_one.", text)
        if sys.version_info >= (3, 11):  # before, unittest told failures after the cleanups
            self.assertIn("its reason", text)

    def test_what_says_that_nothing_may_be_skipped(self) -> None:
        for variable, value, expected in (
            ("CI", "1", True),
            ("CI", "", False),
            ("SSE_TESTS_NO_SKIP", "1", True),
            ("SSE_TESTS_NO_SKIP", "0", False),
        ):
            with self.subTest(variable=variable, value=value), mock.patch.dict(os.environ, clear=True):
                os.environ[variable] = value
                self.assertEqual(nothing_may_be_skipped(), expected)

    def test_a_run_of_no_test_has_failed(self) -> None:
        self.write(test_a="")
        lines = self.run_it(code=1)
        self.assertEqual(lines[-2:], ["Failed: no test ran.", "0 passed, 0 failed, 0 skipped"])


class ProcessTest(RunnerCase):
    def test_a_process_left_behind_is_ended(self) -> None:
        self.write(
            test_a="""
import subprocess, unittest
from pathlib import Path

class Case(unittest.TestCase):
    def test_leaves_one(self):
        Path(__file__).with_name("pid").write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
"""
        )
        self.run_it()
        stat = Path("/proc", (self.root / "pid").read_text(), "stat")
        wait_until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z")

    def test_the_classes_of_a_module_run_beside_each_other(self) -> None:
        self.write(
            test_a="""
import time, unittest
from pathlib import Path

class Meeting:
    def test_meets_the_other(self):
        Path(__file__).with_name(type(self).__name__).touch()
        deadline = time.monotonic() + 30
        while not all(Path(__file__).with_name(name).exists() for name in ("First", "Second")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

class First(Meeting, unittest.TestCase): pass
class Second(Meeting, unittest.TestCase): pass
"""
        )
        self.assertEqual(self.run_it("-j", "2")[-1], "2 passed, 0 failed, 0 skipped")

    def test_nothing_runs_beside_what_is_alone(self) -> None:
        running = """
import time, unittest
from pathlib import Path

class Case(unittest.TestCase):
    def test_looks_around(self):
        mine = Path(__file__).with_suffix(".running")
        mine.touch()
        time.sleep(0.1)
        running = [path.name for path in mine.parent.glob("*.running")]
        mine.unlink()
        if __name__.endswith("alone"):
            self.assertEqual(running, [mine.name])
"""
        self.write(test_a=running, test_alone="ALONE = True\n" + running, test_b=running, test_c=running)
        self.assertEqual(self.run_it("-j", "4")[-1], "4 passed, 0 failed, 0 skipped")

    def test_stops_at_the_first_failure_if_asked_to(self) -> None:
        self.write(
            test_a=PASSING.replace("test_one(self): pass", "test_one(self): self.fail()"),
            test_b="import time\n" + PASSING.replace("pass", "time.sleep(100)"),
        )
        self.assertIn("1 failed", self.run_it("-f", "-j", "2", code=1)[-1])

    def test_an_interrupt_ends_the_tests_with_their_cleanups(self) -> None:
        self.write(
            test_a="""
import time, unittest
from pathlib import Path

class Case(unittest.TestCase):
    def test_waits(self):
        self.addCleanup(Path(__file__).with_name("cleaned").touch)
        Path(__file__).with_name("began").touch()
        time.sleep(100)
"""
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            for name in ("began", "cleaned"):
                (self.root / name).unlink(missing_ok=True)
            with tempfile.TemporaryFile("w+") as output:
                process = subprocess.Popen(
                    self.command(), cwd=ROOT, env=self.environment(), stdout=output, stderr=subprocess.STDOUT
                )
                try:
                    wait_until((self.root / "began").exists, timeout=_SECONDS)
                    process.send_signal(number)
                    self.assertEqual(process.wait(_SECONDS), 1)
                finally:
                    process.kill()
                    process.wait()
                output.seek(0)
                lines = output.read().splitlines()
            self.assertTrue((self.root / "cleaned").exists(), lines)
            self.assertEqual(lines[-2:], ["Broken off.", "0 passed, 0 failed, 0 skipped"])


class NameTest(RunnerCase):
    def setUp(self) -> None:
        super().setUp()
        self.write(test_flat=PASSING, unit__test_a=PASSING, unit__test_b=PASSING, live__more__test_c=PASSING)
        self.modules = find_modules(self.root)

    def test_a_name_is_a_folder_a_module_or_below(self) -> None:
        for names, chosen in {
            (): ["live.more.test_c", "test_flat", "unit.test_a", "unit.test_b"],
            ("unit",): ["unit.test_a", "unit.test_b"],
            ("sample/unit/",): ["unit.test_a", "unit.test_b"],
            ("sample.unit", "unit.test_a"): ["unit.test_a", "unit.test_b"],
            ("live",): ["live.more.test_c"],
            ("more",): None,
            ("live/more",): ["live.more.test_c"],
            ("sample/unit/test_a.py",): ["unit.test_a"],
            ("unit.test_a",): ["unit.test_a"],
            ("test_a",): ["unit.test_a"],
            ("test_a.First",): ["unit.test_a:First"],
            ("sample.unit.test_a.First.test_one",): ["unit.test_a:First.test_one"],
            ("test_a.First", "test_a"): ["unit.test_a"],
            ("test_a", "test_a.First"): ["unit.test_a"],
            ("test_a.First", "test_a.Second"): ["unit.test_a:First,Second"],
            ("sample",): ["live.more.test_c", "test_flat", "unit.test_a", "unit.test_b"],
            ("nowhere",): None,
            ("unit.test_c",): None,
        }.items():
            with self.subTest(names=names):
                if chosen is None:
                    with self.assertRaises(UnknownName):
                        select(self.modules, names, "sample")
                    continue
                found = [
                    one.module.name.removeprefix("sample.")
                    + ":".join(["", ",".join(one.names)] if one.names else "")
                    for one in select(self.modules, names, "sample")
                ]
                self.assertEqual(found, chosen)

    def test_a_run_can_be_narrowed_to_one_test(self) -> None:
        self.assertEqual(self.run_it("unit/test_a.First.test_two")[-1], "1 passed, 0 failed, 0 skipped")

    def test_a_name_that_is_unknown_ends_the_command(self) -> None:
        self.assertIn("nowhere", self.run_it("nowhere", code=2)[-1])
        self.assertEqual(self.run_it("test_a.Third", code=1)[-1], "0 passed, 1 failed, 0 skipped")

    def test_a_folder_speaks_for_all_below_it(self) -> None:
        self.write_files(
            {
                "live/__init__": "ALONE = True\n",
                "live/more/__init__": "ONCE = True\nNPM = True\n",
                "live/more/test_c": "ALONE = False\n" + PASSING,
            }
        )
        modules = {module.path.stem: module for module in find_modules(self.root)}
        module = modules["test_c"]
        told = (module.is_alone, module.is_once, module.needs_npm)
        self.assertEqual(told, (False, True, True))
        self.assertFalse(modules["test_flat"].is_once)
        counts = [self.run_it(SSE_TESTS_ONCE=once)[-1] for once in ("todo", "done")]
        self.assertEqual(counts, [f"{number} passed, 0 failed, 0 skipped" for number in (12, 9)])


class PythonsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)

    def program(self, path: str, script: str) -> Path:
        program = self.directory / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    def find(self, **environment: str) -> str | None:
        with mock.patch.dict(os.environ, {"HOME": "/nowhere", "PATH": "/nowhere", **environment}):
            os.environ.pop("PYENV_ROOT", None)
            return pythons.find_python("3.10")

    def test_the_first_complete_one_on_path_is_taken(self) -> None:
        self.program("first/python3.10", "exit 1")
        for name in ("second", "third"):
            self.program(f"{name}/python3.10", f"echo {name}")
        path = os.pathsep.join(str(self.directory / name) for name in ("empty", "first", "second", "third"))
        self.assertEqual(self.find(PATH=path), "second")

    def test_versions_of_pyenv_are_found_that_are_not_on_path(self) -> None:
        self.program("home/.pyenv/versions/3.10.1/bin/python3.10", "echo of-home")
        self.assertEqual(self.find(HOME=str(self.directory / "home")), "of-home")

    def test_a_shim_on_path_says_where_pyenv_is(self) -> None:
        self.program("root/versions/3.10.1/bin/python3.10", "echo of-shim")
        self.program("bin/python3", f'export PYENV_ROOT="{self.directory}/root"')
        self.assertEqual(self.find(PATH=str(self.directory / "bin")), "of-shim")


if __name__ == "__main__":
    unittest.main()
