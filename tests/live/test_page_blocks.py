"""Code and commands of several pages that have no test of their own elsewhere, as they stand there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from gunicorn.config import Config
from werkzeug.wrappers import Request

import sse_threaded.board.gunicorn_conf
from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, LiveServer, request
from tests.harness.django_project import page_block
from tests.harness.server_program import ServerProgram, answers_http
from tests.live import steps
from tests.live.frameworks.page import write_app
from tests.quality.test_examples import Block, blocks, made_whole
from tests.support import CHECKOUT, enter, free_port, missing, sqlite_url, temporary_directory

try:
    import flask
except ImportError:
    flask = None

ONCE = True  # it says the same under every Python

_SECONDS = 60
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def python_block(page: str, sign: str) -> Block:
    """The Python block of a page with this text in it."""
    (found,) = [each for each in blocks() if each.path.name == page and sign in each.text]
    return found


class ShellCase(unittest.TestCase):
    """A folder with the commands of this Python, as those of an environment."""

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        self.url = sqlite_url(self.folder)
        commands = self.folder / ".venv" / "bin"
        commands.mkdir(parents=True)
        for name, module in (("gunicorn", "gunicorn"), ("sse-threaded", "sse_threaded.cli")):
            command = commands / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            command.chmod(0o755)
        modules = f"{self.folder}:{os.environ.get('PYTHONPATH', CHECKOUT)}"
        path = f"{commands}:{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "PYTHONPATH": modules, "SSE_THREADED_URL": self.url}

    def run_shell(self, text: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-c", text],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def serve(self, command: str, path: str = "/") -> str:
        """Run a command that serves; returns the URL."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        env = {**self.env, "GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port}"}
        enter(self, ServerProgram("it", ["sh", "-c", command], self.folder, answers_http(url + path), env=env))
        return url


class ServerCommandsTest(ShellCase):
    def test_the_command_of_the_frameworks_page(self) -> None:
        command = page_block("frameworks.md", "worker-connections", "sh")
        self.assertIn(command, README)
        write_app(
            self.folder, '@app.post("/orders")\ndef order() -> tuple', after="app.get('/')(lambda: 'here')\n"
        )
        (self.folder / "example.py").rename(self.folder / "app.py")
        url = self.serve(command)
        with EventStreamClient(f"{url}/orders/events") as client:
            client.wait_for_retry()
            request("POST", f"{url}/orders", body=b"item=tea", headers=_FORM)
            self.assertEqual(json.loads(client.next_event().data)["item"], "tea")

    def test_the_command_of_the_steps(self) -> None:
        (self.folder / "static").mkdir()
        texts: dict[str, str] = {}
        for block in steps.blocks():
            if block.section <= 1 and not block.path.startswith("shop/"):
                whole = block.language != "diff"
                texts[block.path] = block.text if whole else steps.apply(block.text, texts[block.path])
        (self.folder / "app.py").write_text(texts["app.py"])
        (self.folder / "static" / "orders.html").write_text(texts["orders.html"])
        self.env.pop("SSE_THREADED_URL")
        url = self.serve(page_block("steps.md", "EVENTS_URL", "sh"))
        self.assertEqual(request("POST", f"{url}/login", body=b"name=ann", headers=_FORM).status, 200)
        self.assertTrue((self.folder / "events.db").exists())


