"""The code and the commands of docs/publishing.md, as they stand there; RQ's are in tests/redis."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

from sse_threaded import FINISHED, Hub
from sse_threaded.testing import EventStreamClient, LiveServer, request
from tests.harness.server_program import ServerProgram
from tests.quality.test_examples import blocks, made_whole
from tests.support import CHECKOUT, enter, missing, sqlite_url, temporary_directory, wait_until

PAGE = CHECKOUT / "docs" / "publishing.md"
TOKEN = "a-token-that-cannot-be-guessed"
REPORT = [("report-7", None, f'{{"done":{done}}}') for done in (0, 50, 100)]
REPORT += [("report-7", FINISHED, '{"file":"report-7.pdf"}')]

_SECONDS = 60


def python_block(sign: str) -> str:
    """The block of the page with this text in it, and the names that the text around takes for granted."""
    (block,) = [each for each in blocks() if each.path == PAGE and sign in each.text]
    return made_whole(block)


def other_block(language: str, sign: str) -> str:
    """The block of another language with this text in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = [each for each in found if sign in each]
    return str(block)


def events_of(hub: Hub) -> list[tuple[str, str | None, str]]:
    """Channel, type and data of all events but those of the library."""
    records = [each for each in hub.log.read(0) if not each.channel.startswith("sse_threaded:")]
    return [(each.channel, each.event, each.data) for each in records]


