"""ruff, mypy and codespell on the checkout. They say the same under every Python: tests/run has them once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import unittest

from tests.support import CHECKOUT, missing

_SECONDS = 300

ONCE = True  # it says the same under every Python


class QualityTest(unittest.TestCase):
    def run_tool(self, name: str, *args: str) -> None:
        if importlib.util.find_spec(name) is None:
            missing(f"{name} (pip install '.[test]')")
        done = subprocess.run(
            [sys.executable, "-m", name, *args],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, f"{name} {' '.join(args)}\n{done.stdout}")

    def test_ruff_finds_nothing(self) -> None:
        # The environments are left out by .gitignore, which ruff obeys inside a git work tree only.
        self.run_tool("ruff", "check", "--quiet", "--extend-exclude", ".venv*", ".")

    def test_everything_is_formatted_by_ruff(self) -> None:
        self.run_tool("ruff", "format", "--check", "--quiet", "--extend-exclude", ".venv*", ".")

    def test_codespell_finds_nothing(self) -> None:
        self.run_tool("codespell_lib", ".")

    def test_mypy_finds_nothing(self) -> None:
        self.run_tool("mypy")


if __name__ == "__main__":
    unittest.main()
