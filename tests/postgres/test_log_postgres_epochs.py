"""A log in PostgreSQL that is another one than before: only clients that have seen lost events get a reset."""

from __future__ import annotations

import shutil
import unittest
from collections.abc import Callable

from sse_threaded import HistoryGone, Retention
from sse_threaded.log.postgres.log import PostgresLog
from tests.harness.postgres_server import PostgresServer
from tests.postgres.patience import be_patient
from tests.support import enter, wait_until

ONCE = True  # it says the same under every Python


class EpochCase(unittest.TestCase):
    def setUp(self) -> None:
        be_patient(self)
        self.postgres = enter(self, PostgresServer())

    def open_log(self, server: PostgresServer | None = None, database: str | None = None) -> PostgresLog:
        log = PostgresLog((server or self.postgres).url(database, prefix="t"))
        self.addCleanup(log.close)
        return log

    def require_reset(self, log: PostgresLog, event_id: str, reason: str = "epoch") -> None:
        with self.assertRaises(HistoryGone) as caught:
            log.sequence_of(event_id)
        self.assertEqual(caught.exception.reason, reason)

    def append_all(self, log: PostgresLog, count: int, name: str = "x") -> list[str]:
        return [log.append("a", f"{name} {number}") for number in range(1, count + 1)]

    def publish(self, data: str, server: PostgresServer | None = None, database: str | None = None) -> None:
        (server or self.postgres).ask("SELECT t_publish('a', %s)", data, database=database)


class SameLogTest(EpochCase):
    def test_a_restart_and_a_crash_begin_no_epoch(self) -> None:
        log = self.open_log()
        ids = self.append_all(log, 2)
        for end in (self.postgres.stop, self.postgres.kill):
            end()
            self.postgres.start()
            self.append_all(log, 1)
        self.assertEqual(log.last_event_id(), f"{ids[0][:6]}-4")
        self.assertEqual(self.open_log().epoch, log.epoch)
        self.assertEqual(self.postgres.ask("SELECT count(*) FROM t_epochs"), [(0,)])

    def test_a_table_that_was_written_again_loses_nothing(self) -> None:
        log = self.open_log()
        ids = self.append_all(log, 3)
        self.postgres.ask("VACUUM FULL t_numbers")
        self.assertEqual(log.append("a", "x")[7:], "4")
        self.assertNotEqual(log.epoch, ids[0][:6])
        self.assertEqual([log.sequence_of(each) for each in ids], [1, 2, 3])
        self.assertEqual(len(log.read(0, channels=["a"])), 4)
        self.require_reset(log, f"{ids[0][:6]}-4")


