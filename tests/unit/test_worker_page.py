"""docs/worker.md names each setting of gunicorn once, and tests that exist."""

from __future__ import annotations

import ast
import re
import unittest

from gunicorn.config import KNOWN_SETTINGS

from tests.support import ROOT

PAGE = ROOT / "docs" / "worker.md"


def rows():
    """The cells of each row of its two tables."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


class WorkerPageTest(unittest.TestCase):
    def test_each_setting_is_there_once(self):
        named = [name for row in rows() for name in re.findall(r"`(\w+)`", row[0])]
        self.assertEqual(len(named), len(set(named)))
        # Older releases of gunicorn have fewer.
        self.assertEqual({setting.name for setting in KNOWN_SETTINGS} - set(named), set())

    def test_the_tests_exist(self):
        tree = ast.parse((ROOT / "tests/live/test_worker_settings.py").read_text(encoding="utf-8"))
        classes = {
            node.name: {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
            for node in tree.body
            if isinstance(node, ast.ClassDef)
        }
        for row in rows():
            for name in re.findall(r"`([^`]+)`", row[-1]):
                with self.subTest(name):
                    if name.startswith("tests/"):
                        self.assertTrue((ROOT / name).is_file())
                    else:
                        owner, _, test = name.partition(".")
                        self.assertIn(owner, classes)
                        self.assertIn(test or "", {"", *classes[owner]})
