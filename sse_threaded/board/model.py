"""The boards: their types, their ids, and the first board. Both stores use it; no thread, no database."""

from __future__ import annotations

import re
from typing import TypedDict

# The lists of every board, in their order: id and title.
LISTS = (("list-todo", "To do"), ("list-doing", "Doing"), ("list-done", "Done"))

# The first board of a new log: the title and the list of each task. It shows a new user how to use a board.
FIRST_BOARD = "Live task board"
FIRST_TASKS = (
    ("Open this board in a second window, side by side", "list-todo"),
    ("Add a task here and see it arrive there", "list-todo"),
    ("Drag a card, or use its arrows", "list-doing"),
    ("Start the server", "list-done"),
)

# Boards in one answer. No user looks through more, and with the longest titles they take about 80 KB.
BOARDS_A_PAGE = 100

# Eighteen digits fit SQLite's 64-bit integers.
_ID = re.compile(r"(board|task)-([1-9][0-9]{0,17})", re.ASCII)


class ListItem(TypedDict):
    """A list of a board, without its tasks."""

    id: str
    title: str


class Task(TypedDict):
    """A task, and the id of its list."""

    id: str
    title: str
    listId: str


class Board(TypedDict):
    """A whole board, and the id of the newest event that is in it."""

    id: str
    title: str
    lists: list[ListItem]
    tasks: list[Task]
    lastEventId: str


class BoardItem(TypedDict):
    """A board in the list of all boards."""

    id: str
    title: str


class Unknown(Exception):
    """There is no such board, list or task; nothing changed.

    :ivar kind: ``"board"``, ``"list"`` or ``"task"``.
    :ivar choices: for a list, the ids of the lists that the board has; otherwise empty.
    """

    def __init__(self, kind: str, choices: tuple[str, ...] = ()) -> None:
        super().__init__(kind)
        self.kind = kind
        self.choices = choices


def number_of(kind: str, name: str) -> int:
    """Return the number in the id of a board or a task.

    :param kind: ``"board"`` or ``"task"``.
    :param name: the id, such as ``"task-5"``.
    :raises Unknown: the id is invalid.
    """
    match = _ID.fullmatch(name)
    if match is None or match[1] != kind:
        raise Unknown(kind)
    return int(match[2])


def require_list(lists: list[ListItem], list_id: str) -> None:
    """Return if ``lists`` has a list with this id.

    :raises Unknown: it has no such list.
    """
    choices = tuple(item["id"] for item in lists)
    if list_id not in choices:
        raise Unknown("list", choices)
