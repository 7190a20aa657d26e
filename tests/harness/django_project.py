"""A Django project in a folder, with the settings and views of docs/django.md, and its log in either database.

A test changes files of it, runs ``manage.py`` in it, or serves it by gunicorn.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import CHECKOUT, ROOT

_SECONDS = 180

# The project around the blocks of the page.
_SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parent
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
"""
_MODELS = """
from django.db import models


class Order(models.Model):
    item = models.TextField()
"""
_MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Order", [("id", models.BigAutoField(primary_key=True)), ("item", models.TextField())]
        )
    ]
"""
_URLS = """
from django.urls import path
from shop import views

urlpatterns = [path("orders", views.order), path("orders/events", views.order_events)]
"""
_WSGI = """
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""


def page_blocks(page: str, language: str = "python") -> list[str]:
    """The blocks of a page of docs/ in a language."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def page_block(page: str, part: str, language: str = "python") -> str:
    """The only block of the page that has this text in it."""
    (found,) = [block for block in page_blocks(page, language) if part in block]
    return found


class DjangoProject:
    """A project of the page.

    :param folder: an empty folder.
    :param port: that of PostgreSQL on 127.0.0.1. It has a database, a role and a password as in
        docs/postgresql.md. ``None``: the database is in SQLite, as in docs/django.md.
    :param files: further files, or others in place of those of the page, by their paths.
    :param settings: lines for the end of ``settings.py``.
    """

    def __init__(
        self, folder: Path, port: int | None, files: dict[str, str] | None = None, settings: str = ""
    ) -> None:
        self.folder = folder
        if port is None:
            databases = page_block("django.md", "DATABASES = {")
        else:
            databases = page_block("postgresql.md", "DATABASES = {").replace(
                '"HOST": "db.internal"', f'"HOST": "127.0.0.1", "PORT": "{port}"'
            )
            assert str(port) in databases, "the page has another host"
        everything = {
            "settings.py": _SETTINGS + page_block("django.md", "INSTALLED_APPS") + databases + settings,
            "urls.py": _URLS,
            "wsgi.py": _WSGI,
            "shop/__init__.py": "",
            "shop/models.py": _MODELS,
            "shop/views.py": page_block("django.md", "def order_events"),
            "shop/migrations/__init__.py": "",
            "shop/migrations/0001_initial.py": _MIGRATION,
            **(files or {}),
        }
        for name, text in everything.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        env = {name: value for name, value in os.environ.items() if not name.startswith("SSE_THREADED_")}
        path = os.pathsep.join([str(folder), str(CHECKOUT)])
        # Python would take a file that was changed within a second for the one that it has compiled.
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        self.env = {**env, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": path}

    def manage(self, *arguments: str) -> tuple[int, str]:
        """Run ``manage.py``; return its exit status, and everything that it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout
