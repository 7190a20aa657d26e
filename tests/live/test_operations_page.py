"""The code of docs/operations.md, as it stands there."""

from __future__ import annotations

import re
import unittest

from tests.quality.test_examples import blocks, made_whole
from tests.support import ROOT, enter, temporary_directory

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


class OperationsPageTest(unittest.TestCase):
    def test_the_page_is_for_operators(self) -> None:
        folder = temporary_directory(self)
        (block,) = [each for each in blocks() if each.path.name == "operations.md"]
        names: dict[str, object] = {"__name__": "app", "__file__": str(folder / "app.py")}
        exec(made_whole(block), names)
        enter(self, names["hub"])
        with names["app"].test_client() as client:
            self.assertEqual(client.get("/debug/state").status_code, 403)
            with client.session_transaction() as session:
                session["role"] = "operator"
            self.assertEqual(client.get("/debug/state").json["publishes"], True)

    def test_the_table_has_all_columns(self) -> None:
        told = re.findall(r"^\| ([a-z ]+) \| (?!meaning)", PAGE, re.MULTILINE)
        self.assertEqual(
            told, ["channels", "user", "address", "open for", "last id", "waiting", "sent", "process"]
        )
