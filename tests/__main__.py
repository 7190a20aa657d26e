"""Runs the tests: ``python -m tests [-v] [-f] [-j N] [name ...]``, several modules at a time.

A name is a folder, a module, a class or a test, with dots or slashes: ``unit``, ``tests/unit/test_decoder.py``,
``test_decoder.DecoderTest``. Without names all tests run.

It exits with 1 when a test fails, when none ran, and, in CI or with SSE_TESTS_NO_SKIP=1, when one was
skipped. The last line it prints is ``N passed, N failed, N skipped``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType

from tests.runner import worker
from tests.runner.durations import Durations
from tests.runner.pool import Pool
from tests.runner.report import Report
from tests.runner.selection import UnknownName, find_modules, select
from tests.support import CHECKOUT, nothing_may_be_skipped

HERE = Path(__file__).resolve().parent

# Tests wait more than they work: so many processes at a time for each core.
_PROCESSES_A_CORE = 3

# What most modules import. It is imported once, and a process for a module is a fork. The package itself is not
# among it: it has memory that forks share, and modules would see what others did.
_COMMON = ("concurrent.futures", "sqlite3", "unittest.mock", "werkzeug.test", "tests.support")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="name each test, show what passing ones print"
    )
    parser.add_argument("-f", "--failfast", action="store_true", help="stop at the first failure")
    parser.add_argument(
        *("-j", "--jobs"),
        type=int,
        default=_PROCESSES_A_CORE * cores,
        metavar="N",
        help="processes at a time; default: %(default)s",
    )
    parser.add_argument(
        "--root", type=Path, default=HERE, help="the package that has the tests; default: %(default)s"
    )
    parser.add_argument("names", nargs="*", metavar="name", help="a folder, module, class or test; default: all")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error("-j needs a number above 0")
    try:
        options.selected = select(find_modules(options.root), options.names, options.root.name)
    except UnknownName as error:
        parser.error(f"there are no tests of the name {error}")
    return options


def _import_common(report: Report) -> None:
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, filename, lineno, *_, **__: report.warn(
            filename, warnings.formatwarning(message, category, filename, lineno)
        )
        if not sys.warnoptions:
            warnings.simplefilter("default")
        for name in _COMMON:
            try:
                importlib.import_module(name)
            except Exception:  # each module that imports it will fail, and shows the reason
                return


def _end(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    options = _options()
    # A shell that starts this in the background has Ctrl-C ignored. An end by SIGTERM is as orderly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _end)
    selected = options.selected
    if os.environ.get("SSE_TESTS_ONCE") == "done":
        selected = [one for one in selected if not one.module.is_once]
    report = Report([one.module for one in selected], verbose=options.verbose)
    if options.root == HERE and len(selected) > 1:
        _import_common(report)
    durations = Durations(CHECKOUT / ".test-durations.json" if options.root == HERE else None)
    pool = Pool(
        selected,
        path=options.root.resolve().parent,
        at_once=options.jobs,
        failfast=options.failfast,
        verbose=options.verbose,
        report=report,
        durations=durations,
    )
    broken_off = ""
    forked = None
    try:
        pool.run()
    except KeyboardInterrupt:
        broken_off = "Broken off."
    except worker.Forked as error:
        forked = error.reader, error.writer
    if forked:  # outside of the "except": tests look at the exception that is handled just now
        worker.run(*forked)
        return 0
    durations.save()
    if path := os.environ.get("SSE_TESTS_COUNTS"):
        Path(path).write_text(f"{report.counts}\n")
    good = report.close(nothing_may_be_skipped=nothing_may_be_skipped(), broken_off=broken_off)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
