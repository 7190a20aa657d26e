"""Real servers, and the test clients of Flask and Django: users are warned of a server with one thread."""

import logging
import subprocess
import sys
import threading
import unittest
from wsgiref.simple_server import WSGIRequestHandler, make_server

from werkzeug.serving import make_server as make_werkzeug_server
from werkzeug.wrappers import Request

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, GunicornServer
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import enter, free_port, missing, temporary_directory

try:
    import django
except ImportError:
    django = None
try:
    import flask
except ImportError:
    flask = None

WORDS = "one request at a time"

SERVER_APP = """
from werkzeug.wrappers import Request
from sse_threaded import Hub

hub = Hub(lease=0.5)

@Request.application
def app(web):
    return hub.stream(web, "a")
"""

DJANGO_APP = """
import logging, sys, django
from django.conf import settings
settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    STATIC_URL="/static/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from django.http import StreamingHttpResponse
from django.test import Client, LiveServerTestCase, RequestFactory, SimpleTestCase
from django.urls import path
from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient

def events(request):
    r = hub.stream(request, "a")
    return StreamingHttpResponse(r.response, headers=dict(r.headers))

urlpatterns = [path("events", events)]

class HubCase:
    def setUp(self):
        global hub
        hub = Hub()  # each hub warns once
        self.addCleanup(hub.close)

class ClientTest(HubCase, SimpleTestCase):
    def check(self, response):
        self.assertIn(b"retry: 5000", next(iter(response)))
        response.close()

    def test_client(self):
        self.check(Client().get("/events"))

    def test_factory(self):
        self.check(events(RequestFactory().get("/events")))

class LiveTest(HubCase, LiveServerTestCase):
    def test_live_server(self):
        with EventStreamClient(self.live_server_url + "/events") as client:
            self.assertEqual(client.wait_for_retry(), 5000)
            hub.request_close()
            client.wait_for_end()

if __name__ == "__main__":
    from django.test.utils import get_runner
    logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
    runner = get_runner(settings)(verbosity=2)
    suite = runner.test_loader.loadTestsFromModule(sys.modules["__main__"])
    runner.setup_test_environment()
    old = runner.setup_databases(aliases=["default"])
    result = runner.run_suite(suite)
    runner.teardown_databases(old)
    assert result.testsRun == 3 and result.wasSuccessful()
    print("all good")
"""


class TestClientTest(unittest.TestCase):
    """A request that no server made is no reason to warn of the server."""

    def setUp(self):
        self.hub = Hub()
        self.addCleanup(self.hub.close)

    def test_flasks(self):
        if flask is None:
            missing("flask (pip install flask)")
        app = flask.Flask("shop")
        app.add_url_rule("/events", view_func=lambda: self.hub.stream(flask.request, "a"))
        with self.assertNoLogs("sse_threaded", "WARNING"):
            response = app.test_client().get("/events")
            self.assertIn(b"retry: 5000", next(iter(response.response)))
            response.close()

    def test_djangos(self):
        if django is None:
            missing("django (pip install django)")
        script = temporary_directory(self) / "site_app.py"
        script.write_text(DJANGO_APP)
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("all good", done.stdout, done.stderr)
        self.assertNotIn(WORDS, done.stdout + done.stderr)


DJANGO_SITE = """
import sys
from django.conf import settings
settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, STATIC_URL="/static/", SECRET_KEY="x")
import django
django.setup()
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from sse_threaded import Hub

hub = Hub(lease=0.5)

def events(request):
    r = hub.stream(request, "a")
    return StreamingHttpResponse(r.response, headers=dict(r.headers))

urlpatterns = [path("", lambda request: HttpResponse("there")), path("events", events)]
execute_from_command_line(sys.argv)
"""


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format, *args):
        pass


class ServerTest(unittest.TestCase):
    """Real servers of one thread are warned of."""

    def app(self):
        hub = Hub(lease=0.5)
        self.addCleanup(hub.close)

        @Request.application
        def app(web):
            return hub.stream(web, "a")

        return app

    def assert_is_warned_of(self, server):
        thread = threading.Thread(target=server.handle_request)
        with self.assertLogs("sse_threaded.hub", "WARNING") as logs:
            thread.start()
            with EventStreamClient(f"http://127.0.0.1:{server.server_port}/") as client:
                client.wait_for_end()
            thread.join(30)
        server.server_close()
        self.assertEqual(len(logs.output), 1)
        self.assertIn(WORDS, logs.output[0])

    def test_the_standard_librarys(self):
        self.assert_is_warned_of(make_server("127.0.0.1", 0, self.app(), handler_class=QuietHandler))

    def test_werkzeugs_without_threads(self):
        logging.getLogger("werkzeug").setLevel("ERROR")
        self.addCleanup(logging.getLogger("werkzeug").setLevel, "NOTSET")
        self.assert_is_warned_of(make_werkzeug_server("127.0.0.1", 0, self.app(), threaded=False))

    def test_gunicorns_sync_worker(self):
        folder = temporary_directory(self)
        (folder / "stream_app.py").write_text(SERVER_APP)
        server = enter(
            self, GunicornServer("stream_app:app", args=["--worker-class", "sync", "--workers", "1"], cwd=folder)
        )
        with EventStreamClient(server.url + "/") as client:
            client.wait_for_end()
        self.assertIn(WORDS, server.output())

    def test_djangos_own_warned_of_without_threads_only(self):
        # It says that it has threads, also with --nothreading.
        if django is None:
            missing("django (pip install django)")
        folder = temporary_directory(self)
        (folder / "manage.py").write_text(DJANGO_SITE)
        for flags, is_warned_of in (["--nothreading"], True), ([], False):
            with self.subTest(flags=flags):
                port = free_port()
                site = [sys.executable, str(folder / "manage.py")]
                command = [*site, "runserver", "--noreload", *flags, f"127.0.0.1:{port}"]
                url = f"http://127.0.0.1:{port}/"
                own = folder / f"flags-{len(flags)}"
                own.mkdir()
                with ServerProgram("runserver", command, own, answers_http(url)) as server:
                    with EventStreamClient(url + "events") as client:
                        client.wait_for_end()
                    server.kill()
                    told = server.output()
                self.assertEqual(WORDS in told, is_warned_of, told)
                self.assertNotIn("every thread", told)


if __name__ == "__main__":
    unittest.main()
