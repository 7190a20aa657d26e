"""``python -m tests.mutation.attempt N MODULE ...`` runs test modules in one process, up to the first failure.

It exits with 0 when all pass, and with 2 when one fails. It exits with 1 when one takes longer than N seconds, or
when threads do not end. The last line that it prints is the name of that test.
"""

from __future__ import annotations

import os
import signal
import sys
import unittest

from tests.runner import worker


class _Result(unittest.TestResult):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.failfast = True
        self.seconds = seconds

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        # The last line is the name of the test that failed.
        print(test.id(), flush=True)  # noqa: T201
        worker.watch(self.seconds)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: object) -> None:
        super().addSubTest(test, subtest, err)  # type: ignore[arg-type]
        worker.watch(self.seconds)


def main() -> None:
    # A shell that starts a run in the background has Ctrl-C ignored; tests and their programs would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    result = _Result(float(sys.argv[1]))
    for name in sys.argv[2:]:
        worker.watch(result.seconds)
        for suite in worker.load(name, []).values():
            suite.run(result)
            if not result.wasSuccessful():
                print((result.errors + result.failures)[0][0].id(), flush=True)  # noqa: T201
                os._exit(2)
    worker.watch(result.seconds)


if __name__ == "__main__":
    main()
