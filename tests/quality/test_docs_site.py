"""The documentation is built by Sphinx without a warning, and its links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urldefrag

from tests.support import CHECKOUT, missing

_SECONDS = 300

# The modules whose names the reference must have.
PUBLIC = (
    *(
        "sse_threaded",
        "sse_threaded.browser",
        "sse_threaded.client",
        "sse_threaded.django",
        "sse_threaded.metrics",
    ),
    *("sse_threaded.observer", "sse_threaded.testing"),
)

# What the site needs beside Sphinx itself, as docs/conf.py says.
EXTENSIONS = ("furo", "myst_parser", "sphinx_copybutton")

# Where a page names something that the browser loads.
_LOADED = {"link": "href", "script": "src", "img": "src"}


class Page(HTMLParser):
    """A page of the site.

    :ivar links: where its links lead.
    :ivar loaded: what it loads.
    :ivar ids: the places in it that a link may lead to.
    :ivar headings: how many first headings it has.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.headings = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids.add(named.get("id", ""))
        self.headings += tag == "h1"
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if named.get(_LOADED.get(tag, "")):
            self.loaded.append(named[_LOADED[tag]])


class SiteTest(unittest.TestCase):
    folder: ClassVar[Path]
    output: ClassVar[str]
    status: ClassVar[int]
    pages: ClassVar[dict[Path, Page]]

    @classmethod
    def setUpClass(cls) -> None:
        for name in ("sphinx", *EXTENSIONS):
            if importlib.util.find_spec(name) is None:
                missing(f"{name} (pip install '.[docs]')")
        folder = tempfile.TemporaryDirectory(prefix="sse_threaded-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name).resolve()
        command = ["-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
        done = subprocess.run(
            [sys.executable, *command, "-d", str(cls.folder / "doctrees"), "docs", str(cls.folder / "html")],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        cls.status, cls.output = done.returncode, done.stdout
        paths = (cls.folder / "html").rglob("*.html")
        cls.pages = {path: Page(path) for path in paths if "_static" not in path.parts}

    def of_ours(self) -> dict[Path, Page]:
        """The pages that are files of docs/."""
        names = {path.stem for path in (CHECKOUT / "docs").glob("*.md")}
        return {
            path: page for path, page in self.pages.items() if path.parent.name == "html" and path.stem in names
        }

    def test_it_is_built_without_a_warning(self) -> None:
        self.assertEqual(self.status, 0, self.output)

    def test_each_file_is_a_page_that_the_front_page_leads_to(self) -> None:
        pages = self.of_ours()
        self.assertEqual({path.stem for path in pages}, {path.stem for path in (CHECKOUT / "docs").glob("*.md")})
        front = self.folder / "html" / "index.html"
        seen, waiting = {front}, [front]
        while waiting:
            here = waiting.pop()
            for link in self.pages[here].links:
                target = (here.parent / unquote(urldefrag(link)[0])).resolve()
                if target in pages and target not in seen:
                    seen.add(target)
                    waiting.append(target)
        self.assertEqual(set(pages) - seen, set())

    def test_each_link_inside_the_site_leads_to_a_place(self) -> None:
        for path, page in self.of_ours().items():
            for link in page.links:
                address, place = urldefrag(link)
                if re.match(r"[a-z]+:", link):
                    continue
                with self.subTest(page=path.stem, link=link):
                    target = (path.parent / unquote(address)).resolve() if address else path
                    self.assertTrue(target.exists())
                    if place and target in self.pages:
                        self.assertIn(unquote(place), self.pages[target].ids)

    def test_each_page_has_one_first_heading(self) -> None:
        for path, page in self.of_ours().items():
            with self.subTest(path.stem):
                self.assertEqual(page.headings, 1)

    def test_a_page_loads_nothing_from_elsewhere(self) -> None:
        for path, page in self.of_ours().items():
            for address in page.loaded:
                with self.subTest(page=path.stem, address=address):
                    self.assertNotRegex(address, r"^([a-z]+:)?//")

    def test_the_reference_has_each_public_name(self) -> None:
        ids = {
            place.rpartition(".")[2]
            for page in self.pages.values()
            for place in page.ids
            if "sse_threaded" in place
        }
        for module in PUBLIC:
            for name in importlib.import_module(module).__all__:
                with self.subTest(module=module, name=name):
                    self.assertIn(name, ids)

    def test_files_of_the_repository_can_be_fetched(self) -> None:
        (deployment,) = [page for path, page in self.of_ours().items() if path.stem == "deployment"]
        names = {link.rpartition("/")[2] for link in deployment.links if "_downloads/" in link}
        self.assertLessEqual({"nginx.conf", "Caddyfile", "gunicorn.conf.py"}, names)


if __name__ == "__main__":
    unittest.main()
