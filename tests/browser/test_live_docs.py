"""The code of docs/live.md, as it stands there: with Flask in a real browser, with Django, and with Werkzeug."""

from __future__ import annotations

import json
import re
import unittest
from pathlib import Path

from sse_threaded import Hub
from sse_threaded.browser import script
from sse_threaded.testing import EventStreamClient, GunicornServer, LiveServer, request
from tests.harness.chromium import wait_for, windows
from tests.support import ROOT, enter, temporary_directory

ONCE = True  # it says the same under every Python

TEXT = (ROOT / "docs" / "live.md").read_text(encoding="utf-8")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "4")

# What the block of Django leaves to the project.
PROJECT = """
from pathlib import Path
import django
from django.conf import settings

FOLDER = Path(__file__).parent
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "db.sqlite3"}},
    INSTALLED_APPS=["django.contrib.staticfiles", "sse_threaded.django", "sse_threaded.browser"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="x",
    STATIC_ROOT=FOLDER / "static",
    STATIC_URL="/static/",
    STORAGES={
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    },
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [FOLDER]}],
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.shortcuts import render
from django.urls import path
from sse_threaded.django import publish

BLOCK

def order(request):
    return HttpResponse(publish("orders", {"item": "tea"}))

urlpatterns = [
    path("", lambda request: render(request, "orders.html")),
    path("events", events),
    path("orders", order),
]
call_command("migrate", verbosity=0)
call_command("collectstatic", verbosity=0, interactive=False)
app = get_wsgi_application()
"""


def block(language: str, sign: str) -> str:
    """The only block of the page in a language with this text in it."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (text,) = [each for each in found if sign in each]
    return str(text)


class DocsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder: Path = temporary_directory(self)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def serve(self) -> str:
        return enter(self, GunicornServer("app:app", args=WORKER, cwd=self.folder)).url

    def refused(self, url: str) -> tuple[int, list[str]]:
        answer = request("GET", f"{url}/events?channel=orders&channel=other")
        return answer.status, json.loads(answer.body)["channels"]

    def test_flask(self) -> None:
        self.write("app.py", block("python", "Flask(__name__)"))
        self.write("templates/orders.html", block("html", "live.addEventListener"))
        url = self.serve()
        self.assertEqual(self.refused(url), (403, ["other"]))
        tabs = enter(self, windows())
        handles = []
        for _ in range(2):
            handles.append(tabs.take())
            tabs.browser.get(url)
            wait_for(tabs.browser, "document.getElementById('state').textContent === 'live'")
        self.assertEqual(request("POST", f"{url}/orders", body=b"item=tea", headers=FORM).status, 201)
        for handle in handles:
            tabs.bring_to_front(handle)
            wait_for(tabs.browser, "document.getElementById('orders').textContent === 'tea'")

    def test_django(self) -> None:
        self.write("app.py", PROJECT.replace("BLOCK", block("python", "HttpRequest")))
        self.write("orders.html", block("html", "load static"))
        url = self.serve()
        page = request("GET", f"{url}/").body.decode()
        (name,) = re.findall(r'from "/static/(sse_threaded/live\.min\.[0-9a-f]{12}\.js)"', page)
        self.assertEqual((self.folder / "static" / name).read_bytes(), script().data)
        self.assertEqual(self.refused(url), (403, ["other"]))
        with EventStreamClient(f"{url}/events?channel=orders") as stream:
            stream.wait_for_retry()
            request("GET", f"{url}/orders")
            self.assertEqual(stream.next_event().data, '{"item":"tea"}')

    def test_werkzeug(self) -> None:
        self.write("app.py", "")
        names: dict[str, object] = {"__file__": str(self.folder / "app.py")}
        exec(block("python", "DispatcherMiddleware(app"), names)
        hub = names["hub"]
        assert isinstance(hub, Hub)
        enter(self, hub)
        server = enter(self, LiveServer(names["application"]))
        self.assertEqual(request("GET", f"{server.url}/live/{script().name}").body, script().data)
        self.assertEqual(self.refused(server.url), (403, ["other"]))
        with EventStreamClient(f"{server.url}/events?channel=orders") as stream:
            stream.wait_for_retry()
            hub.publish("orders", "tea")
            self.assertEqual(stream.next_event().data, "tea")


if __name__ == "__main__":
    unittest.main()