class PageCase(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        self.url = sqlite_url(self.folder)
        self.hub = enter(self, Hub(self.url))
        commands = self.folder / "bin"
        commands.mkdir()
        command = commands / "sse-threaded"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sse_threaded.cli "$@"\n')
        command.chmod(0o755)
        path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        modules = f"{self.folder}:{os.environ.get('PYTHONPATH', CHECKOUT)}"
        self.env = {**os.environ, "PATH": path, "PYTHONPATH": modules, "EVENTS_URL": self.url}

    def run_shell(self, text: str, **env: str) -> str:
        """Run commands in the test's folder; returns their output."""
        done = subprocess.run(
            ["sh", "-e", "-c", text],
            env={**self.env, **env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


class PythonTest(PageCase):
    def test_a_thread(self) -> None:
        names: dict[str, Any] = {}
        exec(python_block("threading.Thread(target=run"), names)
        hub = enter(self, names["hub"])
        wait_until(lambda: len(events_of(hub)) == 4, message="the thread is over")
        done = [("job-7", None, f'{{"done":{done}}}') for done in (0, 50, 100)]
        self.assertEqual(events_of(hub), [*done, ("job-7", FINISHED, '{"result":"report.pdf"}')])

    def test_a_celery_task_in_a_real_worker(self) -> None:
        try:
            import celery  # noqa: F401, PLC0415  # it may not be installed
        except ImportError:
            missing("celery (pip install '.[test]')")
        shop = self.folder / "shop"
        shop.mkdir()
        (shop / "__init__.py").touch()
        (shop / "tasks.py").write_text(python_block("from celery import"))
        for name in ("queue", "control"):
            (self.folder / name).mkdir()
        # A broker in a folder. The page names none, as it has no part in publishing.
        folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
        options = {name: str(self.folder / folder) for name, folder in folders.items()}
        (self.folder / "broker.py").write_text(
            f"from shop.tasks import app\napp.conf.broker_transport_options = {options!r}\n"
            "app.conf.broker_connection_retry_on_startup = True\n"
        )
        env = {**self.env, "BROKER_URL": "filesystem://"}
        for pool in ("prefork", "threads"):
            with self.subTest(pool):
                before = len(events_of(self.hub))
                command = [sys.executable, "-m", "celery", "-A", "broker", "worker", "-P", pool, "-c", "2"]
                command += ["--without-gossip", "--without-mingle", "--loglevel", "INFO"]
                with ServerProgram("celery", command, self.folder, lambda: True, env=env, timeout=_SECONDS):
                    done = subprocess.run(
                        [sys.executable, "-c", "import broker; from shop.tasks import report; report.delay(7)"],
                        env=env,
                        cwd=self.folder,
                        capture_output=True,
                        text=True,
                        timeout=_SECONDS,
                        check=False,
                    )
                    self.assertEqual(done.returncode, 0, done.stderr)
                    wait_until(
                        lambda: len(events_of(self.hub)) == before + 4,  # noqa: B023  # it is called at once
                        timeout=_SECONDS,
                        message="the task is done",
                    )
                self.assertEqual(events_of(self.hub)[before:], REPORT)


class ShellTest(PageCase):
    def test_the_commands(self) -> None:
        (self.folder / "Makefile").write_text("all:\n\t@echo one\n\t@echo two >&2\n")
        text = other_block("sh", "SSE_THREADED_URL").replace("sqlite:////srv/shop/events.db", self.url)
        ids = self.run_shell(text).split()
        self.assertEqual(ids, [self.hub.log.event_id(number) for number in range(1, 6)])
        news, tick, *build = events_of(self.hub)
        self.assertEqual(news, ("news", None, '{"title":"Hello"}'))
        self.assertEqual(tick[:2], ("news", "tick"))
        lines = [("build-7", None, "one"), ("build-7", None, "two"), ("build-7", FINISHED, "{}")]
        self.assertEqual(build, lines)


class HTTPTest(PageCase):
    def setUp(self) -> None:
        super().setUp()
        made = self.run_shell(other_block("sh", "token_urlsafe")).strip()
        self.assertRegex(made, r"\Asha256:[0-9a-f]{64}\Z")
        before = os.environ.get("PUBLISHER")
        os.environ["PUBLISHER"] = made
        self.addCleanup(lambda: os.environ.update(PUBLISHER=before) if before else os.environ.pop("PUBLISHER"))
        names: dict[str, Any] = {}
        exec(python_block("hub.publisher(tokens="), names)
        self.app_hub = enter(self, names["hub"])
        names["app"].add_url_rule("/events", view_func=lambda: self.stream(names["request"]))
        self.server = enter(self, LiveServer(names["application"]))
        self.token = (self.folder / "token").read_text().strip()

    def stream(self, web: Any) -> Any:
        return self.app_hub.stream(web, "job-7")

    def test_curl_and_the_same_again(self) -> None:
        if shutil.which("curl") is None:
            missing("curl (apt-get install curl)")
        text = other_block("sh", "curl https").replace("https://app.example", self.server.url)
        with EventStreamClient(f"{self.server.url}/events") as client:
            client.wait_for_retry()
            first = self.run_shell(text)
            self.assertEqual(self.run_shell(text), first)
            self.assertEqual(client.next_event().data, '{"done":90}')
            self.assertIn(client.last_event_id, first)
        self.assertEqual(len(events_of(self.app_hub)), 1)

    def test_node(self) -> None:
        if shutil.which("node") is None:
            missing("node (apt-get install nodejs)")
        text = other_block("js", "await fetch").replace("https://app.example", self.server.url)
        (self.folder / "publish.mjs").write_text(text)
        output = self.run_shell("node publish.mjs", TOKEN=self.token)
        self.assertRegex(output, r"\A201 \{\s*ids: \[")
        self.assertEqual(events_of(self.app_hub), [("job-7", None, '{"done":100}'), ("job-7", FINISHED, "{}")])

    def test_the_command_with_a_publisher(self) -> None:
        output = self.run_shell(
            "echo hello | sse-threaded publish job-7 --lines --finish "
            f"--to {self.server.url}/publish --token-file token"
        )
        self.assertEqual(len(output.split()), 2)
        self.assertEqual(events_of(self.app_hub), [("job-7", None, "hello"), ("job-7", FINISHED, "{}")])

    def test_the_limits_of_its_channels(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        for channel, status in (("job-7", 201), ("news", 201), ("newsletter", 403)):
            answer = request(
                "POST", f"{self.server.url}/publish", json={"channel": channel, "data": 1}, headers=headers
            )
            self.assertEqual(answer.status, status)


if __name__ == "__main__":
    unittest.main()
