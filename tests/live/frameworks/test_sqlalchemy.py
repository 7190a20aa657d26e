"""The recipe of docs/frameworks.md for SQLAlchemy: rows and events in one SQLite file, and the page's tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest

from tests.live.frameworks.case import serve
from tests.live.frameworks.page import page_block, write_app
from tests.support import CHECKOUT, temporary_directory

ONCE = True  # SQLAlchemy is the same under every Python

_SIGN = "def create_app(path"
_AFTER = """
app = create_app(Path(__file__).with_name("events.db"))
hub = app.extensions["hub"]


@app.post("/broken")
def broken():
    db.session.add(Order(item=request.form["item"]))
    db.session.flush()
    hub.log.append("orders", "gone", connection=db.session.connection().connection)
    raise ZeroDivisionError


@app.get("/rows")
def rows():
    return [order.item for order in Order.query.order_by(Order.id)]
"""


class RecipeTest(unittest.TestCase):
    def check(self, worker: str) -> None:
        served = serve(self, _SIGN, worker, after=_AFTER)
        client = served.connect("/orders/events")
        for item in ("tea", "milk", "salt"):
            self.assertEqual(served.post("/broken", f"item={item}").status, 500)
            self.assertEqual(served.post("/orders", f"item={item}").status, 201)
            self.assertEqual(json.loads(client.next_event().data), {"type": "order", "item": item})
        self.assertEqual(client.pending(), [])
        with served.streams("/orders/events", 40) as others:
            served.post("/orders", "item=all")
            for other in others:
                self.assertEqual(json.loads(other.next_event().data)["item"], "all")
        client.close()
        served.wait_for_streams(0)
        served.wait_until_nothing_is_left()

    def test_under_gthread(self) -> None:
        self.check("gthread")

    def test_under_this_packages_worker(self) -> None:
        self.check("ThreadWorker")

    def test_the_tests_of_the_page_pass(self) -> None:
        folder = temporary_directory(self)
        write_app(folder, _SIGN)
        (folder / "test_orders.py").write_text(page_block("from example import Order"), encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(CHECKOUT)])}
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-m", "unittest", "-v"],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("Ran 3 tests", done.stdout)
        self.assertNotIn("ResourceWarning", done.stdout)


if __name__ == "__main__":
    unittest.main()
