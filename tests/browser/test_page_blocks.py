"""JavaScript and HTML of several pages, as they stand there, in a real browser."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import unittest
from contextlib import ExitStack
from typing import Any

from werkzeug.exceptions import Forbidden, NotFound
from werkzeug.security import safe_join
from werkzeug.wrappers import Request, Response

from sse_threaded import Hub
from sse_threaded.testing import GunicornServer, LiveServer, request
from tests.browser.clients.catalogue import PACKAGES, require_packages
from tests.harness.chromium import Windows, wait_for, windows
from tests.harness.django_project import page_block
from tests.live import steps
from tests.quality.test_examples import blocks
from tests.support import CHECKOUT, enter, missing, temporary_directory, wait_until

try:
    import flask
    import jinja2
except ImportError:
    flask = jinja2 = None

ONCE = True  # it says the same under every Python
NPM = True

_SECONDS = 60
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
ITEMS = "[...document.querySelectorAll('li')].map((each) => each.textContent).join()"

# A route of an app, with the page in PAGE.
_ROUTE = """

@app.get("/{path}")
def shown(**values: str) -> str:
    return {page!r}
"""


def setUpModule() -> None:
    """Start one browser for all tests."""
    require_packages()
    with ExitStack() as stack:
        BrowserCase.windows = stack.enter_context(windows())
        unittest.addModuleCleanup(stack.pop_all().close)


class BrowserCase(unittest.TestCase):
    windows: Windows

    def open(self, url: str) -> Any:
        handle = self.windows.take()
        self.addCleanup(self.windows.give_back, handle)
        self.windows.browser.get(url)
        return self.windows.browser


class WholeAppTest(BrowserCase):
    """An app of a page, under gunicorn."""

    def serve(self, name: str, code: str, path: str, page: str, args: list[str]) -> str:
        if flask is None:
            missing("flask (pip install flask)")
        folder = temporary_directory(self)
        (folder / f"{name}.py").write_text(code + _ROUTE.format(path=path, page=page), encoding="utf-8")
        return enter(self, GunicornServer(f"{name}:app", args=args, cwd=folder)).url

    def test_the_app_of_the_readme(self) -> None:
        (code,) = [
            each.text for each in blocks() if each.path.name == "README.md" and "Flask(__name__)" in each.text
        ]
        (command,) = re.findall(r"^gunicorn -k .*$", README, re.MULTILINE)
        program, *args, app = shlex.split(command)
        self.assertEqual((program, app), ("gunicorn", "app:app"))
        (script,) = re.findall(r"^```js\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
        page = f"<script>console.log = (value) => {{ window.logged = value; }};</script><script>{script}</script>"
        url = self.serve("app", code, "page", page, args)
        browser = self.open(f"{url}/page")
        wait_for(browser, "source.readyState === EventSource.OPEN")
        request("POST", f"{url}/orders", json={"item": "tea"})
        wait_for(browser, "window.logged?.item === 'tea'")
        browser.execute_script("source.dispatchEvent(new Event('reset'))")
        wait_for(browser, "window.logged === undefined && source.readyState === EventSource.OPEN")

    def test_the_page_of_an_answer(self) -> None:
        (code,) = [each.text for each in blocks() if each.path.name == "answers.md"]
        id_of_page = "<script>const id = location.pathname.split('/')[2];</script>"
        page = id_of_page + page_block("answers.md", "EventSource", "html")
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "8"]
        url = self.serve("answers", code, "page/<answer>", page, args)
        answer = request("POST", f"{url}/answers", json={"question": "one two three"}).json()["id"]
        browser = self.open(f"{url}/page/{answer}")
        wait_for(browser, "document.querySelector('#answer').textContent === 'one two three '")
        wait_for(browser, "source.readyState === EventSource.CLOSED")
        browser.refresh()
        wait_for(browser, "document.querySelector('#answer').textContent === 'one two three '")


class SnippetTest(BrowserCase):
    """A part of a page, in a small page of the test."""

    def setUp(self) -> None:
        self.hub = enter(self, Hub(retry=100))
        self.server = enter(self, LiveServer(Request.application(self.app)))
        self.page = ""
        self.script = b""
        self.is_forbidden = False
        self.last_event_ids: list[str | None] = []

    def app(self, web: Request) -> Response:
        if web.path == "/orders/events":
            self.last_event_ids.append(web.args.get("lastEventId"))
            return Forbidden().get_response() if self.is_forbidden else self.hub.stream(web, "orders")
        if web.path == "/script.js":
            return Response(self.script, mimetype="text/javascript")
        if web.path.startswith("/packages/"):
            path = safe_join(str(PACKAGES), web.path.removeprefix("/packages/"))
            with open(path or os.devnull, "rb") as file:
                return Response(file.read(), mimetype="text/javascript")
        if web.path in ("/", "/login"):
            return Response(f"<!doctype html><title>{web.path}</title>{self.page}", mimetype="text/html")
        return NotFound().get_response()

    def show(self, page: str) -> Any:
        self.page = page
        return self.open(self.server.url)

    def wait_for_stream(self) -> None:
        wait_until(lambda: self.hub.streams == 1, timeout=_SECONDS, message="one stream")

    def test_a_refusal_leads_to_the_login(self) -> None:
        self.is_forbidden = True
        script = page_block("access.md", "EventSource.CLOSED", "js")
        browser = self.show(f"<script>const source = new EventSource('/orders/events');{script}</script>")
        wait_for(browser, "location.pathname === '/login'")

    def test_a_page_that_begins_after_its_rows(self) -> None:
        if jinja2 is None:
            missing("jinja2 (pip install flask)")
        event_id = self.hub.publish("orders", "tea")
        text = page_block("usage.md", "EventSource", "html")
        self.show(jinja2.Template(text).render(last_event_id=event_id))
        self.wait_for_stream()
        self.assertEqual(self.last_event_ids, [event_id])

    def test_the_page_of_the_steps(self) -> None:
        (before,) = [each for each in steps.blocks() if each.language == "html"]
        (change,) = [each for each in steps.blocks() if each.section == 1 and each.path == before.path]
        browser = self.show(steps.apply(change.text, before.text))
        self.wait_for_stream()
        self.hub.publish("orders", {"item": "tea"})
        wait_for(browser, f"{ITEMS} === 'tea'")

    def goes_on(self, browser: Any, data: list[str], event: str | None, shown: str) -> None:
        """It shows an event, and another one after the server has ended its stream."""
        for each in data:
            self.wait_for_stream()
            self.hub.publish("orders", each, event)
            if each != data[-1]:
                wait_for(browser, f"({shown}) === '1'")
                self.hub.disconnect(channel="orders")
                wait_until(lambda: len(self.last_event_ids) == 2, timeout=_SECONDS, message="it comes again")
        wait_for(browser, f"({shown}) === '1,2'")

    def test_fetch_event_source(self) -> None:
        folder = temporary_directory(self)
        (folder / "node_modules").symlink_to(PACKAGES / "node_modules")
        code = page_block("clients.md", "fetchEventSource", "js")
        (folder / "main.js").write_text(f"{code}\nfunction show(value) {{ window.shown.push(value); }}\n")
        command = ["node", str(PACKAGES / "node_modules" / "esbuild" / "bin" / "esbuild"), "main.js", "--bundle"]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.script = done.stdout
        browser = self.show("<script>window.shown = []</script><script src='/script.js'></script>")
        self.goes_on(browser, ["1", "2"], None, "window.shown.join()")

    def test_datastar(self) -> None:
        script = "/packages/wheels/starhtml/static/js/datastar-core.js"
        block = page_block("clients.md", "data-init", "html")
        browser = self.show(f"<script type='module' src='{script}'></script><ul id='list'></ul>{block}")
        data = [f"mode append\nselector #list\nelements <li>{number}</li>" for number in (1, 2)]
        self.goes_on(browser, data, "datastar-patch-elements", ITEMS)


if __name__ == "__main__":
    unittest.main()
