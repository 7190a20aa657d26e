"""The board's tables in PostgreSQL, and the statements on them. Call each function inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ..log.postgres.schema import name
from ..log.postgres.url import Address
from .model import BOARDS_A_PAGE, FIRST_BOARD, FIRST_TASKS, BoardItem, Task, Unknown, number_of

# A number is never given twice, and a transaction that is rolled back uses none. So the newest ones are in a row,
# and not in a sequence. The tasks of a list are in the order of "place", which grows over the whole board.
_TABLES = """
CREATE TABLE IF NOT EXISTS {numbers} (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only), board bigint NOT NULL, task bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS {boards} (number bigint PRIMARY KEY, title text NOT NULL);
CREATE TABLE IF NOT EXISTS {tasks} (
    number bigint PRIMARY KEY, board bigint NOT NULL REFERENCES {boards}, list text NOT NULL,
    place bigint NOT NULL, title text NOT NULL
);
CREATE INDEX IF NOT EXISTS {index} ON {tasks} (board, place);
INSERT INTO {numbers} (board, task) VALUES (0, 0) ON CONFLICT DO NOTHING
"""

# Processes may make the tables at one time. Without a lock, one of them would fail.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

_INSERT_BOARD = """
WITH newest AS (UPDATE {numbers} SET board = board + 1 RETURNING board)
INSERT INTO {boards} (number, title) SELECT board, %s FROM newest RETURNING number
"""
_INSERT_TASK = """
WITH newest AS (UPDATE {numbers} SET task = task + 1 RETURNING task)
INSERT INTO {tasks} (number, board, list, place, title)
SELECT task, %s, %s, (SELECT coalesce(max(place), 0) + 1 FROM {tasks} WHERE board = %s), %s FROM newest
RETURNING number
"""
_MOVE_TASK = """
UPDATE {tasks} SET list = %s, place = (SELECT coalesce(max(place), 0) + 1 FROM {tasks} WHERE board = %s)
WHERE number = %s
"""


class Tables:
    """The names of the tables of one log.

    :param address: the log's.
    """

    def __init__(self, address: Address) -> None:
        self._names = {each: name(address, f"board_{each}") for each in ("numbers", "boards", "tasks")}
        # An index is always in the schema of its table.
        self._names["index"] = name(address, "board_tasks_place").rpartition(".")[2]

    def on(self, connection: psycopg.Connection[Any]) -> Rows:
        """Return the rows of the tables, inside the transaction of a connection."""
        return Rows(connection, self._names)

    def are_complete(self, connection: psycopg.Connection[Any]) -> bool:
        """Return whether all tables exist, and at least one board."""
        rows = self.on(connection)
        for each in ("numbers", "boards", "tasks"):
            if rows.run("SELECT to_regclass(%s)", self._names[each]) == [(None,)]:
                return False
        return bool(rows.run("SELECT 1 FROM {boards} LIMIT 1"))

    def complete(self, connection: psycopg.Connection[Any]) -> None:
        """Create the tables and the first board if they do not exist."""
        rows = self.on(connection)
        rows.run(_LOCK, self._names["boards"])
        for statement in _TABLES.split(";"):
            rows.run(statement)
        if not rows.run("SELECT 1 FROM {boards} LIMIT 1"):
            board = rows.insert_board(FIRST_BOARD)
            for title, list_id in FIRST_TASKS:
                rows.insert_task(board, title, list_id)


class Rows:
    """The rows of the tables, inside one transaction.

    :param connection: psycopg's.
    :param names: of the tables, in quotes.
    """

    def __init__(self, connection: psycopg.Connection[Any], names: dict[str, str]) -> None:
        self._connection = connection
        self._names = names

    def run(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Run a statement; return its rows, or nothing if it has no rows.

        :param statement: with ``%s`` for each value, and the tables' names in braces.
        """
        text = statement.format_map(self._names).encode()
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(text, values or None, prepare=False)
            return cursor.fetchall() if cursor.description is not None else ()

    def find_board(self, board: int) -> str:
        """Return the title of a board.

        :raises Unknown: there is no such board.
        """
        return self._title(self.run("SELECT title FROM {boards} WHERE number = %s", board))

    def lock_board(self, board: int) -> None:
        """Have other changes of a board wait for the end of this transaction.

        So the events have the order of the changes.

        :raises Unknown: there is no such board.
        """
        self._title(self.run("SELECT title FROM {boards} WHERE number = %s FOR NO KEY UPDATE", board))

    def _title(self, found: Sequence[tuple[Any, ...]]) -> str:
        if not found:
            raise Unknown("board")
        return str(found[0][0])

    def read_boards(self, before: int | None) -> list[BoardItem]:
        """Read a page of boards, newest first, and one board more if there is one.

        :param before: read only boards with a lower number; ``None``: the newest boards.
        """
        select = "SELECT number, title FROM {boards} WHERE number < %s ORDER BY number DESC LIMIT %s"
        found = self.run(select, before or 2**63 - 1, BOARDS_A_PAGE + 1)
        return [{"id": f"board-{number}", "title": title} for number, title in found]

    def read_task(self, board: int, task_id: str) -> Task:
        """Read one task of a board.

        :raises Unknown: the board has no such task.
        """
        select = "SELECT title, list FROM {tasks} WHERE number = %s AND board = %s"
        found = self.run(select, number_of("task", task_id), board)
        if not found:
            raise Unknown("task")
        title, list_id = found[0]
        return {"id": task_id, "title": title, "listId": list_id}

    def read_tasks(self, board: int) -> list[Task]:
        """Read all tasks of a board, in their order."""
        found = self.run("SELECT number, title, list FROM {tasks} WHERE board = %s ORDER BY place", board)
        return [{"id": f"task-{number}", "title": title, "listId": list_id} for number, title, list_id in found]

    def insert_board(self, title: str) -> int:
        """Insert a board; return its number."""
        ((number,),) = self.run(_INSERT_BOARD, title)
        return int(number)

    def insert_task(self, board: int, title: str, list_id: str) -> Task:
        """Insert a task at the end of a list."""
        ((number,),) = self.run(_INSERT_TASK, board, list_id, board, title)
        return {"id": f"task-{number}", "title": title, "listId": list_id}

    def move_task(self, board: int, task: Task) -> None:
        """Move an existing task to the end of the list that it names."""
        self.run(_MOVE_TASK, task["listId"], board, number_of("task", task["id"]))

    def rename_task(self, task: Task) -> None:
        """Give an existing task the title that it names."""
        self.run("UPDATE {tasks} SET title = %s WHERE number = %s", task["title"], number_of("task", task["id"]))

    def delete_task(self, board: int, task_id: str) -> None:
        """Delete a task.

        :raises Unknown: the board has no such task.
        """
        delete = "DELETE FROM {tasks} WHERE number = %s AND board = %s RETURNING 1"
        if not self.run(delete, number_of("task", task_id), board):
            raise Unknown("task")
