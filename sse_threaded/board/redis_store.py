"""The boards in Redis, beside a Redis log: each change is one script with its event, each look another.

The same methods as :class:`~sse_threaded.board.store.BoardStore` has. Keys, after the log's prefix:

    boards                    hash: the newest board's and task's numbers
    board:N                   hash: title, and the newest place
    board:N:order             sorted set: tasks by their place
    board:N:titles            hash: tasks' titles
    board:N:lists             hash: the list that each task is in
"""

from __future__ import annotations

from typing import Any, NoReturn

from ..log import EventLog
from ..log.interface import checked
from ..log.redis.log import RedisLog
from .sqlite_tables import (
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

_TOLD_CREATED = '{"type":"task_created","task":{"id":"task-'

_KEYS = """
local counters = base .. 'boards'
local function board_key(number) return base .. 'board:' .. number end
local function has_board(number) return redis.call('EXISTS', board_key(number)) == 1 end
"""

_PLACING = (
    _KEYS
    + """
local function place(board, task, list)
    local key = board_key(board)
    redis.call('ZADD', key .. ':order', redis.call('HINCRBY', key, 'place', 1), task)
    redis.call('HSET', key .. ':lists', task, list)
end
local function new_board(title)
    local number = redis.call('HINCRBY', counters, 'board', 1)
    redis.call('HSET', board_key(number), 'title', title)
    return number
end
local function new_task(board, list, title)
    local number = redis.call('HINCRBY', counters, 'task', 1)
    place(board, number, list)
    redis.call('HSET', board_key(board) .. ':titles', number, title)
    return number
end
"""
)

# args: the first board's title, then list and title of each task.
_PREPARE = (
    _PLACING
    + """
if redis.call('EXISTS', counters) == 1 then return 0 end
local board = new_board(args[1])
for at = 2, #args, 2 do new_task(board, args[at], args[at + 1]) end
return 1
"""
)

# args: title. Returns the board's number and the newest event's id.
_CREATE_BOARD = (
    _PLACING
    + """
if not has_board(1) then return {'board'} end
return {'', new_board(args[1]), last_event_id()}
"""
)

# args: board, channel, list, or '' if there is none such, title, the event's data before and after the number.
_CREATE_TASK = (
    _PLACING
    + """
if not has_board(args[1]) then return {'board'} end
if args[3] == '' then return {'list'} end
local number = new_task(args[1], args[3], args[4])
return {'', number, append(args[2], args[5] .. number .. args[6])}
"""
)

# args: board, task, channel; a list, '' for one there is not, '-' to leave it, its event's data; a title,
# '' to leave it, its event's data. Returns the title, the list and the last event's id or ''.
_CHANGE_TASK = (
    _PLACING
    + """
if not has_board(args[1]) then return {'board'} end
local titles, lists = board_key(args[1]) .. ':titles', board_key(args[1]) .. ':lists'
local title, list = redis.call('HGET', titles, args[2]), redis.call('HGET', lists, args[2])
if not title then return {'task'} end
if args[4] == '' then return {'list'} end
local id = ''
if args[4] ~= '-' and args[4] ~= list then
    list = args[4]
    place(args[1], args[2], list)
    id = append(args[3], args[5])
end
if args[6] ~= '' and args[6] ~= title then
    title = args[6]
    redis.call('HSET', titles, args[2], title)
    id = append(args[3], args[7])
end
return {'', title, list, id}
"""
)

# args: board, task, channel, the event's data.
_DELETE_TASK = (
    _KEYS
    + """
if not has_board(args[1]) then return {'board'} end
local key = board_key(args[1])
if redis.call('HDEL', key .. ':titles', args[2]) == 0 then return {'task'} end
redis.call('HDEL', key .. ':lists', args[2])
redis.call('ZREM', key .. ':order', args[2])
return {'', append(args[3], args[4])}
"""
)

# args: board. Returns title, tasks in order, their titles and lists, and the newest event's id.
_SNAPSHOT = (
    _KEYS
    + """
if not has_board(args[1]) then return {'board'} end
local key = board_key(args[1])
return {
    '',
    redis.call('HGET', key, 'title'),
    redis.call('ZRANGE', key .. ':order', 0, -1),
    redis.call('HGETALL', key .. ':titles'),
    redis.call('HGETALL', key .. ':lists'),
    last_event_id(),
}
"""
)

# args: the number below which to begin, or 0 for the newest; how many. Returns numbers and titles in turn. A
# number without a board is passed over, and counts, so that the script's time is bounded.
_BOARDS = (
    _KEYS
    + """
local newest = tonumber(redis.call('HGET', counters, 'board') or 0)
local below = tonumber(args[1])
if below > 0 then newest = math.min(newest, below - 1) end
local found = {''}
for number = newest, math.max(1, newest - tonumber(args[2]) + 1), -1 do
    local title = redis.call('HGET', board_key(number), 'title')
    if title then
        found[#found + 1] = number
        found[#found + 1] = title
    end
end
return found
"""
)

# args: board.
_HAS_BOARD = _KEYS + "return {has_board(args[1]) and '' or 'board'}"

# args: board, task. Returns title and list.
_TASK = (
    _KEYS
    + """
if not has_board(args[1]) then return {'board'} end
local key = board_key(args[1])
local title = redis.call('HGET', key .. ':titles', args[2])
if not title then return {'task'} end
return {'', title, redis.call('HGET', key .. ':lists', args[2])}
"""
)

_LIST_IDS = tuple(list_id for list_id, _ in LISTS)


class RedisBoardStore:
    """The boards in the log's Redis.

    :param log: the hub's log.
    """

    def __init__(self, log: EventLog) -> None:
        assert isinstance(log, RedisLog)
        self._log = log
        self._prepared = ""  # the epoch in which it was

    def prepare(self) -> None:
        """Make the first board if there is none; every other method does this first, also after a flush.

        :raises LogError: the log cannot be written.
        """
        if self._prepared != self._log.epoch:
            epoch = self._log.epoch
            self._make_first()
            self._prepared = epoch

    def _make_first(self) -> None:
        tasks = [text for title, list_id in FIRST_TASKS for text in (list_id, title)]
        self._log.run(_PREPARE, FIRST_BOARD, *tasks)

    def snapshot(self, board_id: str) -> Board:
        """See :meth:`BoardStore.snapshot`."""
        title, order, titles, lists, event_id = self._look(_SNAPSHOT, number_of("board", board_id))
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
        """See :meth:`BoardStore.boards`."""
        number = number_of("board", before) if before is not None else 0
        flat = self._look(_BOARDS, number, BOARDS_A_PAGE + 1)
        pairs = zip(flat[::2], flat[1::2], strict=True)
        found: list[BoardItem] = [{"id": f"board-{int(each)}", "title": title.decode()} for each, title in pairs]
        return found[:BOARDS_A_PAGE], len(found) > BOARDS_A_PAGE

    def require_board(self, board_id: str) -> None:
        """See :meth:`BoardStore.require_board`."""
        self._look(_HAS_BOARD, number_of("board", board_id))

    def task(self, board_id: str, task_id: str) -> Task:
        """See :meth:`BoardStore.task`."""
        board = number_of("board", board_id)
        title, list_id = self._look(_TASK, board, self._task_number(board, task_id))
        return _task(task_id, title, list_id)

    def create_board(self, title: str) -> Board:
        """See :meth:`BoardStore.create_board`."""
        number, event_id = self._change(_CREATE_BOARD, title)
        return {
            "id": f"board-{int(number)}",
            "title": title,
            "lists": _lists(),
            "tasks": [],
            "lastEventId": event_id.decode(),
        }

    def create_task(self, board_id: str, title: str, list_id: str | None = None) -> tuple[Task, str]:
        """See :meth:`BoardStore.create_task`."""
        board = number_of("board", board_id)  # before the id is taken for a channel's name
        told = {"id": "task-", "title": title} | ({"listId": list_id} if list_id is not None else {})
        text = _told(board_id, {"type": "task_created", "task": told})
        in_list = _known(list_id) if list_id is not None else _LIST_IDS[0]
        number, position = self._change(
            _CREATE_TASK,
            *(board, board_id, in_list, title),
            *(_TOLD_CREATED, text[len(_TOLD_CREATED) :]),
        )
        return _task(f"task-{int(number)}", title.encode(), in_list.encode()), position.decode()

    def change_task(
        self, board_id: str, task_id: str, *, title: str | None = None, list_id: str | None = None
    ) -> tuple[Task, str | None]:
        """See :meth:`BoardStore.change_task`."""
        board = number_of("board", board_id)
        moved = {"type": "task_moved", "task": {"id": task_id, "listId": list_id}}
        renamed = {"type": "task_renamed", "task": {"id": task_id, "title": title}}
        now_title, now_list, position = self._change(
            _CHANGE_TASK,
            *(board, self._task_number(board, task_id), board_id),
            *(_known(list_id) if list_id is not None else "-", _told(board_id, moved)),
            *(title or "", _told(board_id, renamed)),
        )
        return _task(task_id, now_title, now_list), position.decode() or None

    def delete_task(self, board_id: str, task_id: str) -> str:
        """See :meth:`BoardStore.delete_task`."""
        board = number_of("board", board_id)
        number = self._task_number(board, task_id)
        told = _told(board_id, {"type": "task_deleted", "taskId": task_id})
        (position,) = self._change(_DELETE_TASK, board, number, board_id, told)
        return str(position.decode())

    def _task_number(self, board: int, task_id: str) -> int:
        try:
            return number_of("task", task_id)
        except Unknown:
            self._look(_HAS_BOARD, board)  # the board is what is missing first
            raise

    def _look(self, body: str, *args: str | int) -> Any:
        self.prepare()
        return _require(self._log.look(body, *args))

    def _change(self, body: str, *args: str | int) -> Any:
        self.prepare()
        answer = self._log.run(body, *args)
        if answer[0] == b"board":
            # The log may have been made anew meanwhile, so that nothing was there at all.
            self._make_first()
            answer = self._log.run(body, *args)
        return _require(answer)


def _told(board_id: str, value: object) -> str:
    _, text, _ = checked(board_id, value, None)  # before anything is changed
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


def _known(list_id: str) -> str:
    return list_id if list_id in _LIST_IDS else ""


def _task(task_id: str, title: bytes, list_id: bytes) -> Task:
    return {"id": task_id, "title": title.decode(), "listId": list_id.decode()}


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
