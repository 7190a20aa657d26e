"""docs/steps.md: both apps, with each step added in turn, under gunicorn and under the tools of the step."""

from __future__ import annotations

import re
import unittest

from tests.live import steps
from tests.live.steps import PAGE, STEPS, Block, added, blocks
from tests.support import missing

try:
    import django
except ImportError:
    django = None

ONCE = True  # it says the same under every Python


class FlaskTest(steps.StepsCase):
    tasks = "tasks"

    def log_name(self) -> str:
        return "events.db"

    def is_ours(self, block: Block) -> bool:
        return not block.path.startswith("shop/")

    def build(self, step: str) -> None:
        super().build(step)
        (self.folder / "static").mkdir()
        (self.folder / "orders.html").rename(self.folder / "static" / "orders.html")

    def serve(self) -> str:
        return self.gunicorn("app:app")

    def log_in(self, url: str, name: str) -> tuple[dict[str, str], dict[str, str]]:
        reply = self.post(f"{url}/login", f"name={name}")
        self.assertEqual(reply.status, 200)
        return {"Cookie": reply.headers["Set-Cookie"].partition(";")[0]}, reply.json()

    def celery_app(self) -> str:
        return "tasks"

    def test_6_tests(self) -> None:
        self.build("tests")
        del self.env["EVENTS_URL"], self.env["SECRET_KEY"]
        self.assertIn("Ran 1 test", self.run_python("-m", "unittest", "test_app"))


class DjangoTest(steps.StepsCase):
    tasks = "shop.tasks"

    def setUp(self) -> None:
        if django is None:
            missing("django (pip install django)")
        super().setUp()
        self.env["DJANGO_SETTINGS_MODULE"] = "shop.settings"

    def log_name(self) -> str:
        return "db.sqlite3"

    def is_ours(self, block: Block) -> bool:
        return block.path.startswith("shop/") or block.path == "orders.html"

    def build(self, step: str) -> None:
        self.env.pop("DJANGO_SETTINGS_MODULE")
        self.run_python("-m", "django", "startproject", "shop", str(self.folder))
        self.env["DJANGO_SETTINGS_MODULE"] = "shop.settings"
        super().build(step)
        templates = self.folder / "shop" / "templates"
        templates.mkdir()
        (self.folder / "orders.html").rename(templates / "orders.html")
        with (self.folder / "shop" / "settings.py").open("a", encoding="utf-8") as settings:
            settings.write('\nINSTALLED_APPS += ["shop"]\nALLOWED_HOSTS = ["*"]\n')

    def prepare(self) -> None:
        self.run_python("manage.py", "migrate", "--verbosity", "0")

    def serve(self) -> str:
        self.prepare()
        make = "from django.contrib.auth.models import User\n"
        make += "for name in ('ann', 'bob'): User.objects.create_user(name, password='secret')\n"
        self.run_python("manage.py", "shell", "-c", make)
        return self.gunicorn("shop.wsgi")

    def log_in(self, url: str, name: str) -> tuple[dict[str, str], dict[str, str]]:
        token = "a" * 32
        fields = {"Cookie": f"csrftoken={token}", "X-CSRFToken": token}
        reply = self.post(f"{url}/login", f"name={name}&password=secret", fields)
        self.assertEqual(reply.status, 200, reply.body)
        cookies = dict(each.partition(";")[0].split("=", 1) for each in reply.headers.getlist("Set-Cookie"))
        token = cookies["csrftoken"]
        cookie = f"csrftoken={token}; sessionid={cookies['sessionid']}"
        return {"Cookie": cookie, "X-CSRFToken": token}, reply.json()

    def celery_app(self) -> str:
        celery = """
import os
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop", broker=os.environ["BROKER_URL"])
app.config_from_object("celeryconfig")
app.autodiscover_tasks()
"""
        (self.folder / "shop" / "celery.py").write_text(celery, encoding="utf-8")
        (self.folder / "shop" / "__init__.py").write_text("from .celery import app\n", encoding="utf-8")
        return "shop"

    def test_6_tests(self) -> None:
        self.build("tests")
        self.assertIn("Ran 1 test", self.run_python("manage.py", "test"))


class PageTest(unittest.TestCase):
    def test_the_table_has_the_lines_of_each_step(self) -> None:
        rows = re.findall(r"^\| \[(\d)\..*?\| (\d+) \| (\d+) \|", PAGE, re.MULTILINE)
        self.assertEqual([int(number) for number, *_ in rows], list(range(1, len(STEPS) + 1)))
        for number, *counts in rows:
            diffs = [each for each in blocks() if each.section == int(number) and each.language == "diff"]
            both = sum(added(each.text) for each in diffs if each.path == "orders.html")
            in_django = sum(added(each.text) for each in diffs if each.path.startswith("shop/"))
            in_flask = sum(added(each.text) for each in diffs) - both - in_django
            with self.subTest(number):
                self.assertEqual(counts, [str(in_flask + both), str(in_django + both)])
                self.assertLessEqual(max(map(int, counts)), 10 if number == "1" else 5)

    def test_each_block_is_of_a_file(self) -> None:
        count = len(re.findall(r"^```(python|diff|html)$", PAGE, re.MULTILINE))
        self.assertEqual(len(blocks()), count)


if __name__ == "__main__":
    unittest.main()
