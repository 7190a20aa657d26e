"""The board's tables and the statements on them; each function is inside a transaction of the caller's."""

from __future__ import annotations

import re
import sqlite3
from typing import TypedDict

from ..log import Snapshot

# A task's or board's number is a row's key: AUTOINCREMENT never gives one twice, so that an id which some
# client still shows is never another task's. A task's place within its list is the order of its ``place``,
# which grows over the board: what is new or was moved comes last.
TABLES = """
CREATE TABLE IF NOT EXISTS board_boards (
    number INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS board_lists (
    board INTEGER NOT NULL REFERENCES board_boards, place INTEGER NOT NULL,
    id TEXT NOT NULL, title TEXT NOT NULL, PRIMARY KEY (board, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS board_tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, board INTEGER NOT NULL REFERENCES board_boards,
    list TEXT NOT NULL, place INTEGER NOT NULL, title TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS board_tasks_board ON board_tasks (board, place);
"""

_NAMES = re.findall("EXISTS (board_[a-z_]+)", TABLES)

LISTS = (("list-todo", "To do"), ("list-doing", "Doing"), ("list-done", "Done"))

# What a fresh database holds, so that the first look at the board shows what it is for.
FIRST_BOARD = "Live task board"
FIRST_TASKS = (
    ("Open this board in a second window, side by side", "list-todo"),
    ("Add a task here and see it arrive there", "list-todo"),
    ("Drag a card, or use its arrows", "list-doing"),
    ("Start the server", "list-done"),
)

# The digits fit SQLite's 64-bit integers.
_ID = re.compile(r"(board|task)-([1-9][0-9]{0,17})", re.ASCII)


# Boards in one answer: more than anybody looks through, and some 80 KB of the longest titles.
BOARDS_A_PAGE = 100


class ListItem(TypedDict):
    """A column of a board."""

    id: str
    title: str


class Task(TypedDict):
    """A card, and the list it is in."""

    id: str
    title: str
    listId: str


class Board(TypedDict):
    """A whole board, and the event id it belongs to: what comes after that id is not in it yet."""

    id: str
    title: str
    lists: list[ListItem]
    tasks: list[Task]
    lastEventId: str


class BoardItem(TypedDict):
    """A board in the list of all."""

    id: str
    title: str


class Unknown(Exception):
    """There is no such board, list or task; nothing changed.

    :ivar kind: ``"board"``, ``"list"`` or ``"task"``.
    :ivar choices: for a list, the ids there are; otherwise empty.
    """

    def __init__(self, kind: str, choices: tuple[str, ...] = ()) -> None:
        super().__init__(kind)
        self.kind = kind
        self.choices = choices


def are_complete(rows: sqlite3.Connection) -> bool:
    """Whether the tables are there, and some board."""
    marks = ", ".join("?" * len(_NAMES))
    (count,) = rows.execute(f"SELECT count(*) FROM sqlite_master WHERE name IN ({marks})", _NAMES).fetchone()
    return count == len(_NAMES) and _has_board(rows)


def complete(rows: sqlite3.Connection) -> None:
    """Make the tables, and the first board, if they are not there."""
    for statement in TABLES.split(";"):
        rows.execute(statement)
    if not _has_board(rows):
        board = insert_board(rows, FIRST_BOARD)
        for title, list_id in FIRST_TASKS:
            insert_task(rows, board, title, list_id)


def _has_board(rows: sqlite3.Connection) -> bool:
    return rows.execute("SELECT 1 FROM board_boards").fetchone() is not None


def find_board(rows: sqlite3.Connection, board_id: str) -> int:
    """The board's number.

    :raises Unknown: no such board.
    """
    number = number_of("board", board_id)
    if rows.execute("SELECT 1 FROM board_boards WHERE number = ?", (number,)).fetchone() is None:
        raise Unknown("board")
    return number


