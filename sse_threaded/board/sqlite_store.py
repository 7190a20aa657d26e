"""Boards, lists and tasks in the log's own SQLite database: a change and its event are one transaction.

Either both are there or neither is, also when the process dies in between. With ``memory://`` the rows
are in a SQLite database in memory, entered under the log's lock. Any thread may call any method.

    store = open_store(hub.log)
    task, position = store.create_task("board-1", "Water the plants")

With a log in Redis the boards are there too (:mod:`.redis_store`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from ..log import EventLog, Snapshot, Transaction
from . import sqlite_tables as tables
from .sqlite_tables import BOARDS_A_PAGE, Board, BoardItem, Task, number_of


class BoardStore:
    """The board's rows beside an event log.

    :param log: the hub's log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._prepared = False
        # The rows' home when the log has no database; guarded by the log's lock, as all use of it
        # is inside the log's transactions and snapshots.
        self._memory: sqlite3.Connection | None = None

    def prepare(self) -> None:
        """Make the tables, and the first board, if they are not there; several processes may do so at once.

        Every other method does this first, so that a log which could not be reached at the start is no
        reason to restart. Where all is there it only reads: a board can be looked at while the log is locked.

        :raises LogError: the log cannot be written.
        """
        if self._prepared:
            return
        with self._log.snapshot() as snapshot:
            complete = tables.are_complete(self._rows(snapshot))
        if not complete:
            with self._begin() as (rows, _):
                tables.complete(rows)
        self._prepared = True

    def snapshot(self, board_id: str) -> Board:
        """A board and the id of the newest event it contains, read in one transaction.

        :raises Unknown: no such board.
        :raises LogError: the log cannot be read.
        """
        with self._look() as (rows, transaction):
            return tables.read_board(rows, tables.find_board(rows, board_id), transaction)

    def boards(self, before: str | None = None) -> tuple[list[BoardItem], bool]:
        """The newest boards, at most 100, newest first; and whether there are older ones.

        :param before: a board's id, for those that are older than it; ``None``, the default, for the newest.
        :raises Unknown: ``before`` is no board's id.
        :raises LogError: the log cannot be read.
        """
        number = number_of("board", before) if before is not None else None
        with self._look() as (rows, _):
            found = tables.read_boards(rows, number)
        return found[:BOARDS_A_PAGE], len(found) > BOARDS_A_PAGE

    def require_board(self, board_id: str) -> None:
        """Return if there is such a board.

        :raises Unknown: no such board.
        :raises LogError: the log cannot be read.
        """
        with self._look() as (rows, _):
            tables.find_board(rows, board_id)

    def task(self, board_id: str, task_id: str) -> Task:
        """One task.

        :raises Unknown: no such board, or no such task on it.
        :raises LogError: the log cannot be read.
        """
        with self._look() as (rows, _):
            return tables.read_task(rows, tables.find_board(rows, board_id), task_id)

    def create_board(self, title: str) -> Board:
        """Make a board with the three lists and no tasks; no event, as nobody can listen to it yet.

        :raises LogError: nothing was made.
        """
        with self._change() as (rows, transaction):
            return tables.read_board(rows, tables.insert_board(rows, title), transaction)

    def create_task(self, board_id: str, title: str, list_id: str | None = None) -> tuple[Task, str]:
        """Make a task and its event ``task_created``; returns the task and the event's id.

        :param list_id: the list, which the event then names too; ``None``, the default, for the first.
        :raises Unknown: no such board or list.
        :raises LogError: nothing was made.
        """
        with self._change() as (rows, transaction):
            board = tables.find_board(rows, board_id)
            lists = tables.read_lists(rows, board)
            if list_id is not None:
                tables.require_list(lists, list_id)
            task_id = tables.insert_task(rows, board, title, list_id or lists[0]["id"])
            told = {"id": task_id, "title": title} | ({"listId": list_id} if list_id is not None else {})
            position = transaction.append(board_id, {"type": "task_created", "task": told})
            return tables.read_task(rows, board, task_id), position

    def change_task(
        self, board_id: str, task_id: str, *, title: str | None = None, list_id: str | None = None
    ) -> tuple[Task, str | None]:
        """Rename a task, move it to the end of another list, or both; each is an event.

        Returns the task and the last event's id, ``None`` when everything was so already.

        :param title: the new title; ``None``, the default, leaves it.
        :param list_id: the new list; ``None``, the default, leaves it.
        :raises Unknown: no such board, task or list.
        :raises LogError: nothing changed.
        """
        with self._change() as (rows, transaction):
            board = tables.find_board(rows, board_id)
            task = tables.read_task(rows, board, task_id)
            position = None
            if list_id is not None:
                tables.require_list(tables.read_lists(rows, board), list_id)
            if list_id is not None and list_id != task["listId"]:
                tables.move_task(rows, board, task_id, list_id)
                told = {"id": task_id, "listId": list_id}
                position = transaction.append(board_id, {"type": "task_moved", "task": told})
            if title is not None and title != task["title"]:
                tables.rename_task(rows, task_id, title)
                told = {"id": task_id, "title": title}
                position = transaction.append(board_id, {"type": "task_renamed", "task": told})
            return tables.read_task(rows, board, task_id), position

    def delete_task(self, board_id: str, task_id: str) -> str:
        """Delete a task; returns the id of its event ``task_deleted``.

        :raises Unknown: no such board or task.
        :raises LogError: nothing was deleted.
        """
        with self._change() as (rows, transaction):
            tables.read_task(rows, tables.find_board(rows, board_id), task_id)
            tables.delete_task(rows, task_id)
            return transaction.append(board_id, {"type": "task_deleted", "taskId": task_id})

    @contextmanager
    def _look(self) -> Iterator[tuple[sqlite3.Connection, Snapshot]]:
        self.prepare()
        with self._log.snapshot() as snapshot:
            yield self._rows(snapshot), snapshot

    @contextmanager
    def _change(self) -> Iterator[tuple[sqlite3.Connection, Transaction]]:
        self.prepare()
        with self._begin() as pair:
            yield pair

    @contextmanager
    def _begin(self) -> Iterator[tuple[sqlite3.Connection, Transaction]]:
        with self._log.transaction() as transaction:
            rows = self._rows(transaction)
            if transaction.has_connection:
                yield rows, transaction
                return
            rows.execute("BEGIN")
            try:
                yield rows, transaction
            except BaseException:
                rows.execute("ROLLBACK")
                raise
            rows.execute("COMMIT")

    def _rows(self, snapshot: Snapshot) -> sqlite3.Connection:
        if snapshot.has_connection:
            return snapshot.connection
        # Inside the log's lock, so one thread at a time.
        if self._memory is None:
            self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        return self._memory