class BoardTest(ShellCase):
    def test_the_requests(self) -> None:
        if shutil.which("curl") is None:
            missing("curl (apt-get install curl)")
        url = self.serve("exec sse-threaded serve", "/healthz")
        text = page_block("board.md", "--json", "sh")
        output = self.run_shell(text.replace("http://localhost:3000", url).replace("curl ", "curl -sS --fail "))
        self.assertIn('"title":"New task"', output)
        with Hub(self.url) as hub:
            kinds = [json.loads(record.data)["type"] for record in hub.log.read(0) if record.channel == "board-1"]
        self.assertEqual(kinds, ["task_created", "task_moved", "task_deleted"])

    def test_the_commands(self) -> None:
        lines = page_block("board.md", "schema", "sh").splitlines()
        serve, publish, listen, over_http, top, check, schema, bench = lines
        url = self.serve(serve.partition("#")[0], "/healthz")
        with EventStreamClient(f"{url}/boards/board-1/events") as client:
            client.wait_for_retry()
            event_id = self.run_shell(publish).strip()
            self.assertEqual(client.next_event().data, '{"type":"note"}')
            self.assertEqual(client.last_event_id, event_id)
        for line in (listen, over_http):
            command = line.partition("#")[0].replace("http://localhost:3000", url)
            first = event_id.rpartition("-")[0] + "-0"
            argv = ["sh", "-c", f"exec {command} --since {first}"]
            process = subprocess.Popen(argv, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, text=True)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            assert process.stdout is not None
            self.addCleanup(process.stdout.close)
            with self.subTest(command):
                self.assertIn(f"id: {event_id}\n", iter(process.stdout.readline, ""))
            open_now = self.run_shell(f"{top.partition('#')[0].strip()} --once")
        self.assertIn("1 stream in ", open_now)
        quick = check.partition("#")[0].strip().replace("http://localhost:3000", url)
        self.assertIn(url, self.run_shell(f"{quick} --wait 1"))
        self.assertIn("CREATE TABLE", self.run_shell(schema))
        small = bench.partition("#")[0].replace("http://localhost:3000", url)
        self.assertIn("streams", self.run_shell(f"{small} --help"))


class ClientCommandsTest(ShellCase):
    def setUp(self) -> None:
        super().setUp()
        self.hub = enter(self, Hub(retry=10))
        self.seen: list[Request] = []

        @Request.application
        def app(web: Request) -> Any:
            self.seen.append(web)
            return self.hub.stream(web, "orders", from_start=True)

        self.server = enter(self, LiveServer(app))
        self.ids = [self.hub.publish("orders", {"item": item}) for item in ("tea", "milk")]
        self.ids.append(self.hub.finish("orders"))

    def test_the_command_of_the_python_client(self) -> None:
        first, second = page_block("python-client.md", "sse-threaded listen", "sh").splitlines()
        output = self.run_shell(re.sub(r"http://localhost:3000\S+", self.server.url, first))
        self.assertEqual(re.findall(r"^id: (.*)$", output, re.MULTILINE), self.ids)
        second = second.replace("https://app.example/events", self.server.url)
        self.run_shell(second.replace("hyuakn-2", self.ids[1]))
        self.assertIn(f"id: {self.ids[2]}\n", (self.folder / "events.txt").read_text())
        self.assertEqual(self.seen[-1].headers["Authorization"], "Bearer ...")

    def test_the_commands_of_the_protocol_page(self) -> None:
        if shutil.which("curl") is None:
            missing("curl (apt-get install curl)")
        text = page_block("protocol.md", "Last-Event-ID", "sh").replace("hyuakn-3", self.ids[0])
        stream, poll = text.replace("http://localhost:8000/orders/events", self.server.url).splitlines()
        output = self.run_shell(stream.replace("curl", "curl -sS"))
        self.assertEqual(
            re.findall(r"^id: (.*)$", output, re.MULTILINE), self.ids
        )  # it begins with that of the request
        answer = json.loads(self.run_shell(poll.replace("curl", "curl -sS")))
        self.assertEqual([event["id"] for event in answer["events"]], self.ids[1:])
        self.assertTrue(answer["finished"])

    def test_the_loop_of_the_clients_page(self) -> None:
        text = python_block("clients.md", "connect_sse").text
        self.assertIn("http://localhost:8000/orders/events", text)
        code = text.replace("http://localhost:8000/orders/events", self.server.url).replace("1.0", "0.01")
        try:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(code, {"__name__": "block"})
        except ModuleNotFoundError as error:
            missing(f"{error.name} (pip install '.[test]')")
        self.assertEqual(output.getvalue(), "{'item': 'tea'}\n{'item': 'milk'}\n")


