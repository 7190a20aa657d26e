"""The page with a board in it, so that its first paint shows the tasks. No thread, no database."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

from ..protocol.event import json_line
from .model import Board

_PLACE = re.compile(r"\{(\w+)\}")
_TEMPLATE = re.compile(r'<template id="(\w+)-template">\s*(.*?)\s*</template>', re.DOTALL)


class Page:
    """Puts boards into ``page.html``.

    The page has its own templates for a list and for a card, which the browser uses, too. So their markup has one
    source. A ``{name}`` in the page or in a template is a place for a value.

    :param source: the content of ``page.html``.
    :param live: the path of ``live.js``.
    """

    def __init__(self, source: str, live: str) -> None:
        self._templates = dict(_TEMPLATE.findall(source))
        # In the browser, JavaScript writes all values into a copy of a template.
        emptied = _TEMPLATE.sub(lambda found: _PLACE.sub("", found[0]), source)
        self._page = emptied
        self._live = live

    def render(self, board: Board) -> str:
        """Return the page of a board.

        :param board: the whole board. The page also has it as JSON, with its last event ID.
        """
        lists, shares = Markup(), Markup()
        for item in board["lists"]:
            tasks = [task for task in board["tasks"] if task["listId"] == item["id"]]
            cards = Markup().join(_filled(self._templates["card"], task) for task in tasks)
            plural = " task" if len(tasks) == 1 else " tasks"
            lists += _filled(
                self._templates["list"], {**item, "count": len(tasks), "plural": plural, "cards": cards}
            )
            share = '<a href="#{id}" data-list-id="{id}">{title} {count}</a>'
            shares += _filled(share, {**item, "count": len(tasks)})
        # "<" could end the script's element, or begin a comment in it (WHATWG HTML 4.12.1.3).
        snapshot = Markup(json_line(board).replace("<", "\\u003c"))
        values = {"id": board["id"], "title": board["title"], "lists": lists, "shares": shares}
        return str(_filled(self._page, {**values, "live": self._live, "snapshot": snapshot}))


def _filled(template: str, values: Mapping[str, object]) -> Markup:
    return Markup(_PLACE.sub(lambda found: str(escape(values[found[1]])), template))
