"""Two pages of a real browser on one board, and a server that is killed under them."""

from __future__ import annotations

import json
import subprocess
import sys
import unittest
from contextlib import ExitStack, closing

from sse_threaded import open_log
from sse_threaded.log.retention import AS_OTHERS_KEEP
from sse_threaded.testing import GunicornServer, request
from tests.browser.test_board_page import STATE, Page
from tests.harness.chromium import Windows, windows
from tests.support import ROOT, enter, sqlite_url, temporary_directory

# Another reader on the page's own connection: every event that live.js hands out, as it does.
RECORD = """
window.received = [];
import(document.getElementById("live-script").href).then(({ Live }) => {
  const { lastEventId } = JSON.parse(document.getElementById("snapshot").textContent);
  const live = new Live("/events", { lastEventId });
  live.subscribe("board-1", (event) => window.received.push(event.id));
  live.addEventListener("reset", () => window.received.push("reset"));
});
"""


def setUpModule() -> None:
    """Start one browser for all classes."""
    with ExitStack() as stack:
        # While a page waits for the server, its mark moves all the time, which is drawn without a graphics card.
        RestartTest.windows = stack.enter_context(windows("--force-prefers-reduced-motion"))
        unittest.addModuleCleanup(stack.pop_all().close)


class RestartTest(unittest.TestCase):
    args: tuple[str, ...] = ()
    windows: Windows

    def setUp(self):
        self.directory = temporary_directory(self)
        self.log_url = sqlite_url(self.directory)

    def append_task(self, title):
        """Another process makes a task while no server runs."""
        code = """
import sys
from sse_threaded import open_log
from sse_threaded.board.store import open_store
open_store(open_log(sys.argv[1])).create_task("board-1", sys.argv[2])
"""
        subprocess.run([sys.executable, "-c", code, self.log_url, title], check=True, timeout=60)

    def test_the_server_is_killed_and_the_pages_come_back_by_themselves(self):
        env = {"SSE_THREADED_URL": self.log_url, "SSE_THREADED_RETRY": "500"}
        config = ROOT / "deploy" / "gunicorn.conf.py"
        gunicorn = GunicornServer(config=config, args=self.args, env=env, cwd=self.directory)
        with gunicorn as server:
            url = server.url + "/boards/board-1"
            pages = []
            for _ in range(2):
                page = Page(self.windows, url)
                self.addCleanup(page.close)
                page.wait_state("live")
                page.browser.execute_script(RECORD)
                pages.append(page)
            first, second = pages
            first.add("list-doing", "From the first page")
            for page in pages:
                page.wait("document.body.textContent.includes('From the first page')")
            expected = 1
            for turn in range(3):
                server.kill()
                for page in pages:
                    page.wait(f"['reconnecting', 'polling'].includes({STATE})")
                self.append_task(f"Made while it was down {turn}")
                server.restart()
                request("POST", server.url + "/boards/board-1/tasks", json={"title": f"Made after {turn}"})
                expected += 2
                for page in pages:
                    page.wait("document.body.textContent.includes(arguments[0])", f"Made after {turn}")
                    page.wait_state("live")
            log = enter(self, closing(open_log(self.log_url, AS_OTHERS_KEEP)))
            ids = [log.event_id(record.sequence) for record in log.read(0, channels=["board-1"])]
            self.assertEqual(len(ids), expected)
            board = json.loads(request("GET", url, headers={"Accept": "application/json"}).body)
            for page in pages:
                page.wait("window.received.at(-1) === arguments[0]", ids[-1])
                self.assertEqual(page.script("window.received"), ids)
                shown = page.shown()
                for column in board["lists"]:
                    titles = [task["title"] for task in board["tasks"] if task["listId"] == column["id"]]
                    self.assertEqual(shown[column["id"]], titles)
            second.add("list-todo", "Still works")
            first.wait("document.body.textContent.includes('Still works')")


class ThreadsRestartTest(RestartTest):
    args = ("-k", "gthread", "--threads", "64")
