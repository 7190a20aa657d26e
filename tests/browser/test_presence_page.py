"""The page of docs/presence.md in a real browser, with the page's own app."""

from __future__ import annotations

import re
import unittest
from typing import Any
from urllib.parse import urlencode

from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.chromium import chromium, wait_for
from tests.quality.test_examples import blocks
from tests.support import ROOT, enter, temporary_directory

ONCE = True  # the page is the same under every Python

PAGE = (ROOT / "docs" / "presence.md").read_text(encoding="utf-8")
SERVED = """
from room import app
from pathlib import Path

@app.get("/")
def page():
    return Path(__file__).with_name("page.html").read_text()
"""
PEOPLE = "[...document.querySelectorAll('#people li')].map((each) => each.textContent).join()"


class PresencePageTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = temporary_directory(self)
        (code,) = [each.text for each in blocks() if each.path.name == "presence.md"]
        (html,) = re.findall(r"```html\n(.*?)```", PAGE, re.DOTALL)
        (folder / "room.py").write_text(code, encoding="utf-8")
        (folder / "served.py").write_text(SERVED, encoding="utf-8")
        (folder / "page.html").write_text(f"<!doctype html><title>room</title>{html}", encoding="utf-8")
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "8", "-w", "2"]
        self.server = enter(self, GunicornServer("served:app", args=args, cwd=folder))
        self.browser: Any = enter(self, chromium())

    def cookie_of(self, name: str) -> str:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode({"name": name}).encode()
        answer = request("POST", f"{self.server.url}/login", headers=form, body=body)
        return str(answer.headers["Set-Cookie"].partition(";")[0])

    def test_people_come_and_go(self) -> None:
        self.browser.get(f"{self.server.url}/nowhere")
        name, _, value = self.cookie_of("<b>anna</b>").partition("=")
        self.browser.add_cookie({"name": name, "value": value})
        self.browser.get(self.server.url)
        wait_for(self.browser, f"{PEOPLE} === '<b>anna</b>'")
        cookie = {"Cookie": self.cookie_of("bo")}
        with EventStreamClient(f"{self.server.url}/rooms/7/events", headers=cookie) as client:
            client.wait_for_retry()
            wait_for(self.browser, f"{PEOPLE} === '<b>anna</b>,bo'")
        wait_for(self.browser, f"{PEOPLE} === '<b>anna</b>'", timeout=40)
