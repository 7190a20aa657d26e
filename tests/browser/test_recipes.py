"""The components of docs/clients.md for Alpine and React, in a real browser."""

from __future__ import annotations

import re
import subprocess
import unittest
from contextlib import ExitStack
from typing import Any

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.testing import LiveServer
from tests.browser.clients.catalogue import PACKAGES, require_packages
from tests.harness.chromium import Windows, wait_for, windows
from tests.support import ROOT, enter, temporary_directory, wait_until

ONCE = True  # it says the same under every Python
NPM = True

TEXT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")

ALPINE = """<!doctype html><title>Alpine</title>
<body>BLOCK<script src="/script.js"></script>
<script>window.leave = () => document.querySelector("ul").remove();</script>
"""
REACT = """<!doctype html><title>React</title><div id="root"></div><script src="/script.js"></script>"""
# In this mode React starts, stops and starts each effect once more.
MAIN = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Orders } from "./orders.jsx";

const root = createRoot(document.getElementById("root"));
root.render(<StrictMode><Orders /></StrictMode>);
window.leave = () => root.unmount();
"""


def block(language: str, sign: str) -> str:
    """The only block of the page in a language with this text in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (text,) = [each for each in found if sign in each]
    return str(text)


def setUpModule() -> None:
    """Start one browser for all tests."""
    require_packages()
    with ExitStack() as stack:
        RecipesTest.windows = stack.enter_context(windows())
        unittest.addModuleCleanup(stack.pop_all().close)


class RecipesTest(unittest.TestCase):
    windows: Windows
    page = b""
    script = b""

    def setUp(self) -> None:
        self.hub = enter(self, Hub(heartbeat=0.2))
        self.server = enter(self, LiveServer(Request.application(self.app)))

    def app(self, web: Request) -> Response:
        if web.path == "/orders/events":
            return self.hub.stream(web, "orders")
        if web.path == "/script.js":
            return Response(self.script, mimetype="text/javascript")
        return Response(self.page, mimetype="text/html") if web.path == "/" else NotFound().get_response()

    def open(self, page: str, script: bytes) -> Any:
        self.page, self.script = page.encode(), script
        handle = self.windows.take()
        self.addCleanup(self.windows.give_back, handle)
        browser = self.windows.browser
        browser.get(self.server.url)
        return browser

    def shows_events_and_lets_go(self, browser: Any) -> None:
        wait_until(lambda: self.hub.streams == 1, timeout=30, message="one stream")
        for item in ("tea", "milk"):
            self.hub.publish("orders", {"item": item})
        items = "[...document.querySelectorAll('li')].map((each) => each.textContent).join()"
        wait_for(browser, f"{items} === 'tea,milk'")
        browser.execute_script("leave()")
        wait_until(lambda: self.hub.streams == 0, timeout=30, message="no stream")
        self.assertEqual(browser.execute_script("return document.querySelectorAll('li').length"), 0)

    def test_alpine(self) -> None:
        script = (PACKAGES / "node_modules" / "alpinejs" / "dist" / "cdn.js").read_bytes()
        self.shows_events_and_lets_go(self.open(ALPINE.replace("BLOCK", block("html", "x-data")), script))

    def test_react(self) -> None:
        folder = temporary_directory(self)
        (folder / "node_modules").symlink_to(PACKAGES / "node_modules")
        (folder / "orders.jsx").write_text(block("jsx", "useEffect"), encoding="utf-8")
        (folder / "main.jsx").write_text(MAIN, encoding="utf-8")
        command = ["node", str(PACKAGES / "node_modules" / "esbuild" / "bin" / "esbuild"), "main.jsx", "--bundle"]
        command += ["--jsx=automatic", "--jsx-dev", '--define:process.env.NODE_ENV="development"']
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.shows_events_and_lets_go(self.open(REACT, done.stdout))


if __name__ == "__main__":
    unittest.main()
