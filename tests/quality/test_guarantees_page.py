"""Each promise of docs/guarantees.md names a test that exists."""

from __future__ import annotations

import re
import unittest

from tests.harness.named_tests import source_of
from tests.support import CHECKOUT

PAGE = (CHECKOUT / "docs" / "guarantees.md").read_text(encoding="utf-8")


class GuaranteesTest(unittest.TestCase):
    def test_each_promise_names_tests_that_exist(self) -> None:
        rows = [line.strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| (?!promise)", line)]
        self.assertGreater(len(rows), 30)
        for promise, condition, tests in rows:
            names = re.findall(r"`(tests\.[\w.]+)`", tests)
            self.assertTrue(names, promise)
            self.assertTrue(condition.strip(), promise)
            for name in names:
                with self.subTest(name):
                    self.assertIsNotNone(source_of(name))

    def test_a_test_that_does_not_exist_is_noticed(self) -> None:
        for name in (
            "tests.unit.test_log.LogContract.test_of_nothing",
            "tests.unit.test_log.NoClass.test_close_is_idempotent",
            "tests.unit.test_nothing.LogContract.test_close_is_idempotent",
        ):
            with self.subTest(name):
                self.assertIsNone(source_of(name))


if __name__ == "__main__":
    unittest.main()
