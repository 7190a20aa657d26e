"""Pages, docstrings and comments are plain English: see :mod:`tests.quality.prose` and ``prose_rules.txt``."""

from __future__ import annotations

import unittest
from collections import Counter
from pathlib import Path

from tests.quality import prose
from tests.support import CHECKOUT, temporary_directory

# What the rules must find, and what they must leave alone. One sentence for each kind.
FOUND = {
    "Who comes to a process that ends is told the same times.": "Who",
    "Names that are none are refused.": "are none",
    "A note for whoever reads this.": "whoever",
    "It waits as far as it can.": "as far as",
    "It sends the event so that nobody misses it.": "so that nobody",
    "Each task has its turn.": "its turn",
}
PLAIN = (
    "New clients during a shutdown get the same delays.",
    "The name `is none` is invalid.",
    "What does it do?",
)

PYTHON = '''"""First line.

Second, for whoever reads::

    as far as code goes

Third:

    as far as a table goes

:param x: as far as it goes.
"""

x = 1  # noqa: E501  # for whoever
# A comment of two lines, which names
# nothing.
'''


class RulesTest(unittest.TestCase):
    def findings(self, name: str, text: str) -> list[prose.Finding]:
        path: Path = temporary_directory(self) / name
        path.write_text(text, encoding="utf-8")
        return list(prose.findings(path, path.parent))

    def test_each_phrase_is_found_with_its_line(self) -> None:
        for sentence, phrase in FOUND.items():
            with self.subTest(sentence):
                found = self.findings("page.md", f"# Title\n\nThis is plain. {sentence}\n")
                self.assertIn((3, phrase), [(finding.line, finding.found) for finding in found])

    def test_plain_sentences_pass(self) -> None:
        for sentence in PLAIN:
            with self.subTest(sentence):
                self.assertEqual(self.findings("page.md", sentence + "\n"), [])

    def test_a_sentence_may_have_25_words(self) -> None:
        for words, long in ((25, []), (26, [True])):
            with self.subTest(words=words):
                found = self.findings("page.md", "Word " * (words - 1) + "word.\n")
                self.assertEqual([finding.is_long for finding in found], long)

    def test_code_is_one_word_and_blocks_are_left_out(self) -> None:
        text = "Call `" + "a b " * 30 + "`.\n\n```sh\nas far as whoever\n```\n"
        self.assertEqual(self.findings("page.md", text), [])

    def test_docstrings_and_comments_are_read(self) -> None:
        found = sorted((finding.line, finding.found) for finding in self.findings("module.py", PYTHON))
        self.assertEqual(found, [(3, "whoever"), (11, "as far as"), (14, "whoever"), (15, "names nothing")])

    def test_messages_are_read(self) -> None:
        text = 'raise ValueError("the name is none of ours")\nprint(f"{x} is none of {y}")\nshort = "is none"\n'
        found = self.findings("module.py", text)
        self.assertEqual([(finding.line, finding.found) for finding in found], [(1, "is none"), (2, "is none")])

    def test_comments_of_other_languages_are_read(self) -> None:
        for name, mark in (("page.js", "//"), ("script.lua", "--")):
            with self.subTest(name):
                found = self.findings(name, f"{mark} For\n{mark} whoever.\ncode()  {mark} as far as\n")
                self.assertEqual({finding.found for finding in found}, {"whoever", "as far as"})

    def test_comments_of_configuration_files_are_read(self) -> None:
        found = self.findings("app.conf", "# First line,\n# as far as it goes.\n#name=as far as\nname=1\n")
        self.assertEqual([(finding.line, finding.found) for finding in found], [(1, "as far as")])


class PagesTest(unittest.TestCase):
    maxDiff = None

    def test_pages_are_plain(self) -> None:
        paths = [
            path for path in prose.pages(CHECKOUT) if path.relative_to(CHECKOUT).as_posix() not in prose.GENERATED
        ]
        self.assertGreater(len(paths), 10)
        found = [str(finding) for path in paths for finding in prose.findings(path, CHECKOUT)]
        self.assertEqual(found, [], "\n".join(["", *found]))

    def test_readme_is_short(self) -> None:
        lines = (CHECKOUT / "README.md").read_text(encoding="utf-8").splitlines()
        self.assertLessEqual(len(lines), 150, "move the longest subject to a page of docs/")

    def test_the_rest_gets_better(self) -> None:
        found = list(prose.limited(CHECKOUT))
        counts = Counter(prose.place(finding) for finding in found)
        allowed = prose.allowed()
        for name, count in sorted(counts.items()):
            with self.subTest(name):
                there = "\n".join(str(finding) for finding in found if prose.place(finding) == name)
                self.assertLessEqual(count, allowed.get(name, 0), f"{name} has more than before\n{there}")


if __name__ == "__main__":
    unittest.main()
