"""Messages about presence cost no room in a log for long, and cut off nobody."""

from __future__ import annotations

import time
import unittest
from contextlib import closing
from sqlite3 import connect

from sse_threaded import HistoryGone, Retention
from sse_threaded.log.memory import MemoryLog
from sse_threaded.log.retention import MESSAGES, MESSAGES_SECONDS
from sse_threaded.log.sqlite.log import SQLiteLog
from tests.support import sqlite_url, temporary_directory

ONCE = True  # it says the same under every Python


class MemoryTest(unittest.TestCase):
    def test_old_messages_are_deleted_and_nobody_is_cut_off(self) -> None:
        now = [100.0]
        log = MemoryLog(Retention(count=None, age=None), clock=lambda: now[0])
        log.append("news", "one")
        for number in range(1200):
            log.append(MESSAGES, str(number))
        now[0] += MESSAGES_SECONDS + 1
        last = log.append(MESSAGES, "last")
        self.assertEqual(
            [record.data for record in log.read(log.trimmed([MESSAGES]), channels=[MESSAGES])], ["last"]
        )
        self.assertRaises(HistoryGone, log.read, 0, channels=[MESSAGES])
        self.assertEqual([record.data for record in log.read(0)], ["one", "last"])
        self.assertEqual(log.read(0)[-1].sequence, int(last.partition("-")[2]))

    def test_other_channels_are_kept(self) -> None:
        now = [100.0]
        log = MemoryLog(clock=lambda: now[0])
        log.append("news", "one")
        now[0] += MESSAGES_SECONDS + 1
        log.append("news", "two")
        self.assertEqual(len(log.read(0, channels=["news"])), 2)


class SQLiteTest(unittest.TestCase):
    def test_old_messages_lose_their_data_and_nobody_is_cut_off(self) -> None:
        folder = temporary_directory(self)
        log = SQLiteLog(sqlite_url(folder), Retention(count=1, age=None))
        self.addCleanup(log.close)
        log.append("news", "one")
        for _ in range(3):
            log.append(MESSAGES, "x" * 1000)
        log.trim()
        with closing(connect(folder / "log.db", isolation_level=None)) as connection:
            connection.execute("UPDATE sse_events SET created = ?", (time.time() - MESSAGES_SECONDS - 1,))
            log.append(MESSAGES, "new")
            before = connection.total_changes
            for _ in range(2):
                log._trimmer._round()
            self.assertEqual(connection.total_changes, before)
            self.assertEqual(connection.execute("SELECT count(*) FROM sse_channels").fetchone(), (0,))
        self.assertEqual([record.data for record in log.read(0)], ["one", "", "", "", "new"])


if __name__ == "__main__":
    unittest.main()
