"""The boards in the log's own SQLite database: a change and its event are one transaction.

Either both are stored or neither is, also when the process dies in between. With ``memory://`` the rows are in a
SQLite database in memory, which is used under the log's lock. Any thread may call any method.

    store = open_store(hub.log)
    task, event_id = store.create_task("board-1", "Water the plants")
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from ..log import EventLog, Snapshot, Transaction
from . import sqlite_tables as tables
from .model import BOARDS_A_PAGE, Board, BoardItem, Task, number_of, require_list


class SQLiteBoardStore:
    """The rows of the boards, beside the events of a log.

    :param log: the hub's log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._is_prepared = False
        # Keeps the rows when the log has no database. The log's lock guards it: it is used only inside the
        # log's transactions and snapshots.
        self._memory: sqlite3.Connection | None = None

    def prepare(self) -> None:
        """Create the tables and the first board if they do not exist; several processes may do so at once.

        Every other method calls this first, so a log that could not be reached at the start needs no restart.
        Where the tables exist it only reads, so users can look at a board while the log is locked.

        :raises LogError: the log cannot be written.
        """
        if self._is_prepared:
            return
        with self._log.snapshot() as snapshot:
            is_complete = tables.are_complete(self._rows(snapshot))
        if not is_complete:
            with self._begin() as (rows, _):
                tables.complete(rows)
        self._is_prepared = True

    def snapshot(self, board_id: str) -> Board:
        """Read a board and the id of the newest event that is in it, in one transaction.

        :raises Unknown: there is no such board.
        :raises LogError: the log cannot be read.
        """
        with self._reading() as (rows, transaction):
            return tables.read_board(rows, tables.find_board(rows, board_id), transaction)

    def boards(self, before: str | None = None) -> tuple[list[BoardItem], bool]:
        """Read the newest boards, at most 100, newest first; return them and whether there are older ones.

        :param before: the id of a board: read only older boards; ``None``, the default: the newest.
        :raises Unknown: ``before`` is not the id of a board.
        :raises LogError: the log cannot be read.
        """
        number = number_of("board", before) if before is not None else None
        with self._reading() as (rows, _):
            found = tables.read_boards(rows, number)
        return found[:BOARDS_A_PAGE], len(found) > BOARDS_A_PAGE

    def require_board(self, board_id: str) -> None:
        """Return if there is such a board.

        :raises Unknown: there is no such board.
        :raises LogError: the log cannot be read.
        """
        with self._reading() as (rows, _):
            tables.find_board(rows, board_id)

    def task(self, board_id: str, task_id: str) -> Task:
        """Read one task.

        :raises Unknown: there is no such board, or it has no such task.
        :raises LogError: the log cannot be read.
        """
        with self._reading() as (rows, _):
            return tables.read_task(rows, tables.find_board(rows, board_id), task_id)

    def create_board(self, title: str) -> Board:
        """Create a board with the three lists and no tasks. There is no event: no client can listen to it yet.

        :raises LogError: nothing was created.
        """
        with self._changing() as (rows, transaction):
            return tables.read_board(rows, tables.insert_board(rows, title), transaction)

    def create_task(self, board_id: str, title: str, list_id: str | None = None) -> tuple[Task, str]:
        """Create a task and its event ``task_created``; return the task and the id of the event.

        :param list_id: the list, which the event then names too; ``None``, the default, for the first list.
        :raises Unknown: there is no such board or list.
        :raises LogError: nothing was created.
        """
        with self._changing() as (rows, transaction):
            board, lists = tables.find_lists(rows, board_id)
            if list_id is not None:
                require_list(lists, list_id)
            in_list = list_id or lists[0]["id"]
            task_id = tables.insert_task(rows, board, title, in_list)
            task = {"id": task_id, "title": title} | ({"listId": list_id} if list_id is not None else {})
            event_id = transaction.append(board_id, {"type": "task_created", "task": task})
            return {"id": task_id, "title": title, "listId": in_list}, event_id

    def change_task(
        self, board_id: str, task_id: str, *, title: str | None = None, list_id: str | None = None
    ) -> tuple[Task, str | None]:
        """Rename a task, move it to the end of another list, or both; each is an event.

        Returns the task and the id of the last event; ``None`` when nothing had to change.

        :param title: the new title; ``None``, the default, keeps the title.
        :param list_id: the new list; ``None``, the default, keeps the list.
        :raises Unknown: there is no such board, task or list.
        :raises LogError: nothing changed.
        """
        with self._changing() as (rows, transaction):
            board = tables.find_board(rows, board_id)
            task = tables.read_task(rows, board, task_id)
            event_id = None
            if list_id is not None:
                require_list(tables.read_lists(rows, board), list_id)
            if list_id is not None and list_id != task["listId"]:
                tables.move_task(rows, board, task_id, list_id)
                moved = {"id": task_id, "listId": list_id}
                event_id = transaction.append(board_id, {"type": "task_moved", "task": moved})
            if title is not None and title != task["title"]:
                tables.rename_task(rows, task_id, title)
                renamed = {"id": task_id, "title": title}
                event_id = transaction.append(board_id, {"type": "task_renamed", "task": renamed})
            return tables.read_task(rows, board, task_id), event_id

    def delete_task(self, board_id: str, task_id: str) -> str:
        """Delete a task; return the id of its event ``task_deleted``.

        :raises Unknown: there is no such board, or it has no such task.
        :raises LogError: nothing was deleted.
        """
        with self._changing() as (rows, transaction):
            tables.read_task(rows, tables.find_board(rows, board_id), task_id)
            tables.delete_task(rows, task_id)
            return transaction.append(board_id, {"type": "task_deleted", "taskId": task_id})

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, Snapshot]]:
        self.prepare()
        with self._log.snapshot() as snapshot:
            yield self._rows(snapshot), snapshot

    def _changing(self) -> AbstractContextManager[tuple[sqlite3.Connection, Transaction]]:
        self.prepare()
        return self._begin()

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
            connection: sqlite3.Connection = snapshot.connection
            return connection
        # The caller holds the log's lock, so only one thread at a time is here.
        if self._memory is None:
            self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._memory.close)
        return self._memory
