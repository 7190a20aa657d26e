"""Every block of code in README.md, CONTRIBUTING.md and docs/ is run by a test, which ``page_blocks.py`` names."""

from __future__ import annotations

import argparse
import configparser
import importlib.util
import re
import shlex
import subprocess
import unittest
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from sse_threaded import Hub
from sse_threaded.cli import _parser
from tests.harness.named_tests import TESTS, source_of
from tests.quality.page_blocks import CHECKED, RUN, Runs
from tests.support import CHECKOUT, enter

_SECONDS = 60
_FENCE = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^ *\2 *$", re.MULTILINE | re.DOTALL)

# Words of commands that are no path of the repository, though they look like one.
_ELSEWHERE = re.compile(r"^(\.venv|build|path)/")


class Code(NamedTuple):
    """A block of a page.

    :ivar page: the name of the page.
    :ivar line: where it begins.
    :ivar language: as it stands behind the fence.
    :ivar text: the block.
    """

    page: str
    line: int
    language: str
    text: str


def pages() -> list[Path]:
    return [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]


@cache
def codes() -> tuple[Code, ...]:
    """All blocks but the directives of Sphinx, which the site's test runs."""
    found = []
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for fence in _FENCE.finditer(text):
            language = fence[3].strip()
            if not language.startswith("{"):
                found.append(Code(path.name, text.count("\n", 0, fence.start()) + 1, language, fence[4]))
    return tuple(found)


def fits(entry: Runs, code: Code) -> bool:
    return entry.language == code.language and entry.sign in code.text


def entries() -> Iterator[tuple[str, Runs]]:
    for table in (RUN, CHECKED):
        for page, runs in table.items():
            yield from ((page, entry) for entry in runs)


@cache
def _imports(path: Path) -> frozenset[Path]:
    """The modules of the tests that a module imports itself."""
    found = set()
    text = path.read_text(encoding="utf-8")
    for module, names in re.findall(r"^from (tests[\w.]*) import ([\w, ]+)", text, re.MULTILINE):
        for name in ("", *(f".{each.strip()}" for each in names.split(","))):
            place = TESTS.parent.joinpath(*f"{module}{name}".split(".")).with_suffix(".py")
            if place.is_file():
                found.add(place)
    return frozenset(found)


def with_imports(path: Path) -> set[Path]:
    """A module of the tests, and all that it needs of the tests."""
    found, waiting = {path}, [path]
    while waiting:
        new = _imports(waiting.pop()) - found
        found |= new
        waiting += new
    return found


class BlocksTest(unittest.TestCase):
    def test_each_block_has_a_test_that_runs_it(self) -> None:
        self.assertGreater(len(codes()), 100)
        for code in codes():
            known = [*RUN.get(code.page, ()), *CHECKED.get(code.page, ())]
            with self.subTest(page=code.page, line=code.line, language=code.language):
                found = [entry for entry in known if fits(entry, code)]
                self.assertTrue(found, "no test runs this block: add it to tests/quality/page_blocks.py")
                self.assertEqual(len(found), 1, "the table is not clear about it")

    def test_each_line_of_the_table_is_of_a_block(self) -> None:
        for page, entry in entries():
            with self.subTest(page=page, entry=entry):
                self.assertTrue(any(code.page == page and fits(entry, code) for code in codes()))

    def test_the_tests_exist_and_name_the_page(self) -> None:
        for page, entry in entries():
            with self.subTest(page=page, test=entry.test):
                source = source_of(entry.test)
                self.assertIsNotNone(source)
                assert source is not None
                texts = [path.read_text(encoding="utf-8") for path in with_imports(source)]
                self.assertTrue(any(page in text for text in texts), f"it does not read {page}")


class CommandsTest(unittest.TestCase):
    """Commands that the tests do not run."""

    def setUp(self) -> None:
        self.commands = [
            code
            for code in codes()
            if code.language == "sh" and any(fits(entry, code) for entry in CHECKED.get(code.page, ()))
        ]

    def test_what_the_commands_name_exists(self) -> None:
        settings = configparser.ConfigParser()
        settings.read(CHECKOUT / "setup.cfg")
        extras = set(settings["options.extras_require"])
        self.assertGreater(len(self.commands), 5)
        for code in self.commands:
            for line in code.text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                with self.subTest(page=code.page, command=line):
                    for extra in re.findall(r"\[(\w+)\]", line):
                        self.assertIn(extra, extras)
                    for before, word in pairwise(words):
                        if before == "-m" and word != "venv":
                            self.assertIsNotNone(importlib.util.find_spec(word.split("[")[0]))
                    for word in words:
                        looks_like_one = re.fullmatch(r"[\w.-]+(/[\w.-]+)+", word) is not None
                        if looks_like_one and not _ELSEWHERE.match(word):
                            self.assertTrue((CHECKOUT / word).exists(), word)

    def test_the_shell_understands_them(self) -> None:
        for code in codes():
            if code.language == "sh":
                with self.subTest(page=code.page, line=code.line):
                    done = subprocess.run(
                        ["sh", "-n"],
                        input=code.text,
                        capture_output=True,
                        text=True,
                        timeout=_SECONDS,
                        check=False,
                    )
                    self.assertEqual(done.returncode, 0, done.stderr)

    def test_the_packages_own_command_understands_its_words(self) -> None:
        """Those of check.md and operations.md, too."""
        parser: argparse.ArgumentParser = _parser()
        found = 0
        commands = "publish|listen|schema|bench|check|top"
        for code in codes():
            if code.language == "sh":
                text = code.text.replace("\\\n", " ")
                for words in re.findall(rf"sse-threaded ((?:{commands}) [^|>#\n]*)", text):
                    with self.subTest(page=code.page, words=words):
                        options, rest = parser.parse_known_args(shlex.split(words))
                        self.assertEqual(rest, [])
                        self.assertTrue(callable(options.run))
                        found += 1
        self.assertGreater(found, 8)

    def test_the_lines_for_apache(self) -> None:
        (code,) = [code for code in codes() if code.page == "servers.md" and code.language == "apache"]
        lines = dict(line.split(" ", 1) for line in code.text.splitlines())
        group = lines["WSGIDaemonProcess"].split()[0]
        self.assertEqual(lines["WSGIProcessGroup"], group)
        self.assertEqual(lines["WSGIApplicationGroup"], "%{GLOBAL}")
        self.assertIn("threads=", lines["WSGIDaemonProcess"])


class BytesTest(unittest.TestCase):
    def test_the_bytes_of_the_clients_page(self) -> None:
        """Those of clients.md."""
        first, event = [code.text for code in codes() if code.page == "clients.md" and code.language == "text"]
        hub = enter(self, Hub())
        response = hub.stream({"REQUEST_METHOD": "GET", "werkzeug.socket": None}, "orders")
        self.addCleanup(response.close)
        body = response.response
        self.assertEqual(next(body).decode(), first.replace("hyuakn", hub.log.epoch))
        hub.publish("orders", {"type": "order", "item": "tea"}, event="paid")
        chunk = b""
        while not chunk:
            chunk = next(body)
        self.assertEqual(chunk.decode(), event.replace("hyuakn", hub.log.epoch))


if __name__ == "__main__":
    unittest.main()
