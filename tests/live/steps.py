"""The steps of docs/steps.md, for both apps: their files, and what each step must do under gunicorn."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unittest
from abc import abstractmethod
from typing import NamedTuple

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, GunicornServer, Reply, request
from tests.harness.server_program import ServerProgram
from tests.support import CHECKOUT, enter, missing, sqlite_url, temporary_directory, wait_until

PAGE = (CHECKOUT / "docs" / "steps.md").read_text(encoding="utf-8")
WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4")
STEPS = ("live", "users", "tickets", "origins", "celery", "tests")

_SECONDS = 60
_BLOCK = re.compile(r"^([^\n]*`([\w./]+)`[^\n]*:)\n\n```(python|diff|html)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of the page.

    :ivar section: the number of its step; 0 for the apps before.
    :ivar before: the paragraph above it.
    :ivar path: the file.
    :ivar language: ``"diff"``, or that of the whole file.
    :ivar text: the block.
    """

    section: int
    before: str
    path: str
    language: str
    text: str


def blocks() -> list[Block]:
    """The blocks of the page that are about a file."""
    found = []
    for number, section in enumerate(re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]):
        for paragraph, path, language, text in _BLOCK.findall(section):
            found.append(Block(number, paragraph, path, language, text))
    return found


def apply(diff: str, text: str) -> str:
    """Return a file's text with a change of the page.

    :raises AssertionError: a part of the change does not fit, or fits in several places.
    """
    for part in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = [line or " " for line in part.splitlines()]
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{text.count(old)} places for:\n{old}\nin:\n{text}"
        text = text.replace(old, new)
    return text


def added(diff: str) -> int:
    """How many lines a change adds, without empty ones."""
    return len(re.findall(r"^\+.*\S", diff, re.MULTILINE))


class AppCase(unittest.TestCase):
    """One app in a folder, with all steps up to one."""

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        self.log_url = sqlite_url(self.folder, self.log_name())
        path = os.pathsep.join([str(self.folder), str(CHECKOUT)])
        self.env = {**os.environ, "SECRET_KEY": "secret", "EVENTS_URL": self.log_url, "PYTHONPATH": path}

    @abstractmethod
    def log_name(self) -> str:
        """The file of the log."""

    @abstractmethod
    def is_ours(self, block: Block) -> bool:
        """Whether a block is of this app."""

    @abstractmethod
    def serve(self) -> str:
        """Start the app; returns its URL."""

    @abstractmethod
    def log_in(self, url: str, name: str) -> tuple[dict[str, str], dict[str, str]]:
        """Log a user in; returns the header fields for the user's requests, and the answer."""

    def build(self, step: str) -> None:
        """Write the app's files with all steps up to this one."""
        for block in blocks():
            if block.section > STEPS.index(step) + 1 or not self.is_ours(block):
                continue
            path = self.folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            text = block.text if block.language != "diff" else apply(block.text, path.read_text(encoding="utf-8"))
            path.write_text(text, encoding="utf-8")

    def run_python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def post(self, url: str, form: str, fields: dict[str, str] | None = None) -> Reply:
        form_fields = {"Content-Type": "application/x-www-form-urlencoded", **(fields or {})}
        return request("POST", url, body=form.encode(), headers=form_fields)

    def open(self, url: str, fields: dict[str, str] | None = None) -> EventStreamClient:
        client = enter(self, EventStreamClient(url, headers=fields))
        if client.status == 200:
            client.wait_for_retry()
        return client

    def item(self, client: EventStreamClient) -> str:
        return str(json.loads(client.next_event().data)["item"])

    def gunicorn(self, app: str) -> str:
        return enter(self, GunicornServer(app, args=WORKER, cwd=self.folder, env=self.env)).url


class StepsCase(AppCase):
    def test_1_live_updates(self) -> None:
        self.build("live")
        url = self.serve()
        fields, _ = self.log_in(url, "ann")
        page = request("GET", url).body.decode()
        self.assertIn('new EventSource("/orders/events")', page)
        client = self.open(f"{url}/orders/events")
        self.assertEqual(self.post(f"{url}/orders", "item=tea", fields).status, 201)
        self.assertEqual(self.item(client), "tea")

    def test_2_users_and_logout(self) -> None:
        self.build("users")
        url = self.serve()
        self.assertEqual(self.open(f"{url}/orders/events").status, 401)
        ann, _ = self.log_in(url, "ann")
        bob, _ = self.log_in(url, "bob")
        first, second = self.open(f"{url}/orders/events", ann), self.open(f"{url}/orders/events", bob)
        self.post(f"{url}/orders", "item=tea", bob)
        self.assertEqual(self.item(second), "tea")
        self.assertEqual(first.pending(), [])
        self.assertEqual(self.post(f"{url}/logout", "", bob).status, 200)
        second.wait_for_end()
        self.post(f"{url}/orders", "item=milk", ann)
        self.assertEqual(self.item(first), "milk")

    def test_3_tickets(self) -> None:
        self.build("tickets")
        url = self.serve()
        fields, answer = self.log_in(url, "ann")
        client = self.open(f"{url}/ticket/events?ticket={answer['ticket']}")
        self.post(f"{url}/orders", "item=tea", fields)
        self.assertEqual(self.item(client), "tea")
        self.assertEqual(self.open(f"{url}/ticket/events").status, 403)

    def test_4_other_origins(self) -> None:
        self.build("origins")
        url = self.serve()
        fields, _ = self.log_in(url, "ann")
        client = self.open(f"{url}/orders/events", {**fields, "Origin": "https://app.example"})
        self.assertEqual(client.headers["Access-Control-Allow-Origin"], "https://app.example")
        self.assertEqual(client.headers["Access-Control-Allow-Credentials"], "true")
        evil = self.open(f"{url}/orders/events", {**fields, "Origin": "https://evil.example"})
        self.assertEqual(evil.status, 403)

    @abstractmethod
    def celery_app(self) -> str:
        """The module with Celery's app."""

    def test_5_celery(self) -> None:
        try:
            import celery  # noqa: F401, PLC0415
        except ImportError:
            missing("celery (pip install '.[test]')")
        self.build("celery")
        self.env["BROKER_URL"] = "filesystem://"
        for name in ("in", "out"):
            (self.folder / name).mkdir()
        transport = {"data_folder_in": str(self.folder / "in"), "data_folder_out": str(self.folder / "in")}
        options = f"broker_transport_options = {transport!r}\n"
        (self.folder / "celeryconfig.py").write_text(options, encoding="utf-8")
        self.env["CELERY_CONFIG_MODULE"] = "celeryconfig"
        self.prepare()
        module = self.celery_app()
        command = [sys.executable, "-m", "celery", "-A", module, "worker", "--pool", "solo", "--loglevel", "info"]
        worker = ServerProgram("celery", command, self.folder, lambda: "ready." in worker.output(), env=self.env)
        enter(self, worker)
        self.run_python("-c", f"import {module}; from {self.tasks} import brew; brew.delay(7, 'tea')")
        with Hub(self.log_url) as hub:
            wait_until(lambda: bool(hub.log.read(0)), timeout=_SECONDS, message="the task's event")
            (record,) = hub.log.read(0)
        self.assertEqual((record.channel, record.data), ("orders-7", '{"item":"tea is ready"}'))

    tasks: str

    def prepare(self) -> None:
        """Make what the app needs before its first start."""

    @abstractmethod
    def test_6_tests(self) -> None:
        """Run the app's own tests."""
