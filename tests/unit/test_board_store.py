"""The board's store: rows and events, together or not at all, over the logs in memory and in SQLite."""

from __future__ import annotations

import contextlib
import json
import threading
import unittest
from collections.abc import Callable
from typing import Any

from sse_threaded import EventLog, InvalidEvent, open_log
from sse_threaded.board.model import Unknown
from sse_threaded.board.store import open_store
from tests.harness.warm_python import run_python
from tests.support import sqlite_url, temporary_directory

SECONDS = 60

OPEN_AND_ADD = """
import os, sys
from sse_threaded import open_log
from sse_threaded.board.store import open_store
reader, writer = os.pipe()
children = []
for _ in range(4):
    children.append(os.fork())
    if not children[-1]:
        os.close(writer)
        os.read(reader, 1)
        log = open_log(sys.argv[1])
        open_store(log).create_task("board-1", "from a process")
        log.close()
        os._exit(0)
os.close(writer)    # all have started; now they go on together
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


def events(log: EventLog, channel: str = "board-1") -> list[dict[str, Any]]:
    """The data of all events of a channel."""
    return [json.loads(record.data) for record in log.read(0, channels=[channel])]


def titles(store: Any, list_id: str) -> list[str]:
    return [task["title"] for task in store.snapshot("board-1")["tasks"] if task["listId"] == list_id]


class Shared:
    """Hides the cases from the loader, which would run them without a log."""

    class StoreCases(unittest.TestCase):
        """What holds for every log; a subclass makes the log."""

        def make_log(self) -> EventLog:
            raise NotImplementedError

        def setUp(self) -> None:
            self.log = self.make_log()
            self.addCleanup(self.log.close)
            self.store = open_store(self.log)

        def test_a_fresh_database_holds_a_board(self) -> None:
            board = self.store.snapshot("board-1")
            self.assertEqual(list(board), ["id", "title", "lists", "tasks", "lastEventId"])
            self.assertEqual([item["id"] for item in board["lists"]], ["list-todo", "list-doing", "list-done"])
            self.assertEqual([task["id"] for task in board["tasks"]], ["task-1", "task-2", "task-3", "task-4"])
            lists = {item["id"] for item in board["lists"]}
            self.assertLessEqual({task["listId"] for task in board["tasks"]}, lists)
            self.assertEqual(board["lastEventId"], f"{self.log.epoch}-0")

        def test_a_second_store_finds_what_is_there(self) -> None:
            self.store.create_task("board-1", "New task")
            self.store.prepare()
            self.assertEqual(len(self.store.snapshot("board-1")["tasks"]), 5)

        def test_each_change_has_its_event(self) -> None:
            task, position = self.store.create_task("board-1", "New task")
            self.assertEqual(task, {"id": "task-5", "title": "New task", "listId": "list-todo"})
            self.assertEqual(position, self.log.last_event_id())
            task, position = self.store.create_task("board-1", "Übung", "list-doing")
            self.assertEqual(task, {"id": "task-6", "title": "Übung", "listId": "list-doing"})
            moved, position = self.store.change_task("board-1", "task-5", list_id="list-done")
            self.assertEqual(moved, {"id": "task-5", "title": "New task", "listId": "list-done"})
            self.assertEqual(position, self.log.last_event_id())
            renamed, position = self.store.change_task("board-1", "task-5", title="Old task")
            self.assertEqual(renamed, {"id": "task-5", "title": "Old task", "listId": "list-done"})
            self.assertEqual(self.store.delete_task("board-1", "task-2"), self.log.last_event_id())
            self.assertEqual(
                [record.data for record in self.log.read(0)],
                [
                    '{"type":"task_created","task":{"id":"task-5","title":"New task"}}',
                    '{"type":"task_created","task":{"id":"task-6","title":"Übung","listId":"list-doing"}}',
                    '{"type":"task_moved","task":{"id":"task-5","listId":"list-done"}}',
                    '{"type":"task_renamed","task":{"id":"task-5","title":"Old task"}}',
                    '{"type":"task_deleted","taskId":"task-2"}',
                ],
            )

        def test_a_move_and_a_new_title_are_two_events(self) -> None:
            _, position = self.store.change_task("board-1", "task-1", title="Both", list_id="list-done")
            self.assertEqual([event["type"] for event in events(self.log)], ["task_moved", "task_renamed"])
            self.assertEqual(position, self.log.last_event_id())

        def test_a_change_that_changes_nothing_has_no_event(self) -> None:
            task = self.store.task("board-1", "task-1")
            same = self.store.change_task("board-1", "task-1", title=task["title"], list_id=task["listId"])
            self.assertEqual(same, (task, None))
            self.assertEqual(events(self.log), [])

        def test_a_moved_task_comes_last(self) -> None:
            self.store.create_task("board-1", "first", "list-done")
            self.store.change_task("board-1", "task-1", title="moved", list_id="list-done")
            self.store.create_task("board-1", "last", "list-done")
            self.assertEqual(titles(self.store, "list-done")[-3:], ["first", "moved", "last"])

        def test_an_id_is_never_given_twice(self) -> None:
            for expected in ("task-5", "task-6"):
                task, _ = self.store.create_task("board-1", "to be deleted")
                self.assertEqual(task["id"], expected)
                self.store.delete_task("board-1", task["id"])

        def test_ids_count_over_all_boards(self) -> None:
            board = self.store.create_board("Second")
            self.assertEqual((board["id"], board["title"], board["tasks"]), ("board-2", "Second", []))
            self.assertEqual(board["lists"], self.store.snapshot("board-1")["lists"])
            self.assertEqual(self.store.create_task("board-2", "there")[0]["id"], "task-5")
            self.assertEqual(self.store.create_task("board-1", "here")[0]["id"], "task-6")
            self.assertEqual([event["task"]["id"] for event in events(self.log, "board-2")], ["task-5"])
            with self.assertRaises(Unknown):
                self.store.task("board-1", "task-5")

        def test_boards_are_listed_newest_first_and_a_hundred_at_a_time(self) -> None:
            first = {"id": "board-1", "title": self.store.snapshot("board-1")["title"]}
            self.assertEqual(self.store.boards(), ([first], False))
            for number in range(2, 102):
                self.store.create_board(f"Bräd {number}")
            boards, more = self.store.boards()
            self.assertEqual((boards[0], len(boards), more), ({"id": "board-101", "title": "Bräd 101"}, 100, True))
            self.assertEqual(self.store.boards(boards[-1]["id"]), ([first], False))
            boards, more = self.store.boards("board-101")
            self.assertEqual((boards[0]["id"], boards[-1], more), ("board-100", first, False))
            # One that is not there yet is after all that are.
            self.assertEqual(self.store.boards("board-" + "9" * 18), self.store.boards())
            self.assertEqual(self.store.boards("board-1"), ([], False))

        def test_what_is_unknown_changes_nothing(self) -> None:
            store = self.store
            store.create_board("Second")
            before = store.snapshot("board-1")
            cases: list[tuple[str, Callable[[], object]]] = [
                ("board", lambda: store.snapshot("board-9")),
                ("board", lambda: store.snapshot("board-01")),
                ("board", lambda: store.snapshot("task-1")),
                ("board", lambda: store.snapshot("board-" + "9" * 30)),
                ("board", lambda: store.require_board("nonsense")),
                ("board", lambda: store.create_task("board-9", "x")),
                ("list", lambda: store.create_task("board-1", "x", "list-nowhere")),
                ("list", lambda: store.change_task("board-1", "task-1", title="x", list_id="list-nowhere")),
                ("task", lambda: store.change_task("board-1", "task-9", title="x")),
                ("task", lambda: store.change_task("board-2", "task-1", title="x")),
                ("task", lambda: store.delete_task("board-2", "task-1")),
                ("task", lambda: store.delete_task("board-1", "task-1x")),
                ("task", lambda: store.task("board-1", "list-todo")),
            ]
            for number, (kind, call) in enumerate(cases):
                with self.subTest(number=number), self.assertRaises(Unknown) as caught:
                    call()
                self.assertEqual(caught.exception.kind, kind)
            self.assertEqual(store.snapshot("board-1"), before)

        def test_no_row_without_its_event(self) -> None:
            before = self.store.snapshot("board-1")
            # A row can hold it, an event cannot: the append fails after the row was written.
            huge = "x" * 2_000_000
            with self.assertRaises(InvalidEvent):
                self.store.create_task("board-1", huge)
            with self.assertRaises(InvalidEvent):
                self.store.change_task("board-1", "task-1", title=huge, list_id="list-done")
            self.assertEqual(self.store.snapshot("board-1"), before)
            self.assertEqual(self.store.create_task("board-1", "next")[0]["id"], "task-5")

        def test_threads_change_one_board(self) -> None:
            together = threading.Barrier(8)

            def add() -> None:
                together.wait(SECONDS)
                for _ in range(5):
                    self.store.create_task("board-1", "one of many")

            threads = [threading.Thread(target=add) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SECONDS)
            ids = [event["task"]["id"] for event in events(self.log)]
            self.assertEqual(ids, [f"task-{number}" for number in range(5, 45)])
            self.assertEqual([task["id"] for task in self.store.snapshot("board-1")["tasks"]][4:], ids)


class MemoryStoreTest(Shared.StoreCases):
    def make_log(self) -> EventLog:
        return open_log("memory://")


class Kept:
    """Hides them likewise."""

    class StoreCases(Shared.StoreCases):
        """What holds for every log that outlives its process."""

        def make_url(self) -> str:
            raise NotImplementedError

        def make_log(self) -> EventLog:
            self.url = self.make_url()
            return open_log(self.url)

        def test_it_is_all_there_after_a_restart(self) -> None:
            self.store.create_task("board-1", "to stay")
            self.store.create_task("board-1", "to go")
            self.store.delete_task("board-1", "task-6")
            before = self.store.snapshot("board-1")
            self.log.close()
            self.log = open_log(self.url)
            self.addCleanup(self.log.close)
            self.store = open_store(self.log)
            self.assertEqual(self.store.snapshot("board-1"), before)
            self.assertEqual(self.store.create_task("board-1", "next")[0]["id"], "task-7")

        def test_processes_make_the_tables_at_one_time(self) -> None:
            url = self.make_url()
            done = run_python(OPEN_AND_ADD, url)
            self.assertEqual(done.returncode, 0, done.stderr)
            log = open_log(url)
            self.addCleanup(log.close)
            tasks = open_store(log).snapshot("board-1")["tasks"]
            self.assertEqual([task["id"] for task in tasks], [f"task-{number}" for number in range(1, 9)])

        def test_a_snapshot_and_its_id_belong_together(self) -> None:
            # While another thread adds: the newest task in a snapshot is that of the event with its id.
            log = open_log(self.url)
            self.addCleanup(log.close)
            other = open_store(log)
            adding = threading.Thread(target=lambda: [other.create_task("board-1", "more") for _ in range(100)])
            adding.start()
            try:
                while adding.is_alive():
                    board = self.store.snapshot("board-1")
                    sequence = int(board["lastEventId"].rpartition("-")[2])
                    self.assertEqual(board["tasks"][-1]["id"], f"task-{sequence + 4}")
            finally:
                adding.join(SECONDS)


class SQLiteStoreTest(Kept.StoreCases):
    def make_url(self) -> str:
        return sqlite_url(temporary_directory(self))

    def test_a_store_that_begins_while_the_log_is_locked_shows_the_board(self) -> None:
        self.store.create_task("board-1", "New task")
        with self.log.transaction(), contextlib.closing(open_log(self.url)) as log:
            self.assertEqual(len(open_store(log).snapshot("board-1")["tasks"]), 5)


if __name__ == "__main__":
    unittest.main()
