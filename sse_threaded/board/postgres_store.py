"""The boards in PostgreSQL, beside a log there: a change and its event are one transaction.

It has the same methods as :class:`~sse_threaded.board.sqlite_store.SQLiteBoardStore`. Any thread may call any
method. The tables have the log's schema and prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from ..errors import LogUnusable
from ..log import EventLog
from ..log.postgres.log import PostgresLog
from ..log.postgres.url import parse_url
from .model import BOARDS_A_PAGE, LISTS, Board, BoardItem, ListItem, Task, number_of, require_list
from .postgres_tables import Rows, Tables


class PostgresBoardStore:
    """The rows of the boards, in the database of the log.

    :param log: the hub's log.
    """

    def __init__(self, log: EventLog) -> None:
        assert isinstance(log, PostgresLog)
        self._log = log
        self._tables = Tables(parse_url(log.url))
        self._is_prepared = False

    def prepare(self) -> None:
        """See :meth:`SQLiteBoardStore.prepare`. Where the tables exist, it only reads.

        :raises LogError: the tables cannot be read or created.
        """
        if self._is_prepared:
            return
        try:
            with self._log.snapshot() as snapshot:
                is_complete = self._tables.are_complete(snapshot.connection)
            if not is_complete:
                with self._log.transaction() as transaction:
                    self._tables.complete(transaction.connection)
        except psycopg.Error as error:
            said = str(error).partition("\n")[0]
            how = "start the board once with a role that may create tables, or correct this role's privileges"
            raise LogUnusable(self._log.url, f"the board's tables cannot be used ({said}); {how}") from error
        self._is_prepared = True

    def snapshot(self, board_id: str) -> Board:
        """See :meth:`SQLiteBoardStore.snapshot`."""
        number = number_of("board", board_id)
        self.prepare()
        with self._log.snapshot() as snapshot:
            rows = self._tables.on(snapshot.connection)
            title = rows.find_board(number)
            return {
                "id": board_id,
                "title": title,
                "lists": _lists(),
                "tasks": rows.read_tasks(number),
                "lastEventId": snapshot.last_event_id(),
            }

    def boards(self, before: str | None = None) -> tuple[list[BoardItem], bool]:
        """See :meth:`SQLiteBoardStore.boards`."""
        number = number_of("board", before) if before is not None else None
        with self._reading() as rows:
            found = rows.read_boards(number)
        return found[:BOARDS_A_PAGE], len(found) > BOARDS_A_PAGE

    def require_board(self, board_id: str) -> None:
        """See :meth:`SQLiteBoardStore.require_board`."""
        number = number_of("board", board_id)
        with self._reading() as rows:
            rows.find_board(number)

    def task(self, board_id: str, task_id: str) -> Task:
        """See :meth:`SQLiteBoardStore.task`."""
        board = number_of("board", board_id)
        with self._reading() as rows:
            rows.find_board(board)
            return rows.read_task(board, task_id)

    def create_board(self, title: str) -> Board:
        """See :meth:`SQLiteBoardStore.create_board`."""
        self.prepare()
        with self._log.transaction() as transaction:
            board = self._tables.on(transaction.connection).insert_board(title)
            return {
                "id": f"board-{board}",
                "title": title,
                "lists": _lists(),
                "tasks": [],
                "lastEventId": transaction.last_event_id(),
            }

    def create_task(self, board_id: str, title: str, list_id: str | None = None) -> tuple[Task, str]:
        """See :meth:`SQLiteBoardStore.create_task`."""
        board = number_of("board", board_id)
        self.prepare()
        with self._log.transaction() as transaction:
            rows = self._tables.on(transaction.connection)
            rows.lock_board(board)
            if list_id is not None:
                require_list(_lists(), list_id)
            task = rows.insert_task(board, title, list_id or LISTS[0][0])
            told = {"id": task["id"], "title": title} | ({"listId": list_id} if list_id is not None else {})
            return task, transaction.append(board_id, {"type": "task_created", "task": told})

    def change_task(
        self, board_id: str, task_id: str, *, title: str | None = None, list_id: str | None = None
    ) -> tuple[Task, str | None]:
        """See :meth:`SQLiteBoardStore.change_task`."""
        board = number_of("board", board_id)
        self.prepare()
        with self._log.transaction() as transaction:
            rows = self._tables.on(transaction.connection)
            rows.lock_board(board)
            task = rows.read_task(board, task_id)
            if list_id is not None:
                require_list(_lists(), list_id)
            changes: list[dict[str, object]] = []
            if list_id is not None and list_id != task["listId"]:
                task["listId"] = list_id
                rows.move_task(board, task)
                changes.append({"type": "task_moved", "task": {"id": task_id, "listId": list_id}})
            if title is not None and title != task["title"]:
                task["title"] = title
                rows.rename_task(task)
                changes.append({"type": "task_renamed", "task": {"id": task_id, "title": title}})
            # Last, as other appends wait from here on until the commit.
            event_id = None
            for change in changes:
                event_id = transaction.append(board_id, change)
            return task, event_id

    def delete_task(self, board_id: str, task_id: str) -> str:
        """See :meth:`SQLiteBoardStore.delete_task`."""
        board = number_of("board", board_id)
        self.prepare()
        with self._log.transaction() as transaction:
            rows = self._tables.on(transaction.connection)
            rows.lock_board(board)
            rows.delete_task(board, task_id)
            event_id: str = transaction.append(board_id, {"type": "task_deleted", "taskId": task_id})
            return event_id

    @contextmanager
    def _reading(self) -> Iterator[Rows]:
        self.prepare()
        with self._log.snapshot() as snapshot:
            yield self._tables.on(snapshot.connection)


def _lists() -> list[ListItem]:
    return [{"id": list_id, "title": title} for list_id, title in LISTS]
