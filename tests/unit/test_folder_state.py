"""One look at a folder shows whether an entry was made, removed, replaced or renamed. Nothing is missed by it."""

from __future__ import annotations

import os
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from sse_threaded import LogUnusable
from sse_threaded.log import folder_state
from sse_threaded.log.doorbell import FifoDoorbell, Ringer
from sse_threaded.log.folder_state import settled_state
from sse_threaded.log.sqlite.log import SQLiteLog
from tests.support import sqlite_url, temporary_directory, wait_until
from tests.unit.test_log import is_readable


class FolderCase(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.folder = self.directory / "folder"
        self.folder.mkdir()
        (self.folder / "a").write_text("a")
        self.seconds = 1.5

    @contextmanager
    def later(self) -> Iterator[None]:
        """Let each folder in the block be one that was changed long ago, for one who looks at it now."""
        clock = mock.Mock(time_ns=lambda: time.time_ns() + 10_000_000_000, monotonic=lambda: self.seconds)
        with mock.patch.object(folder_state, "time", clock):
            yield

    def wait_for_tick(self) -> None:
        """Wait until the clock of the file system shows another time than that of the last change."""
        before = os.stat(self.folder).st_ctime_ns
        other = self.directory / "other"

        def has_ticked() -> bool:
            other.write_text("x")
            return other.stat().st_ctime_ns > before

        wait_until(has_ticked, message="a tick")


class StateTest(FolderCase):
    def state(self) -> folder_state.FolderState | None:
        with self.later():
            return settled_state(str(self.folder))

    def changes(self) -> dict[str, Callable[[], object]]:
        a, b = self.folder / "a", self.folder / "b"
        return {
            "made": lambda: b.write_text("b"),
            "renamed": lambda: a.rename(self.folder / "c"),
            "replaced": lambda: b.rename(self.folder / "c"),
            "made again": lambda: b.write_text("b"),
            "moved away": lambda: b.rename(self.directory / "b"),
            "moved here": lambda: (self.directory / "b").rename(b),
            "removed": b.unlink,
            "a link": lambda: b.symlink_to("c"),
            "its time set back": lambda: (b.unlink(), os.utime(self.folder, (1, 1))),
        }

    def test_each_change_of_the_entries_shows(self) -> None:
        for name, change in self.changes().items():
            with self.subTest(name):
                before = self.state()
                self.assertIsNotNone(before)
                self.assertEqual(self.state(), before)
                self.wait_for_tick()
                change()
                self.assertNotEqual(self.state(), before)

    def test_another_folder_in_its_place_shows(self) -> None:
        before = self.state()
        self.folder.rename(self.directory / "moved")
        self.assertIsNone(self.state())
        self.folder.mkdir()
        (self.folder / "a").write_text("a")
        self.assertNotEqual(self.state(), before)

    def test_a_folder_that_was_changed_a_moment_ago_has_no_state(self) -> None:
        self.assertIsNone(settled_state(str(self.folder)))

    def test_a_folder_that_was_changed_in_the_future_has_none(self) -> None:
        with mock.patch.object(folder_state, "time", mock.Mock(time_ns=lambda: 0)):
            self.assertIsNone(settled_state(str(self.folder)))

    def test_after_a_second_the_entries_are_read_in_any_case(self) -> None:
        before = self.state()
        self.seconds += 0.4
        self.assertEqual(self.state(), before)
        self.seconds += 0.2
        self.assertNotEqual(self.state(), before)


class RingerTest(FolderCase):
    def setUp(self) -> None:
        super().setUp()
        (self.folder / "a").unlink()
        self.ringer = Ringer(str(self.folder))
        self.addCleanup(self.ringer.close)

    def make_doorbell(self) -> FifoDoorbell:
        doorbell = FifoDoorbell(str(self.folder), 0o600)
        self.addCleanup(doorbell.close)
        return doorbell

    def test_names_are_read_only_after_a_change(self) -> None:
        doorbell = self.make_doorbell()
        with self.later(), mock.patch("os.listdir", wraps=os.listdir) as listdir:
            for _ in range(3):
                self.ringer.ring()
                self.assertTrue(is_readable(doorbell, 0))
                doorbell.clear()
            self.assertEqual(listdir.call_count, 1)
            self.wait_for_tick()
            other = self.make_doorbell()
            self.ringer.ring()
            self.assertTrue(is_readable(other, 0))
            self.assertEqual(listdir.call_count, 2)

    def test_a_doorbell_that_comes_just_after_a_look_is_rung(self) -> None:
        # The folder's time may be the same as before.
        for _ in range(20):
            doorbell = self.make_doorbell()
            self.ringer.ring()
            self.assertTrue(is_readable(doorbell, 0))

    def test_a_folder_that_goes_and_comes_back(self) -> None:
        self.make_doorbell()
        with self.later():
            self.ringer.ring()
            self.folder.rename(self.directory / "moved")
            self.ringer.ring()
            self.folder.mkdir()
            doorbell = self.make_doorbell()
            self.ringer.ring()
            self.assertTrue(is_readable(doorbell, 0))


class SQLiteFileTest(FolderCase):
    def make_log(self) -> SQLiteLog:
        log = SQLiteLog(sqlite_url(self.folder))
        self.addCleanup(log.close)
        log.append("a", "x")
        log.read(0)
        return log

    @contextmanager
    def stats(self) -> Iterator[list[str]]:
        """The paths that are looked at in the block."""
        paths: list[str] = []
        real = os.stat

        def stat(path: str, **options: object) -> os.stat_result:
            paths.append(Path(path).name)
            return real(path, **options)  # type: ignore[arg-type]

        with mock.patch("os.stat", stat):
            yield paths

    def test_an_append_looks_at_the_folder_and_not_at_each_file(self) -> None:
        log = self.make_log()
        with self.later():
            log.append("a", "x")
            with self.stats() as paths:
                log.append("a", "y")
        self.assertEqual(paths, ["folder", "folder", "log.db-bells"])

    def test_a_file_that_goes_after_many_looks_is_missed_at_once(self) -> None:
        for end in ("", "-wal", "-shm"):
            for way in ("removed", "renamed", "replaced"):
                with self.subTest(end=end, way=way):
                    self.setUp()
                    log = self.make_log()
                    with self.later():
                        for _ in range(3):
                            log.append("a", "x")
                        self.wait_for_tick()
                        file = self.folder / f"log.db{end}"
                        if way == "removed":
                            file.unlink()
                        elif way == "renamed":
                            file.rename(self.directory / "elsewhere")
                        else:
                            (self.directory / "new").write_bytes(file.read_bytes())
                            (self.directory / "new").replace(file)
                        for use in (lambda log=log: log.append("a", "y"), lambda log=log: log.read(0)):
                            self.assertRaisesRegex(LogUnusable, "removed or replaced", use)

    def test_other_files_in_the_folder_do_no_harm(self) -> None:
        log = self.make_log()
        with self.later():
            for number in range(3):
                log.append("a", "x")
                (self.folder / f"other-{number}").write_text("x")
                log.append("a", "y")

    def test_over_a_link_each_file_is_looked_at(self) -> None:
        log = self.make_log()
        (self.directory / "link.db").symlink_to(self.folder / "log.db")
        linked = SQLiteLog(f"sqlite:///{self.directory}/link.db")
        self.addCleanup(linked.close)
        with self.later():
            linked.append("a", "x")
            with self.stats() as paths:
                linked.append("a", "y")
            self.assertEqual(paths.count("link.db"), 2)
            (self.directory / "link.db").unlink()
            self.assertRaisesRegex(LogUnusable, "removed or replaced", linked.append, "a", "z")
        log.append("a", "x")


if __name__ == "__main__":
    unittest.main()
