"""What the README and the pages of its subjects show, run."""

import inspect
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import unittest
from contextlib import closing
from importlib.metadata import metadata

from werkzeug import Response
from werkzeug.test import EnvironBuilder

import sse_threaded
from sse_threaded import Hub
from sse_threaded.fanout.cursor import encode
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import (
    CHECKOUT,
    ROOT,
    free_port,
    missing,
    sqlite_url,
    temporary_directory,
)

try:
    import bottle
    import django.conf
    import django.http
    from django.core.handlers.wsgi import WSGIRequest
    from django.middleware.gzip import GZipMiddleware
except ImportError:
    bottle = django = None
try:
    import flask
except ImportError:
    flask = None

PAGES = [ROOT / "README.md", ROOT / "docs" / "usage.md", ROOT / "docs" / "configuration.md"]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def block(sign):
    """The one Python block with this text in it."""
    (found,) = [each for each in blocks("python") if sign in each]
    return found


def without_code(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


# What an app has around the lines of README: a model, its table, a hub.
DJANGO_SHOP = """
import sys
import django
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "log.db"}})
django.setup()
from django.db import connection, models, transaction
from sse_threaded import Hub

class Order(models.Model):
    item = models.TextField()

    class Meta:
        app_label = "shop"

with connection.schema_editor() as editor:
    editor.create_model(Order)
hub, item = Hub(sys.argv[1]), "tea"
"""


def make_environ(path):
    """A WSGI environ of a threaded server, without a socket."""
    return {**EnvironBuilder(path, multithread=True).get_environ(), "werkzeug.socket": None}


def django_is_configured():
    if not django.conf.settings.configured:
        django.conf.settings.configure()


class ReadmeTest(unittest.TestCase):
    def test_the_flask_app_runs_under_the_configuration_shown(self):
        if flask is None:
            missing("flask (pip install flask)")
        directory = temporary_directory(self)
        app, _, *configs = blocks("python")[:4]
        (directory / "shop.py").write_text(app)
        for config in configs:
            with self.subTest(config=config):
                (directory / "gunicorn.conf.py").write_text(config)
                self.exercise(directory)

    def exercise(self, directory):
        with (
            GunicornServer("shop:app", config=directory / "gunicorn.conf.py", cwd=directory) as server,
            EventStreamClient(server.url + "/orders/events") as client,
        ):
            client.wait_for(lambda: b"id: " in client.raw)
            self.assertEqual(request("POST", server.url + "/orders", json={"item": "tea"}).status, 201)
            self.assertEqual(json.loads(client.next_event().data), {"type": "order", "item": "tea"})
            server.terminate()
            client.wait_for_end()
            self.assertTrue(client.complete)

    def test_djangos_and_bottles_lines(self):
        if django is None or bottle is None:
            missing("django and bottle (pip install django bottle)")
        django_is_configured()
        _, over_django, over_bottle = block("StreamingHttpResponse").splitlines()
        with Hub() as hub:
            for line, names in (
                (over_django, {"StreamingHttpResponse": django.http.StreamingHttpResponse}),
                (over_bottle, {"HTTPResponse": bottle.HTTPResponse}),
            ):
                with self.subTest(line):
                    names["r"] = hub.stream(make_environ("/"), "orders")
                    response = eval(line.strip().removeprefix("return ").partition("  #")[0], names)
                    self.assertEqual(response.status_code, 200)
                    self.assertEqual(response.headers["Content-Type"], "text/event-stream; charset=utf-8")
                    self.assertIn(b"retry: 5000\n", next(iter(names["r"].response)))
                    names["r"].response.close()

    def test_a_wrapper_drops_events_and_keeps_the_status(self):
        over_stream, over_response = block("long_poll=False").splitlines()
        with Hub() as hub:
            first = hub.publish("orders", "for:admin")
            hub.publish("orders", "for all")
            names = {"hub": hub, "Response": Response}
            for accept, status in (("text/event-stream", 200), ("application/json", 406)):
                names["request"] = make_environ(f"/?lastEventId={hub.log.epoch}-0") | {"HTTP_ACCEPT": accept}
                exec(over_stream, names)
                answer = eval(over_response.removeprefix("return "), names)
                self.assertEqual(answer.status_code, status)
                if status == 200:
                    self.assertIn(b"stream-start", next(answer.response))
                    chunk = next(answer.response)
                    self.assertIn(b"data: for all\n", chunk)
                    self.assertNotIn(first.encode(), chunk)
                names["r"].close()

    def test_djangos_compression_leaves_a_stream_alone(self):
        if django is None:
            missing("django (pip install django)")
        django_is_configured()
        (line,) = re.findall(r"for\s+one\s+view,\s+put\s+`(.*)`", TEXT)

        def view(request):
            exec(line, {"request": request})
            response = hub.stream(request, "orders")
            return django.http.StreamingHttpResponse(response.response, headers=dict(response.headers))

        with Hub() as hub:
            web = WSGIRequest({**make_environ("/"), "HTTP_ACCEPT_ENCODING": "gzip"})
            answer = GZipMiddleware(view)(web)
            self.addCleanup(answer.close)
            self.assertNotIn("Content-Encoding", answer.headers)
            self.assertIn(b"retry: 5000\n", next(iter(answer)))

    def test_an_event_in_djangos_own_transaction(self):
        if django is None:
            missing("django (pip install django)")
        directory = temporary_directory(self)
        script = directory / "shop.py"
        script.write_text(DJANGO_SHOP + block("with transaction.atomic()"))
        with Hub(sqlite_url(directory)) as hub:
            doorbell = hub.log.open_doorbell()
            self.addCleanup(doorbell.close)
            subprocess.run([sys.executable, script, sqlite_url(directory)], cwd=directory, check=True, timeout=60)
            self.assertTrue(select.select([doorbell], [], [], 0)[0])
            self.assertEqual(hub.log.read(0)[0].data, '{"type":"order","item":"tea"}')
            with hub.log.snapshot() as snapshot:
                self.assertEqual(snapshot.connection.execute("SELECT item FROM shop_order").fetchall(), [("tea",)])

    def test_rows_and_event_and_the_snapshot(self):
        directory = temporary_directory(self)
        write, read = block("with hub.log.transaction()"), block("with hub.log.snapshot()")
        with closing(sqlite3.connect(directory / "log.db")) as mine:
            mine.execute("CREATE TABLE orders (item)")
        with Hub(sqlite_url(directory)) as hub:
            names = {"hub": hub, "item": "tea"}
            exec(write, names)
            exec(read, names)
            self.assertEqual(names["orders"], [("tea",)])
            self.assertEqual(names["last_event_id"], f"{hub.log.epoch}-1")
            self.assertEqual(hub.log.read(0)[0].data, '{"type":"order","item":"tea"}')

    def test_the_events_shown_are_the_bytes_a_stream_has(self):
        with Hub() as hub:
            body = hub.stream(make_environ("/"), "board-1").response
            self.addCleanup(body.close)
            begin = next(body).decode()
            (shown,) = blocks("console")
            shown = shown.partition("\n")[2].replace("hyuakn", hub.log.epoch)
            self.assertTrue(shown.startswith(begin))
            for line in shown.splitlines():
                if line.startswith("data: ") and line != "data: {}":
                    hub.publish("board-1", json.loads(line.removeprefix("data: ")))
            wire = "".join(hub_events(hub))
            self.assertEqual(shown.rstrip("\n"), (begin + wire).rstrip("\n"))

    def test_the_arguments_of_hub_and_their_defaults(self):
        documented = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+?)`? \|", TEXT, re.MULTILINE))
        self.assertEqual(list(documented), [name for name in Hub.__init__.__annotations__ if name != "return"])
        parameters = inspect.signature(Hub).parameters
        self.assertEqual(documented["url"], parameters["url"].default)
        for name in ("retry", "heartbeat", "lease", "queue_size"):
            with self.subTest(name):
                self.assertEqual(documented[name], f"{parameters[name].default:g}")
        self.assertEqual(eval(documented["retention"], vars(sse_threaded).copy()), sse_threaded.Retention())

    def test_links_lead_somewhere(self):
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
            for link in re.findall(r"\]\(([^)]+)\)", without_code(page)):
                if link.startswith("http"):
                    continue
                with self.subTest(page=page.name, link=link):
                    name, _, heading = link.partition("#")
                    target = (page.parent / name).resolve() if name else page
                    self.assertTrue(target.exists())
                    if heading:
                        headings = re.findall(r"^#+ (.*)$", without_code(target), re.MULTILINE)
                        slugs = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings]
                        self.assertIn(heading, slugs)

    def test_the_supported_versions_are_those_of_the_metadata(self):
        (least,) = re.findall(r"with Python ([0-9.]+) or newer", TEXT)
        self.assertEqual(metadata("sse-threaded")["Requires-Python"], f">={least}")

    def test_the_first_line_runs_the_board_from_a_bare_clone(self):
        directory = temporary_directory(self)
        clone, home = directory / "clone", directory / "home"
        home.mkdir()
        leave_out = (
            ".venv*",
            ".nox",
            ".test-*",
            ".git",
            "*.db*",
            "build",
            "*.egg-info",
            "__pycache__",
            ".*_cache",
        )
        shutil.copytree(CHECKOUT, clone, ignore=shutil.ignore_patterns(*leave_out))
        line = next(line for line in blocks("sh")[0].splitlines() if "gunicorn -c deploy/gunicorn.conf.py" in line)
        # This test's own Python, and a port that is free; the rest as it is written.
        port = free_port()
        line = f"{line} -b 127.0.0.1:{port}".replace("python3 ", f"{sys.executable} ", 1)
        environ = {"HOME": str(home), "PATH": os.environ["PATH"]}
        url = f"http://127.0.0.1:{port}/boards/board-1"
        command = ["sh", "-c", line]
        with ServerProgram("the line", command, clone, answers_http(url), env=environ, timeout=180) as server:
            with EventStreamClient(url + "/events") as client:
                self.assertEqual(client.wait_for_retry(), 5000)
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def hub_events(hub):
    return [encode(hub.log, record).decode() for record in hub.log.read(0)]