class PythonTest(unittest.TestCase):
    def test_the_line_for_the_place_of_the_log(self) -> None:
        texts = {python_block(page, "EVENTS_URL").text for page in ("deployment.md", "testing.md")}
        self.assertEqual(len(texts), 1)
        folder = temporary_directory(self)
        for variable, url in (("memory://", "memory://"), ("", sqlite_url(folder, "events.db"))):
            names: dict[str, Any] = {"__file__": str(folder / "app.py"), "Hub": Hub, "os": os, "Path": Path}
            with self.subTest(url), mock.patch.dict(os.environ, {"EVENTS_URL": variable}):
                exec(texts.copy().pop(), names)
                self.addCleanup(names["hub"].close)
                self.assertEqual(names["hub"].url, url)

    def test_the_settings_against_header_fields(self) -> None:
        names: dict[str, Any] = {}
        exec(python_block("deployment.md", "forwarder_headers").text, names)
        for name in ("forwarder_headers", "secure_scheme_headers"):
            self.assertEqual(names[name], getattr(sse_threaded.board.gunicorn_conf, name))

    def test_the_line_for_systemd(self) -> None:
        text = (CHECKOUT / "docs" / "deployment.md").read_text(encoding="utf-8")
        (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        program, *words = shlex.split(line)
        self.assertEqual(Path(program).name, "gunicorn")
        config = Config()
        if "control_socket_disable" not in config.settings:
            words.remove("--no-control-socket")
        options = config.parser().parse_args(words)
        self.assertEqual((options.pythonpath, options.args), ("/opt/app", ["app:app"]))

    def test_several_redis(self) -> None:
        block = python_block("scale.md", "zlib")
        urls = re.findall(r'"(redis://[^"]+)"', block.text)
        code = made_whole(block)
        for url in urls:
            code = code.replace(url, "memory://")
        request_environ = {"REQUEST_METHOD": "HEAD"}
        names: dict[str, Any] = {}
        exec(code, names)
        names.update(request=request_environ)
        response = names["view"]()
        self.addCleanup(response.close)
        self.assertEqual(response.status_code, 200)

    def test_the_line_for_mod_wsgi(self) -> None:
        subscribed: list[Any] = []
        module = types.SimpleNamespace(subscribe_shutdown=subscribed.append)  # mod_wsgi has it in Apache only
        names: dict[str, Any] = {}
        with mock.patch.dict(sys.modules, {"mod_wsgi": module}):
            exec(made_whole(python_block("servers.md", "mod_wsgi")), names)
        hub = enter(self, names["hub"])
        server = enter(self, LiveServer(Request.application(lambda web: hub.stream(web, "orders"))))
        with EventStreamClient(server.url) as client:
            client.wait_for_retry()
            for function in subscribed:
                function("shutdown")
            client.wait_for_end()
            self.assertIn(b"event: stream-end\n", client.raw)


class TestsTest(unittest.TestCase):
    """docs/testing.md."""

    def test_a_response_of_a_test_client(self) -> None:
        if flask is None:
            missing("flask (pip install flask)")
        (app,) = [
            each.text for each in blocks() if each.path.name == "README.md" and "Flask(__name__)" in each.text
        ]
        names: dict[str, Any] = {"__file__": str(temporary_directory(self) / "app.py"), "__name__": "app"}
        exec(app, names)
        self.addCleanup(names["hub"].close)
        test: dict[str, Any] = {}
        exec(made_whole(python_block("testing.md", "def test_an_order(")), test)
        test["test_an_order"](names["app"].test_client())

    def test_the_line_for_pytest(self) -> None:
        folder = temporary_directory(self)
        (folder / "conftest.py").write_text(python_block("testing.md", "pytest_plugins").text)
        fixtures = "sse_server, sse_client, sse_stream, sse_clock"
        (folder / "test_app.py").write_text(f"def test_all({fixtures}):\n    assert callable(sse_server)\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(CHECKOUT))},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("1 passed", done.stdout)


if __name__ == "__main__":
    unittest.main()