class LostEndTest(EpochCase):
    def lose(self, lose: Callable[[], object], kept: int) -> PostgresLog:
        """Append five events, lose all but some, and go on."""
        log = self.open_log()
        ids = self.append_all(log, 5)
        lose()
        self.assertEqual(log.append("a", "new")[7:], str(kept + 1))
        self.assertNotEqual(log.epoch, ids[0][:6])
        self.assertEqual([log.sequence_of(each) for each in ids[:kept]], list(range(1, kept + 1)))
        for each in ids[kept:]:
            self.require_reset(log, each)
        return log

    def test_numbers_that_were_deleted(self) -> None:
        log = self.lose(lambda: self.postgres.ask("DELETE FROM t_numbers WHERE sequence > 2"), 2)
        self.assertEqual([record.data for record in log.read(0)], ["x 1", "x 2", "new"])

    def test_deleted_numbers_are_noticed_by_a_process_that_comes_later(self) -> None:
        ids = self.append_all(self.open_log(), 5)
        self.postgres.ask("UPDATE t_state SET high = 5")
        self.postgres.ask("DELETE FROM t_numbers WHERE sequence > 2")
        log = self.open_log()
        log.append("a", "new")
        self.require_reset(log, ids[2])
        self.assertEqual(log.sequence_of(ids[1]), 2)

    def test_numbers_that_were_deleted_from_the_middle_of_a_batch_on(self) -> None:
        log = self.open_log()
        for number in range(5):
            self.publish(str(number))
        log.ring()
        ids = [f"{log.epoch}-{number}" for number in range(1, 6)]
        self.postgres.ask("DELETE FROM t_numbers WHERE sequence > 2")
        later = self.open_log()
        later.append("a", "new")
        self.assertEqual([later.sequence_of(each) for each in ids[:2]], [1, 2])
        self.require_reset(later, ids[2])
        # The events themselves are still there, so they get other numbers.
        self.assertEqual([record.data for record in later.read(0)], ["0", "1", "2", "3", "4", "new"])

    def test_what_was_trimmed_beyond_the_end_is_forgotten(self) -> None:
        log = PostgresLog(self.postgres.url(prefix="t"), Retention(count=1, age=None))
        self.addCleanup(log.close)
        self.append_all(log, 5)
        self.assertEqual(log.trim(), 4)
        self.postgres.ask("DELETE FROM t_numbers")
        self.append_all(log, 3)
        self.assertEqual(len(log.read(0, channels=["a"])), 3)
        self.assertEqual(log.trim(), 2)

    def test_an_epoch_that_ended_later_than_the_log_now_does(self) -> None:
        log = self.open_log()
        ids = self.append_all(log, 3)
        self.postgres.ask("VACUUM FULL t_numbers")
        ids += self.append_all(log, 2)
        self.postgres.ask("DELETE FROM t_numbers WHERE sequence > 2")
        ids += self.append_all(log, 3)
        self.assertEqual(len({each[:6] for each in ids}), 3)
        self.assertEqual([log.sequence_of(each) for each in (*ids[:2], *ids[5:])], [1, 2, 3, 4, 5])
        for each in ids[2:5]:
            self.require_reset(log, each)

    def test_emptied_tables(self) -> None:
        log = self.lose(lambda: self.postgres.ask("TRUNCATE t_events, t_numbers"), 0)
        self.assertEqual([record.data for record in log.read(0)], ["new"])

    def test_an_emptied_table_of_numbers(self) -> None:
        log = self.lose(lambda: self.postgres.ask("TRUNCATE t_numbers"), 0)
        self.assertEqual([record.data for record in log.read(0)], ["new"])
        self.assertEqual(self.postgres.ask("SELECT count(*) FROM t_events"), [(1,)])

    def test_an_emptied_table_of_events(self) -> None:
        log = self.open_log()
        ids = self.append_all(log, 3)
        self.postgres.ask("TRUNCATE t_events")
        log.append("a", "new")
        self.assertEqual(log.sequence_of(ids[2]), 3)
        for channels in (None, ["a"]):
            self.assertRaises(HistoryGone, log.read, 0, channels=channels)
            self.assertEqual([record.data for record in log.read(3, channels=channels)], ["new"])

    def test_an_emptied_table_of_the_log_itself(self) -> None:
        log = self.open_log()
        ids = self.append_all(log, 2)
        self.publish("not yet")
        self.postgres.ask("TRUNCATE t_state")
        self.assertEqual(log.append("a", "new")[7:], "4")
        self.require_reset(log, ids[0])
        self.assertEqual([record.data for record in log.read(0)], ["x 1", "x 2", "not yet", "new"])


