"""The boards in Redis, beside a Redis log: each change is one script with its event, each read another script.

It has the same methods as :class:`~sse_threaded.board.sqlite_store.SQLiteBoardStore`. The scripts are the files in
``lua``. The keys, after the log's prefix:

    boards                    hash: the numbers of the newest board and the newest task
    board:N                   hash: the title, and the newest place
    board:N:order             sorted set: the tasks by their place
    board:N:titles            hash: the titles of the tasks
    board:N:lists             hash: the list of each task
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NoReturn

from ..log import EventLog
from ..log.redis.log import RedisLog
from ..log.validation import validate_event
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
    require_list,
)


def _script(*names: str) -> str:
    folder = files(__package__) / "lua"
    return "".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)


_PREPARE = _script("keys", "inserts", "prepare")
_CREATE_BOARD = _script("keys", "inserts", "create_board")
_CREATE_TASK = _script("keys", "inserts", "create_task")
_CHANGE_TASK = _script("keys", "inserts", "change_task")
_DELETE_TASK = _script("keys", "delete_task")
_READ_BOARD = _script("keys", "read_board")
_READ_BOARDS = _script("keys", "read_boards")
_HAS_BOARD = _script("keys", "has_board")
_READ_TASK = _script("keys", "read_task")

# The data of the event "task_created" up to the task's number, which only the script knows.
_CREATED_BEGIN = '{"type":"task_created","task":{"id":"task-'

_LIST_IDS = tuple(list_id for list_id, _ in LISTS)


class RedisBoardStore:
    """The boards in the Redis server of the log.

    :param log: the hub's log.
    """

    def __init__(self, log: EventLog) -> None:
        assert isinstance(log, RedisLog)
        self._log = log
        self._prepared_epoch = ""

    def prepare(self) -> None:
        """Create the first board if no board exists. Every other method calls this first, also after a flush.

        :raises LogError: the log cannot be written.
        """
        if self._prepared_epoch != self._log.epoch:
            epoch = self._log.epoch
            self._create_first()
            self._prepared_epoch = epoch

    def _create_first(self) -> None:
        tasks = [text for title, list_id in FIRST_TASKS for text in (list_id, title)]
        self._log.run(_PREPARE, FIRST_BOARD, *tasks)

    def snapshot(self, board_id: str) -> Board:
        """See :meth:`SQLiteBoardStore.snapshot`."""
        title, order, titles, lists, event_id = self._read(_READ_BOARD, number_of("board", board_id))
        named, placed = _pairs(titles), _pairs(lists)
        return {
            "id": board_id,
            "title": title.decode(),
            "lists": _lists(),
            "tasks": [
                {"id": f"task-{each.decode()}", "title": named[each].decode(), "listId": placed[each].decode()}
                for each in order
            ],
            "lastEventId": event_id.decode(),
        }

    def boards(self, before: str | None = None) -> tuple[list[BoardItem], bool]:
        """See :meth:`SQLiteBoardStore.boards`."""
        number = number_of("board", before) if before is not None else 0
        flat = self._read(_READ_BOARDS, number, BOARDS_A_PAGE + 1)
        pairs = zip(flat[::2], flat[1::2], strict=True)
        found: list[BoardItem] = [{"id": f"board-{int(each)}", "title": title.decode()} for each, title in pairs]
        return found[:BOARDS_A_PAGE], len(found) > BOARDS_A_PAGE

    def require_board(self, board_id: str) -> None:
        """See :meth:`SQLiteBoardStore.require_board`."""
        self._read(_HAS_BOARD, number_of("board", board_id))

    def task(self, board_id: str, task_id: str) -> Task:
        """See :meth:`SQLiteBoardStore.task`."""
        board = number_of("board", board_id)
        title, list_id = self._read(_READ_TASK, board, self._task_number(board, task_id))
        return _task(task_id, title, list_id)

    def create_board(self, title: str) -> Board:
        """See :meth:`SQLiteBoardStore.create_board`."""
        number, event_id = self._change(_CREATE_BOARD, title)
        return {
            "id": f"board-{int(number)}",
            "title": title,
            "lists": _lists(),
            "tasks": [],
            "lastEventId": event_id.decode(),
        }

    def create_task(self, board_id: str, title: str, list_id: str | None = None) -> tuple[Task, str]:
        """See :meth:`SQLiteBoardStore.create_task`."""
        board = number_of("board", board_id)  # checks the id, which is also the name of the channel
        task = {"id": "task-", "title": title} | ({"listId": list_id} if list_id is not None else {})
        text = _checked_data(board_id, {"type": "task_created", "task": task})
        in_list = _existing_list(list_id) if list_id is not None else _LIST_IDS[0]
        number, event_id = self._change(
            _CREATE_TASK,
            *(board, board_id, in_list, title),
            *(_CREATED_BEGIN, text[len(_CREATED_BEGIN) :]),
        )
        return _task(f"task-{int(number)}", title.encode(), in_list.encode()), event_id.decode()

    def change_task(
        self, board_id: str, task_id: str, *, title: str | None = None, list_id: str | None = None
    ) -> tuple[Task, str | None]:
        """See :meth:`SQLiteBoardStore.change_task`."""
        board = number_of("board", board_id)
        moved = {"type": "task_moved", "task": {"id": task_id, "listId": list_id}}
        renamed = {"type": "task_renamed", "task": {"id": task_id, "title": title}}
        new_title, new_list, event_id = self._change(
            _CHANGE_TASK,
            *(board, self._task_number(board, task_id), board_id),
            *(_existing_list(list_id) if list_id is not None else "-", _checked_data(board_id, moved)),
            *(title or "", _checked_data(board_id, renamed)),
        )
        return _task(task_id, new_title, new_list), event_id.decode() or None

    def delete_task(self, board_id: str, task_id: str) -> str:
        """See :meth:`SQLiteBoardStore.delete_task`."""
        board = number_of("board", board_id)
        number = self._task_number(board, task_id)
        data = _checked_data(board_id, {"type": "task_deleted", "taskId": task_id})
        (event_id,) = self._change(_DELETE_TASK, board, number, board_id, data)
        return str(event_id.decode())

    def _task_number(self, board: int, task_id: str) -> int:
        try:
            return number_of("task", task_id)
        except Unknown:
            self._read(_HAS_BOARD, board)  # if the board does not exist either, say that
            raise

    def _read(self, body: str, *args: str | int) -> Any:
        self.prepare()
        return _require(self._log.look(body, *args))

    def _change(self, body: str, *args: str | int) -> Any:
        self.prepare()
        answer = self._log.run(body, *args)
        if answer[0] == b"board":
            # Redis may have been flushed just now; then the first board does not exist either.
            self._create_first()
            answer = self._log.run(body, *args)
        return _require(answer)


def _checked_data(board_id: str, value: object) -> str:
    _, text, _ = validate_event(board_id, value, None)  # raises before anything is changed
    return text


def _require(answer: Any) -> Any:
    missing, *rest = answer
    if missing:
        _refuse(missing.decode())
    return rest


def _refuse(kind: str) -> NoReturn:
    if kind == "list":
        require_list(_lists(), "")
    raise Unknown(kind)


def _lists() -> list[ListItem]:
    return [{"id": list_id, "title": title} for list_id, title in LISTS]


def _existing_list(list_id: str) -> str:
    return list_id if list_id in _LIST_IDS else ""


def _task(task_id: str, title: bytes, list_id: bytes) -> Task:
    return {"id": task_id, "title": title.decode(), "listId": list_id.decode()}


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
