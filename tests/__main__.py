"""Runs the tests: ``python -m tests [-v] [-f] [name ...]``, a name being ``tests.unit.test_decoder`` or below.

It exits with 1 when a test fails, when none ran, and, in CI or with SSE_TESTS_NO_SKIP=1, when one was
skipped. The last line it prints is ``N passed, N failed, N skipped``.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import signal
import sys
import time
import unittest
from pathlib import Path
from typing import Any

from tests.support import nothing_may_be_skipped

_SLOWEST = 10

# What takes longer hangs: one test (or the set-up of a class), and the threads that are left at the end. The
# stacks of all threads are printed and the process ends, so that a deadlock shows where it is.
_HANGS_SECONDS = 600
_LEAVES_SECONDS = 60


class Result(unittest.TextTestResult):
    """Counts tests (not subtests, of which each failing one is in ``failures``) and takes their times."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passed = 0
        self.seconds: list[tuple[float, str]] = []
        self._started = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        faulthandler.dump_traceback_later(_HANGS_SECONDS, exit=True)  # from now, no longer from before
        self._started = time.monotonic()

    def stopTest(self, test: unittest.TestCase) -> None:
        self.seconds.append((time.monotonic() - self._started, test.id()))
        faulthandler.dump_traceback_later(_HANGS_SECONDS, exit=True)
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed += 1

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self.passed += 1

    @property
    def failed(self) -> int:
        tests = [test for test, _ in self.failures + self.errors] + list(self.unexpectedSuccesses)
        return len({getattr(test, "test_case", test).id() for test in tests})  # test_case: of a subtest


def load(names: list[str]) -> unittest.TestSuite:
    loader = unittest.defaultTestLoader
    if names:
        return loader.loadTestsFromNames(names)
    here = Path(__file__).resolve().parent
    return loader.discover(str(here), top_level_dir=str(here.parent))


def main() -> int:
    # Each new log is announced, and nearly each test makes one. assertLogs() hears it all the same.
    logging.getLogger("sse_threaded.log.sqlite.file").addHandler(logging.NullHandler())
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true", help="name each test as it runs")
    parser.add_argument("-f", "--failfast", action="store_true", help="stop at the first failure")
    parser.add_argument("names", nargs="*", metavar="name", help="a module, class or test; default: all")
    options = parser.parse_args()
    # A shell that starts this in the background has Ctrl-C ignored, and so would all programs that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runner = unittest.TextTestRunner(
        sys.stdout,
        verbosity=2 if options.verbose else 1,
        failfast=options.failfast,
        resultclass=Result,
        warnings=None if sys.warnoptions else "default",
    )
    faulthandler.dump_traceback_later(_HANGS_SECONDS, exit=True)
    result = runner.run(load(options.names))
    faulthandler.dump_traceback_later(_LEAVES_SECONDS, exit=True)
    assert isinstance(result, Result)
    skipped = len(result.skipped)
    lines = [f"The {_SLOWEST} slowest tests:"]
    lines += [f"{seconds:8.2f} s  {name}" for seconds, name in sorted(result.seconds, reverse=True)[:_SLOWEST]]
    bad = bool(result.failed)
    if skipped and nothing_may_be_skipped():
        bad = True
        lines += ["Failed: here nothing may be skipped.", *(f"  {test}: {why}" for test, why in result.skipped)]
    if not result.passed and not result.failed:
        bad = True
        lines.append("Failed: no test ran.")
    lines.append(f"{result.passed} passed, {result.failed} failed, {skipped} skipped")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