class CopyTest(EpochCase):
    def test_a_copied_database(self) -> None:
        log = self.open_log()
        ids = self.append_all(log, 2)
        self.publish("not yet")
        log.close()
        self.postgres.ask("CREATE DATABASE copy TEMPLATE postgres", database="template1")
        ids += self.append_all(self.open_log(), 2, "original")
        copy = self.open_log(database="copy")
        self.assertEqual(copy.append("a", "copy")[7:], "4")
        self.assertEqual([copy.sequence_of(each) for each in ids[:2]], [1, 2])
        self.require_reset(copy, ids[3])
        self.assertEqual([record.data for record in copy.read(0)], ["x 1", "x 2", "not yet", "copy"])

    def test_a_dump_that_is_restored_on_another_server(self) -> None:
        for advance_old, advance_new in ((3000, 0), (0, 3000)):
            with self.subTest(advance_old=advance_old):
                self.setUp()
                other = enter(self, PostgresServer())
                for server, count in ((self.postgres, advance_old), (other, advance_new)):
                    self.use_transactions(server, count)
                self.restore(other)

    def use_transactions(self, server: PostgresServer, count: int) -> None:
        """Let the numbers of a server's transactions advance."""
        with server.connect() as connection:
            for _ in range(count):
                connection.execute("SELECT pg_current_xact_id()")

    def restore(self, other: PostgresServer) -> None:
        log = self.open_log()
        ids = self.append_all(log, 3)
        self.publish("numbered")
        log.ring()
        self.publish("not yet")
        dump = self.postgres.run("pg_dump", "-h", str(self.postgres.folder), "-p", str(self.postgres.port))
        ids += self.append_all(log, 2, "lost")
        (other.folder / "dump").write_text(dump)
        other.run("psql", "-q", "-h", str(other.folder), "-p", str(other.port), "-f", str(other.folder / "dump"))
        restored = self.open_log(other)
        expected = ["x 1", "x 2", "x 3", "numbered"]
        self.assertEqual([record.data for record in restored.read(0)], expected)
        self.publish("native", other)
        restored.ring()
        self.assertEqual([restored.sequence_of(each) for each in ids[:3]], [1, 2, 3])
        for each in ids[3:]:
            self.require_reset(restored, each)
        self.use_transactions(other, 50)
        for number in range(3):
            self.publish(f"more {number}", other)
            restored.ring()
        found = [record.data for record in restored.read(4)]
        self.assertEqual(found, ["not yet", "native", "more 0", "more 1", "more 2"])
        self.assertEqual([record.data for record in restored.read(0, channels=["a"])], [*expected, *found])
        self.assertEqual(restored.trim(), 0)
        few = PostgresLog(other.url(prefix="t"), Retention(count=6, age=None))
        self.addCleanup(few.close)
        self.assertEqual(few.trim(), 3)
        self.assertEqual([record.data for record in few.read(3, channels=["a"])], ["numbered", *found])

    def test_another_server_with_files_of_the_same_names(self) -> None:
        log = self.open_log()
        first = log.append("a", "one")
        self.postgres.ask("UPDATE t_state SET system = '1', started = started - interval '1 day'")
        self.assertEqual(log.append("a", "two")[7:], "2")
        self.assertNotEqual(log.epoch, first[:6])
        self.assertEqual(log.sequence_of(first), 1)

    def test_another_server_whose_number_cannot_be_read(self) -> None:
        log = self.open_log()
        first = log.append("a", "one")
        self.postgres.ask("UPDATE t_numbers SET seen = '900000000:900000000:'")
        self.postgres.ask("UPDATE t_state SET started = started - interval '1 day'")
        self.publish("two")
        self.assertEqual(log.append("a", "three")[7:], "3")
        self.assertNotEqual(log.epoch, first[:6])
        self.publish("four")
        log.ring()
        self.assertEqual([record.data for record in log.read(0)], ["one", "two", "three", "four"])

    def test_a_folder_that_was_put_back(self) -> None:
        log = self.open_log()
        ids = self.append_all(log, 2)
        self.postgres.stop()
        data, kept = self.postgres.folder / "data", self.postgres.folder / "kept"
        self.postgres.run("cp", "-a", str(data), str(kept))
        self.postgres.start()
        ids += self.append_all(log, 3, "lost")
        self.postgres.stop()
        shutil.rmtree(data)
        kept.rename(data)
        self.postgres.start()
        # Nothing in PostgreSQL tells of it. A process that has seen the lost events does.
        ids.append(log.append("a", "new"))
        self.assertEqual([log.sequence_of(each) for each in (*ids[:2], ids[5])], [1, 2, 3])
        for each in ids[2:5]:
            self.require_reset(log, each)


class ReplicaTest(EpochCase):
    def test_a_replica_that_had_everything_resets_no_client(self) -> None:
        replica = enter(self, self.postgres.replica())
        self.postgres.make_synchronous()
        log = self.open_log()
        ids = self.append_all(log, 3)
        self.publish("not yet")
        self.postgres.kill()
        replica.promote()
        there = self.open_log(replica)
        self.assertEqual(there.append("a", "new")[7:], "5")
        self.assertNotEqual(there.epoch, ids[0][:6])
        self.assertEqual([there.sequence_of(each) for each in ids], [1, 2, 3])
        self.assertEqual([record.data for record in there.read(0)], ["x 1", "x 2", "x 3", "not yet", "new"])

    def test_a_replica_that_was_behind_resets_those_that_saw_more(self) -> None:
        replica = enter(self, self.postgres.replica())
        log = self.open_log()
        ids = self.append_all(log, 3)
        wait_until(lambda: self.postgres.is_in_step(replica), message="the replica has them")
        replica.hold_back()
        ids += self.append_all(log, 3, "lost")
        self.postgres.kill()
        replica.promote()
        there = self.open_log(replica)
        there.append("a", "new")
        ids = [each for each in ids if each]
        kept = there.last_sequence() - 1
        self.assertEqual([there.sequence_of(each) for each in ids[:kept]], list(range(1, kept + 1)))
        self.assertLess(kept, 6)
        for each in ids[kept:]:
            self.require_reset(there, each)


if __name__ == "__main__":
    unittest.main()
