"""The modules, classes and methods that docs/design.md and CONTRIBUTING.md name exist."""

from __future__ import annotations

import ast
import re
import unittest
from pathlib import Path

from tests.support import CHECKOUT

PACKAGE = CHECKOUT / "sse_threaded"
PAGES = (CHECKOUT / "docs" / "design.md", CHECKOUT / "CONTRIBUTING.md")

_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?!/|-)[\w./-]+(\.py|/)")
_MEMBER = re.compile(r"_?[A-Z]\w+\.\w+")

# Members of other packages, and of the browser.
FOREIGN = {"queue.Queue", "queue.Full"}


def codes(page: Path) -> list[str]:
    """Every piece of code inside the text of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return _CODE.findall(text)


def members() -> dict[str, set[str]]:
    """The attributes that each class of the package has, whether in its body or set on ``self``."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = found.setdefault(node.name, set())
                for inner in ast.walk(node):
                    if isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
                        names.add(inner.name)
                    elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                        names.add(inner.attr)
                    elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                        names.add(inner.id)
    return found


class NamesTest(unittest.TestCase):
    def test_files_and_folders_exist(self) -> None:
        for page in PAGES:
            for code in codes(page):
                if _PATH.fullmatch(code) and "NAME" not in code:
                    with self.subTest(page=page.name, path=code):
                        places = [root / code for root in (CHECKOUT, PACKAGE)]
                        # A table of rooms names files without their folder.
                        places += PACKAGE.rglob(code) if code.endswith(".py") else []
                        self.assertTrue(any(place.exists() for place in places))

    def test_classes_and_their_members_exist(self) -> None:
        known = members()
        for page in PAGES:
            for code in codes(page):
                if _MEMBER.fullmatch(code) and code not in FOREIGN and not code.endswith((".md", ".sql")):
                    name, _, member = code.partition(".")
                    with self.subTest(page=page.name, member=code):
                        self.assertIn(name, known)
                        self.assertIn(member, known[name])


if __name__ == "__main__":
    unittest.main()
