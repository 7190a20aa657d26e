"""The board's tables in SQLite, and the statements on them. Call each function inside a transaction."""

from __future__ import annotations

import re
import sqlite3

from ..log import Snapshot
from .model import (
    BOARDS_A_PAGE,
    FIRST_BOARD,
    FIRST_TASKS,
    LISTS,
    Board,
    BoardItem,
    ListItem,
    Task,
    Unknown,
    number_of,
)

# The number of a task or a board is the key of its row. AUTOINCREMENT never gives a number twice: an id that some
# client still shows never becomes the id of another task. The tasks of a list are in the order of ``place``,
# which grows over the whole board. So a new task, and one that was moved, comes last.
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

_NEXT_PLACE = "(SELECT coalesce(max(place), 0) + 1 FROM board_tasks WHERE board = :board)"

_NAMES = re.findall("EXISTS (board_[a-z_]+)", TABLES)


def are_complete(rows: sqlite3.Connection) -> bool:
    """Return whether all tables exist, and at least one board."""
    marks = ", ".join("?" * len(_NAMES))
    (count,) = rows.execute(f"SELECT count(*) FROM sqlite_master WHERE name IN ({marks})", _NAMES).fetchone()
    return count == len(_NAMES) and _has_board(rows)


def complete(rows: sqlite3.Connection) -> None:
    """Create the tables and the first board if they do not exist."""
    for statement in TABLES.split(";"):
        rows.execute(statement)
    if not _has_board(rows):
        board = insert_board(rows, FIRST_BOARD)
        for title, list_id in FIRST_TASKS:
            insert_task(rows, board, title, list_id)


def _has_board(rows: sqlite3.Connection) -> bool:
    return rows.execute("SELECT 1 FROM board_boards").fetchone() is not None


def find_board(rows: sqlite3.Connection, board_id: str) -> int:
    """Return the number of a board.

    :raises Unknown: there is no such board.
    """
    number = number_of("board", board_id)
    if rows.execute("SELECT 1 FROM board_boards WHERE number = ?", (number,)).fetchone() is None:
        raise Unknown("board")
    return number


def read_boards(rows: sqlite3.Connection, before: int | None) -> list[BoardItem]:
    """Read a page of boards, newest first, and one board more if there is one.

    :param before: read only boards with a lower number; ``None``: the newest boards.
    """
    select = "SELECT number, title FROM board_boards WHERE number < ? ORDER BY number DESC LIMIT ?"
    found = rows.execute(select, (before or 2**63 - 1, BOARDS_A_PAGE + 1))
    return [{"id": f"board-{number}", "title": title} for number, title in found]


def read_lists(rows: sqlite3.Connection, board: int) -> list[ListItem]:
    """Read the lists of a board, in their order."""
    found = rows.execute("SELECT id, title FROM board_lists WHERE board = ? ORDER BY place", (board,))
    return [{"id": list_id, "title": title} for list_id, title in found]


def find_lists(rows: sqlite3.Connection, board_id: str) -> tuple[int, list[ListItem]]:
    """Return the number of a board and its lists, in their order. Each board has some from the beginning.

    :raises Unknown: there is no such board.
    """
    number = number_of("board", board_id)
    lists = read_lists(rows, number)
    if not lists:
        raise Unknown("board")
    return number, lists


def read_task(rows: sqlite3.Connection, board: int, task_id: str) -> Task:
    """Read one task of a board.

    :raises Unknown: the board has no such task.
    """
    select = "SELECT title, list FROM board_tasks WHERE number = ? AND board = ?"
    row = rows.execute(select, (number_of("task", task_id), board)).fetchone()
    if row is None:
        raise Unknown("task")
    return {"id": task_id, "title": row[0], "listId": row[1]}


def read_board(rows: sqlite3.Connection, board: int, snapshot: Snapshot) -> Board:
    """Read a whole board, and the id of the newest event that the transaction sees."""
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
    """Insert a board with its lists; return its number."""
    board = rows.execute("INSERT INTO board_boards (title) VALUES (?)", (title,)).lastrowid
    assert board is not None  # after an INSERT there is one
    insert = "INSERT INTO board_lists (board, place, id, title) VALUES (?, ?, ?, ?)"
    rows.executemany(insert, [(board, place, *item) for place, item in enumerate(LISTS, start=1)])
    return board


def insert_task(rows: sqlite3.Connection, board: int, title: str, list_id: str) -> str:
    """Insert a task at the end of a list; return its id."""
    insert = f"INSERT INTO board_tasks (board, list, place, title) VALUES (:board, :list, {_NEXT_PLACE}, :title)"
    number = rows.execute(insert, {"board": board, "list": list_id, "title": title}).lastrowid
    return f"task-{number}"


def move_task(rows: sqlite3.Connection, board: int, task_id: str, list_id: str) -> None:
    """Move an existing task to the end of another list."""
    update = f"UPDATE board_tasks SET list = :list, place = {_NEXT_PLACE} WHERE number = :task"
    rows.execute(update, {"board": board, "list": list_id, "task": number_of("task", task_id)})


def rename_task(rows: sqlite3.Connection, task_id: str, title: str) -> None:
    """Give an existing task another title."""
    rows.execute("UPDATE board_tasks SET title = ? WHERE number = ?", (title, number_of("task", task_id)))


def delete_task(rows: sqlite3.Connection, task_id: str) -> None:
    """Delete an existing task."""
    rows.execute("DELETE FROM board_tasks WHERE number = ?", (number_of("task", task_id),))
