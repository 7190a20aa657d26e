"""docs/tutorial.md, followed in a real browser."""

from __future__ import annotations

import re
import subprocess
import threading
import unittest
from typing import Any

from sse_threaded.testing import EventStreamClient, request
from tests.harness.chromium import chromium
from tests.harness.tutorial import ADDRESS, PAGE, PICTURES, Tutorial, blocks, follow
from tests.support import enter, temporary_directory

ONCE = True  # it says the same under every Python
NPM = False

_SECONDS = 60
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# Bytes of a picture, at most. A page has several, and a reader may have a slow connection.
_MOST_BYTES = 60_000


class TutorialTest(unittest.TestCase):
    def test_each_step_shows_what_the_page_says(self) -> None:
        taken: list[int] = []

        def camera(browser: Any, number: int) -> None:
            taken.append(number)

        with chromium(760, 400) as browser:
            follow(Tutorial(temporary_directory(self)), browser, camera)
        shown = re.findall(r"\(pictures/tutorial-(\d)\.png\)", PAGE)
        self.assertEqual(taken, [int(number) for number in shown])

    def test_the_bytes(self) -> None:
        tutorial = Tutorial(temporary_directory(self))
        tutorial.begin()
        tutorial.change(2)
        enter(self, tutorial.server(1, "flask --app"))
        self.order(tutorial, "milk")
        command = tutorial.command(2, "curl").split()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        timer = threading.Timer(_SECONDS, process.kill)
        timer.start()
        self.addCleanup(timer.cancel)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        (shown,) = blocks(2, "text")
        found = "".join(process.stdout.readline() for _ in range(5))
        self.order(tutorial, "eggs")
        found += "".join(process.stdout.readline() for _ in range(2))
        epoch = re.findall(r"^id: ([a-z]{6})-", found, re.MULTILINE)[0]
        self.assertEqual(found, shown.replace("hyuakn", epoch))

    def test_after_a_kill_rows_and_events_are_the_same(self) -> None:
        tutorial = Tutorial(temporary_directory(self))
        tutorial.begin()
        for section in (2, 5):
            tutorial.change(section)
        server = tutorial.server(5, "-w 2")
        enter(self, server)
        with EventStreamClient(f"{tutorial.url}/events") as client:
            client.wait_for_retry()
            self.order(tutorial, "rice")
            first = client.next_event()
        server.kill()
        server.start()
        self.order(tutorial, "salt")
        with EventStreamClient(f"{tutorial.url}/events", last_event_id=first.last_event_id) as client:
            self.assertEqual(client.next_event().data, '{"item":"salt"}')
        page = request("GET", tutorial.url).body.decode()
        self.assertEqual(re.findall("<li>(.*?)</li>", page), ["rice", "salt"])

    def order(self, tutorial: Tutorial, item: str) -> None:
        answer = request("POST", f"{tutorial.url}/items", body=f"item={item}".encode(), headers=_FORM)
        self.assertEqual(answer.status, 302)


class PageTest(unittest.TestCase):
    def test_the_pictures_are_light(self) -> None:
        pictures = sorted(PICTURES.glob("tutorial-*.png"))
        self.assertEqual([path.name for path in pictures], re.findall(r"\(pictures/(tutorial-\d\.png)\)", PAGE))
        for path in pictures:
            with self.subTest(path.name):
                self.assertLess(path.stat().st_size, _MOST_BYTES)

    def test_the_commands_have_the_address_of_the_text(self) -> None:
        self.assertIn(f"<http://{ADDRESS}>", PAGE)
        for section in (1, 2, 3, 5):
            (command,) = [each for each in blocks(section, "sh") if "8000" in each]
            with self.subTest(command):
                self.assertTrue(ADDRESS in command or "--port 8000" in command)


if __name__ == "__main__":
    unittest.main()
