"""Every Python block of README.md and docs/ passes mypy --strict, as a user's code would that copies it."""

import importlib.util
import re
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import CHECKOUT, missing, temporary_directory

ONCE = True  # it says the same under every Python

_SECONDS = 300

# What mypy knows of libraries, from run to run. The check of the package has other options, so another folder.
_CACHE = CHECKOUT / ".mypy_cache" / "examples"

# Django, Bottle and others come without types; what an app has from them is of no type then. What mypy says of the
# package itself is another test's. Flask-SQLAlchemy's models have types for a plug-in of mypy only.
CONFIG = """
[mypy]
strict = True
untyped_calls_exclude = opentelemetry.instrumentation
[mypy-django.*,bottle.*,celery.*,mod_wsgi.*,flask_login.*,psycopg2.*,pyramid.*]
ignore_missing_imports = True
[mypy-flask_sqlalchemy.*]
follow_imports = skip
[mypy-shop.*,members.*]
disallow_subclassing_any = False
disallow_untyped_decorators = False
[mypy-shop.flask_app]
disable_error_code = name-defined
[mypy-example]
disable_error_code = name-defined
disallow_subclassing_any = False
[mypy-sse_threaded.*]
follow_imports = silent
"""

HUB = """
from sse_threaded import Hub
hub = Hub()
item: str = "tea"
"""
REQUEST = """
from flask import request
"""
FLASK = """
from flask import Flask, abort, request, session
from werkzeug import Response
app = Flask("app")
"""
DJANGO = """
from typing import Any
from django.db import connection, transaction
Order: Any = None
"""
REDIS = """
import json
number = 3
event = {"type": "order"}
"""
VIEW = "def view() -> object:\n"

# What the text around a block takes for granted, by a line of the block: imports and names, and the function in
# which it stands. A block that none of these is in stands for itself.
AROUND = {
    'r = hub.stream(request, "orders")\nreturn': (
        HUB + REQUEST + "from django.http import StreamingHttpResponse\nfrom bottle import HTTPResponse\n",
        VIEW,
    ),
    'hub.finish("job-7"': (HUB, ""),
    "def logout()": (HUB + FLASK, ""),
    "hub.ticket(": ("from sse_threaded import Hub\n" + FLASK + 'app.secret_key = url = "memory://"\n', ""),
    "def test_an_order(": (
        "from flask.testing import FlaskClient\nfrom sse_threaded.testing import StreamedResponse\n",
        "",
    ),
    "long_poll=False": (HUB + REQUEST + "from werkzeug import Response\n", VIEW),
    "with hub.log.transaction() as transaction": (HUB, ""),
    "with transaction.atomic():\n    Order": (HUB + DJANGO, ""),
    "transaction.on_commit(lambda: hub.publish": (HUB + DJANGO, ""),
    "with hub.log.snapshot() as snapshot": (HUB, ""),
    'hub = Hub("redis://:password': ("from sse_threaded import Hub\n", ""),
    "hub.log.run(take": (HUB + REDIS, ""),
    'hub = Hub(os.environ.get("EVENTS_URL")': (
        "import os\nfrom pathlib import Path\nfrom sse_threaded import Hub\n",
        "",
    ),
    "hubs = [Hub(url)": ("import zlib\nfrom sse_threaded import Hub\n" + REDIS + REQUEST, VIEW),
    '"TEST": {"NAME"': ("from pathlib import Path\nBASE_DIR = Path(__file__).parent\n", ""),
    "with psycopg2.connect": (HUB, ""),
    "threading.Thread(target=run": (HUB, ""),
    "import mod_wsgi": (HUB, ""),
    "hub.publisher(tokens=": (
        HUB + FLASK + "import os\nfrom werkzeug.middleware.dispatcher import DispatcherMiddleware\n",
        "",
    ),
}

# The modules of one project, by a line.
NAMED = {
    "from sse_threaded.django import publish": "shop/views.py",
    "from django.test import LiveServerTestCase": "shop/tests.py",
    "def orders(request": "shop/pages.py",
    'SQLALCHEMY_DATABASE_URI"] = "postgresql': "shop/flask_app.py",
    "from celery import": "shop/tasks.py",
    "# shop/jobs.py": "shop/jobs.py",
    "def create_app(path": "example.py",
    "from bottle import Bottle": "shop/bottle_app.py",
    "from flask_login": "shop/login_app.py",
    "hub.disconnect(user=user)\n    return HttpResponse": "shop/login_views.py",
    'app.send_static_file("orders.html")': "app.py",
    "def members_only(": "members/views.py",
    "from . import views": "members/urls.py",
    "from celery import shared_task": "members/tasks.py",
    "from app import app": "members/test_app.py",
    "force_login(User": "members/tests.py",
}


class Block(NamedTuple):
    """One block, and where it stands."""

    path: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.path.stem}_{self.line}".replace("-", "_").lower()


def blocks() -> Iterator[Block]:
    for path in sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").glob("*.md")]):
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(path, text.count("\n", 0, found.start()) + 2, found[1])


def made_whole(block: Block) -> str:
    fitting = [around for sign, around in AROUND.items() if sign in block.text]
    before, function = fitting[0] if fitting else ("", "")
    return before + function + (textwrap.indent(block.text, "    ") if function else block.text)


class ExamplesTest(unittest.TestCase):
    def test_every_block_passes_mypy_strict(self) -> None:
        if importlib.util.find_spec("mypy") is None:
            missing("mypy (pip install '.[test]')")
        folder = temporary_directory(self)
        (folder / "mypy.ini").write_text(CONFIG)
        for package in ("shop", "members"):
            (folder / package).mkdir()
            (folder / package / "__init__.py").touch()
        (folder / "shop" / "models.py").write_text("from typing import Any\nOrder: Any = None\n")
        found = list(blocks())
        self.assertGreaterEqual(len(found), 15)
        for block in found:
            own = next((name for sign, name in NAMED.items() if sign in block.text), f"{block.name}.py")
            (folder / own).write_text(made_whole(block))
        done = subprocess.run(
            [*(sys.executable, "-m", "mypy", "--strict"), "--config-file=mypy.ini", f"--cache-dir={_CACHE}", "."],
            cwd=folder,
            env={"MYPYPATH": str(CHECKOUT), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("no issues found", done.stdout)

    def test_every_kind_of_text_around_is_of_use(self) -> None:
        texts = [block.text for block in blocks()]
        for sign in [*AROUND, *NAMED]:
            with self.subTest(sign=sign):
                self.assertTrue(any(sign in text for text in texts))

    def test_no_example_opens_a_file_by_a_relative_path(self) -> None:
        # It is relative to the working directory, which is another one in a cron job.
        for block in blocks():
            with self.subTest(path=block.path.name, line=block.line):
                self.assertNotRegex(block.text, r"sqlite:///[^/\s]")
                self.assertNotRegex(block.text, r"Hub\((Path\()?[\"'](?!redis|postgresql)")


if __name__ == "__main__":
    unittest.main()
