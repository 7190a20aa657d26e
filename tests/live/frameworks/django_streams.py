"""A Django app with users, whose streams hold no database connection, whatever the middleware does after the view.

The views are those of docs/frameworks.md. Here are the settings and the checks, for every kind of database.
"""

from __future__ import annotations

import json
import unittest
from abc import abstractmethod
from typing import Any

from sse_threaded.testing import request
from tests.live.frameworks.case import Served, cookie_of
from tests.live.frameworks.page import write_app
from tests.support import temporary_directory, wait_until

_STREAMS = 100
_BEFORE = """
import json
import os
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": json.loads(os.environ["DATABASE"])},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    SESSION_SAVE_EVERY_REQUEST=True,
)
django.setup()
"""
_AFTER = """
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.urls import path


def log_in(request):
    user, _ = User.objects.get_or_create(username=request.POST["name"])
    login(request, user)
    return HttpResponse(str(user.pk))


urlpatterns = [path("login", log_in), path("logout", log_out), path("my/events", my_events)]
app = get_wsgi_application()
call_command("migrate", verbosity=0)
connections.close_all()
"""


class DjangoStreamsCase(unittest.TestCase):
    """The checks. A subclass says where the database is, and counts its connections."""

    @abstractmethod
    def database(self, folder: Any) -> dict[str, Any]:
        """The value of ``DATABASES["default"]``."""

    @abstractmethod
    def connections(self, served: Served) -> int:
        """How many connections the server has to that database."""

    def check(self, worker: str, **database: Any) -> None:
        folder = temporary_directory(self)
        write_app(folder, "def log_out", before=_BEFORE, after=_AFTER)
        threads = ["--threads", "140"] if worker == "gthread" else []
        served = Served(self, folder, worker, *threads, DATABASE=json.dumps({**self.database(folder), **database}))
        self.assertEqual(request("GET", f"{served.url}/my/events").status, 401)
        reply = served.post("/login", "name=ann")
        user, cookie = reply.body.decode(), cookie_of(reply)
        with served.streams("/my/events", _STREAMS, headers=cookie) as clients:
            served.wait_for_streams(_STREAMS)
            # PostgreSQL ends a session a moment after its connection was closed.
            wait_until(lambda: self.connections(served) == 0, message="no connection while the streams are open")
            served.hub.publish(f"user-{user}", "hers")
            for client in clients:
                self.assertEqual(client.next_event().data, "hers")
            self.assertEqual(served.post("/logout", **cookie).status, 200)
            served.hub.publish(f"user-{user}", "late")
            for client in clients:
                client.wait_for_end()
                self.assertEqual(client.pending(), [])
        served.wait_for_streams(0)
        again = served.connect("/my/events", headers=cookie)
        self.assertEqual(again.status, 401)  # its session is gone
        served.wait_until_nothing_is_left()
        wait_until(lambda: self.connections(served) == 0, message="no connection to be left")
        output = served.server.output()
        for words in ("Traceback", "keeps its thread", "Exception ignored"):
            self.assertNotIn(words, output)