def read_boards(rows: sqlite3.Connection, before: int | None) -> list[BoardItem]:
    """The newest boards, newest first, and one more than a page has, if there are so many.

    :param before: only those with a lower number; ``None`` for the newest of all.
    """
    some = "SELECT number, title FROM board_boards WHERE number < ? ORDER BY number DESC LIMIT ?"
    found = rows.execute(some, (before or 2**63 - 1, BOARDS_A_PAGE + 1))
    return [{"id": f"board-{number}", "title": title} for number, title in found]


def read_lists(rows: sqlite3.Connection, board: int) -> list[ListItem]:
    """The board's lists, in their order."""
    found = rows.execute("SELECT id, title FROM board_lists WHERE board = ? ORDER BY place", (board,))
    return [{"id": list_id, "title": title} for list_id, title in found]


def require_list(lists: list[ListItem], list_id: str) -> None:
    """Return if it is one of them.

    :raises Unknown: it is not.
    """
    choices = tuple(item["id"] for item in lists)
    if list_id not in choices:
        raise Unknown("list", choices)


def read_task(rows: sqlite3.Connection, board: int, task_id: str) -> Task:
    """One task of the board.

    :raises Unknown: no such task on it.
    """
    one = "SELECT title, list FROM board_tasks WHERE number = ? AND board = ?"
    row = rows.execute(one, (number_of("task", task_id), board)).fetchone()
    if row is None:
        raise Unknown("task")
    return {"id": task_id, "title": row[0], "listId": row[1]}


def read_board(rows: sqlite3.Connection, board: int, snapshot: Snapshot) -> Board:
    """The whole board, and the id of the newest event that the transaction sees."""
    (title,) = rows.execute("SELECT title FROM board_boards WHERE number = ?", (board,)).fetchone()
    found = rows.execute("SELECT number, title, list FROM board_tasks WHERE board = ? ORDER BY place", (board,))
    return {
        "id": f"board-{board}",
        "title": title,
        "lists": read_lists(rows, board),
        "tasks": [{"id": f"task-{number}", "title": name, "listId": in_list} for number, name, in_list in found],
        "lastEventId": snapshot.last_event_id(),
    }


def insert_board(rows: sqlite3.Connection, title: str) -> int:
    """Make a board with its lists; returns its number."""
    board = rows.execute("INSERT INTO board_boards (title) VALUES (?)", (title,)).lastrowid
    assert board is not None  # an INSERT has one
    insert = "INSERT INTO board_lists (board, place, id, title) VALUES (?, ?, ?, ?)"
    rows.executemany(insert, [(board, place, *item) for place, item in enumerate(LISTS, start=1)])
    return board


def insert_task(rows: sqlite3.Connection, board: int, title: str, list_id: str) -> str:
    """Make a task at the end of a list; returns its id."""
    insert = "INSERT INTO board_tasks (board, list, place, title) VALUES (?, ?, ?, ?)"
    number = rows.execute(insert, (board, list_id, _next_place(rows, board), title)).lastrowid
    return f"task-{number}"


def move_task(rows: sqlite3.Connection, board: int, task_id: str, list_id: str) -> None:
    """Put a task that is there at the end of another list."""
    update = "UPDATE board_tasks SET list = ?, place = ? WHERE number = ?"
    rows.execute(update, (list_id, _next_place(rows, board), number_of("task", task_id)))


def rename_task(rows: sqlite3.Connection, task_id: str, title: str) -> None:
    """Give a task that is there another title."""
    rows.execute("UPDATE board_tasks SET title = ? WHERE number = ?", (title, number_of("task", task_id)))


def delete_task(rows: sqlite3.Connection, task_id: str) -> None:
    """Delete a task that is there."""
    rows.execute("DELETE FROM board_tasks WHERE number = ?", (number_of("task", task_id),))


def _next_place(rows: sqlite3.Connection, board: int) -> int:
    (place,) = rows.execute("SELECT max(place) FROM board_tasks WHERE board = ?", (board,)).fetchone()
    return (place or 0) + 1


def number_of(kind: str, name: str) -> int:
    """The number in a board's or a task's id.

    :param kind: ``"board"`` or ``"task"``.
    :raises Unknown: it is no such id.
    """
    match = _ID.fullmatch(name)
    if match is None or match[1] != kind:
        raise Unknown(kind)
    return int(match[2])
