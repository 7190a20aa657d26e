"""The high-water mark by itself: what it decides from each reading, and that it outlasts a power cut."""

from __future__ import annotations

import os
import unittest
import zlib
from pathlib import Path
from unittest import mock

from sse_threaded import LogUnusable
from sse_threaded.log.sqlite.high_water_mark import WENT_BACK, HighWaterMark
from tests.support import temporary_directory

EPOCH = "abcdef"
URL = "sqlite:///log.db"


class MarkCase(unittest.TestCase):
    def setUp(self) -> None:
        self.path = temporary_directory(self) / "log.db"
        self.path.write_bytes(b"")
        self.file = Path(f"{self.path}-bells") / ".mark"
        self.mark = HighWaterMark(str(self.path), URL)
        self.meta = {"epoch": EPOCH}

    def begin(self, last: int, *, wal_is_empty: bool = True, known: str | None = EPOCH) -> int | None:
        return self.mark.decide_epoch(self.meta, known, last, wal_is_empty=wal_is_empty)

    def may_reserve(
        self, epoch: str, number: int, committed: int | None, mark: HighWaterMark | None = None
    ) -> bool:
        """Whether a mark, ``self.mark`` by default, takes the number. It says so if it does not."""
        mark = mark or self.mark
        mark.went_back = False
        try:
            mark.reserve(epoch, number, committed)
        except LogUnusable as error:
            self.assertEqual((mark.went_back, error.url, error.reason), (True, URL, WENT_BACK))
            return False
        self.assertFalse(mark.went_back)
        return True

    def numbers(self) -> tuple[int, int]:
        """The committed and the reserved number in the file."""
        epoch, committed, reserved, *_ = self.file.read_text().split()
        self.assertEqual(epoch, self.meta["epoch"])
        return int(committed), int(reserved)

    def unwritable(self) -> mock._patch[mock.MagicMock]:
        return mock.patch("os.replace", side_effect=PermissionError(13, "not allowed"))


class BeginTest(MarkCase):
    def test_a_new_log_gets_a_mark(self) -> None:
        self.assertEqual(self.begin(0, known=None), 0)
        self.assertEqual((self.meta["mark"], self.meta["epoch"], self.numbers()), ("yes", EPOCH, (0, 0)))
        self.assertEqual(self.meta["inode"], str(self.path.stat().st_ino))

    def test_a_log_that_had_no_mark_goes_on_and_from_now_on_has_one(self) -> None:
        self.meta["mark"] = "no"
        self.assertEqual(self.begin(7), 7)
        self.assertEqual((self.meta["mark"], self.meta["epoch"], self.numbers()), ("yes", EPOCH, (7, 7)))
        self.file.unlink()
        self.assertIsNone(self.begin(7), "the mark is lost")
        self.assertNotEqual(self.meta["epoch"], EPOCH)

    def test_while_it_can_be_read_and_not_written_it_counts_as_there(self) -> None:
        self.begin(7)
        with self.unwritable(), self.assertLogs("sse_threaded", "WARNING"):
            self.assertEqual(self.begin(7), 7)
        self.assertEqual((self.meta["mark"], self.meta["epoch"]), ("yes", EPOCH))

    def test_where_it_was_never_there_and_cannot_be_written_the_log_says_so(self) -> None:
        with self.unwritable(), self.assertLogs("sse_threaded", "WARNING"):
            self.assertEqual(self.begin(7), 7)
            self.assertEqual(self.begin(8), 8)
        self.assertEqual((self.meta["mark"], self.meta["epoch"]), ("no", EPOCH))
        self.assertEqual(os.listdir(self.file.parent), [], "what was begun is removed")

    def test_the_next_number_is_beyond_all_that_were_reserved(self) -> None:
        self.begin(5)
        self.mark.reserve(EPOCH, 9, 5)
        self.assertEqual(self.begin(6, wal_is_empty=False), 9)
        self.assertEqual(self.numbers(), (9, 9))

    def test_a_file_behind_its_mark_begins_a_new_epoch(self) -> None:
        for committed, reserved, last, wal_is_empty, may_roll_back, goes_on in (
            (5, 5, 5, True, False, True),
            (5, 5, 6, True, False, True),
            (5, 5, 4, True, False, False),
            (5, 5, 4, False, False, False),
            (5, 6, 5, True, False, False),
            (5, 6, 5, False, False, True),
            (5, 6, 6, True, False, True),
            (5, 6, 5, True, True, True),
            (5, 6, 4, True, True, False),
        ):
            with self.subTest(f"{(committed, reserved, last, wal_is_empty, may_roll_back)}"):
                self.meta = {"epoch": EPOCH}
                self.mark.commit(EPOCH, committed)
                if reserved > committed:
                    self.mark.reserve(EPOCH, reserved, committed, may_roll_back=may_roll_back)
                reached = self.begin(last, wal_is_empty=wal_is_empty)
                self.assertEqual(reached, max(last, reserved) if goes_on else None)
                self.assertEqual(self.meta["epoch"] == EPOCH, goes_on)
                self.assertEqual(self.numbers(), (reached, reached) if goes_on else (last, last))

    def test_a_copy_begins_a_new_epoch(self) -> None:
        self.begin(5)
        self.meta["inode"] = "1"
        self.assertIsNone(self.begin(5))
        self.assertNotEqual(self.meta["epoch"], EPOCH)
        self.assertEqual(self.meta["inode"], str(self.path.stat().st_ino))

    def test_an_epoch_that_has_begun_for_another_reason_is_kept(self) -> None:
        self.begin(5)
        self.meta["epoch"] = "uvwxyz"
        self.assertEqual(self.begin(3), 3)
        self.assertEqual((self.meta["epoch"], self.numbers()), ("uvwxyz", (3, 3)))

    def test_without_a_new_mark_no_new_epoch_begins_unless_it_is_a_copy(self) -> None:
        self.begin(5)
        with self.unwritable(), self.assertLogs("sse_threaded", "WARNING"):
            self.assertEqual(self.begin(4), 4)
            self.assertEqual(self.meta["epoch"], EPOCH)
            self.meta["inode"] = "1"
            self.assertIsNone(self.begin(4))
        self.assertNotEqual(self.meta["epoch"], EPOCH)
        self.assertEqual(self.meta["mark"], "no")


class AgreesTest(MarkCase):
    def agrees(self, last: int) -> bool:
        return self.mark.agrees(self.meta, lambda: last)

    def test_it_agrees_with_the_file_as_it_was_and_with_a_newer_one(self) -> None:
        self.assertFalse(self.agrees(0))
        self.begin(5)
        self.assertEqual([self.agrees(last) for last in (4, 5, 6)], [False, True, True])
        self.mark.reserve(EPOCH, 6, 5)
        self.assertEqual([self.agrees(last) for last in (5, 6)], [False, True])

    def test_of_another_epoch_another_inode_or_without_a_mark_it_does_not(self) -> None:
        self.begin(5)
        for name, value in (("epoch", "uvwxyz"), ("inode", "1"), ("mark", "no")):
            with self.subTest(name), mock.patch.dict(self.meta, {name: value}):
                self.assertFalse(self.agrees(5))
        self.file.unlink()
        self.assertFalse(self.agrees(5))
        self.meta["mark"] = "no"
        self.assertTrue(self.agrees(5))

    def test_where_it_must_not_be_read_it_agrees(self) -> None:
        self.begin(5)
        with mock.patch("os.open", side_effect=PermissionError(13, "not allowed")):
            self.assertTrue(self.agrees(1))
            self.assertFalse(self.mark.is_ahead(EPOCH, lambda: 1))
            self.assertFalse(self.mark.is_beyond(EPOCH, 1))
            self.assertTrue(self.mark.is_up_to_date(EPOCH, 1))
            self.meta["mark"] = "no"
            self.assertEqual(self.begin(1), 1)
            self.assertEqual(self.meta["mark"], "yes")


class UseTest(MarkCase):
    def setUp(self) -> None:
        super().setUp()
        self.begin(5)

    def test_a_number_is_reserved_once(self) -> None:
        self.assertFalse(self.may_reserve(EPOCH, 5, None))
        self.assertTrue(self.may_reserve(EPOCH, 6, None))
        self.assertEqual(self.numbers(), (5, 6))
        self.assertTrue(self.may_reserve(EPOCH, 6, None), "it was not committed")
        self.assertTrue(self.may_reserve(EPOCH, 7, 6))
        self.assertEqual(self.numbers(), (6, 7))
        self.assertTrue(self.may_reserve(EPOCH, 8, 3))
        self.assertEqual(self.numbers(), (6, 8), "what is committed stays so")
        self.assertFalse(self.may_reserve("uvwxyz", 9, None))

    def test_each_process_sees_what_others_have_written(self) -> None:
        other = HighWaterMark(str(self.path), URL)
        self.assertTrue(self.may_reserve(EPOCH, 6, 5))
        self.assertTrue(self.may_reserve(EPOCH, 7, 6, mark=other))
        self.assertFalse(self.may_reserve(EPOCH, 6, 5))
        self.assertTrue(self.may_reserve(EPOCH, 7, 6))

    def test_a_mark_that_is_gone_or_half_written_is_made_anew(self) -> None:
        for committed, expected in ((5, (5, 6)), (None, (0, 6))):
            for content in (None, b"", b"abcdef 0000"):
                for step in ("reserve", "commit"):
                    with self.subTest(committed=committed, content=content, step=step):
                        self.file.unlink()
                        if content is not None:
                            self.file.write_bytes(content)
                        if step == "reserve":
                            self.assertTrue(self.may_reserve(EPOCH, 6, committed))
                            self.assertEqual(self.numbers(), expected)
                        else:
                            self.mark.commit(EPOCH, 6)
                            self.assertEqual(self.numbers(), (6, 6))

    def test_a_changed_mark_says_nothing(self) -> None:
        self.file.write_bytes(self.file.read_bytes().replace(b"5", b"3"))
        self.assertFalse(self.mark.agrees(self.meta, lambda: 5))
        self.assertFalse(self.mark.is_ahead(EPOCH, lambda: 0))
        self.assertFalse(self.mark.is_beyond(EPOCH, 0))

    def test_who_is_ahead_of_whom(self) -> None:
        self.mark.reserve(EPOCH, 7, 6)
        ahead = [self.mark.is_ahead(EPOCH, lambda last=last: last) for last in (5, 6, 7)]  # type: ignore[misc]
        self.assertEqual(ahead, [True, False, False])
        self.assertEqual([self.mark.is_beyond(EPOCH, last) for last in (5, 6, 7, 8)], [True, True, False, False])
        self.assertTrue(self.mark.is_ahead("uvwxyz", lambda: 9))
        self.assertTrue(self.mark.is_beyond("uvwxyz", 9))
        self.assertFalse(self.mark.is_up_to_date(EPOCH, 6))
        self.mark.commit(EPOCH, 7)
        self.assertTrue(self.mark.is_up_to_date(EPOCH, 7))
        self.assertFalse(self.mark.is_up_to_date(EPOCH, 6))

    def test_an_earlier_releases_mark_is_read_and_replaced(self) -> None:
        fields = b"%b %018d %018d" % (EPOCH.encode(), 7, 7)
        for content in (b"%b-7\n" % EPOCH.encode(), b"%b %08x\n" % (fields, zlib.crc32(fields))):
            for write, reached in ((self.mark.commit, (8, 8)), (lambda *to: self.mark.reserve(*to, 7), (7, 8))):
                with self.subTest(content):
                    self.file.write_bytes(content)
                    self.assertTrue(self.mark.is_ahead(EPOCH, lambda: 6))
                    self.assertFalse(self.mark.is_ahead(EPOCH, lambda: 7))
                    self.assertTrue(self.mark.is_beyond(EPOCH, 6))
                    self.assertFalse(self.mark.is_beyond(EPOCH, 7))
                    write(EPOCH, 8)
                    self.assertEqual(self.numbers(), reached)


class PlaceTest(MarkCase):
    def test_in_use_it_is_written_in_place(self) -> None:
        self.begin(5)
        inode = self.file.stat().st_ino
        self.mark.reserve(EPOCH, 6, 5)
        self.mark.commit(EPOCH, 6)
        self.mark.sync()
        self.assertEqual((self.file.stat().st_ino, self.numbers()), (inode, (6, 6)))

    def test_a_link_in_its_place_is_not_read(self) -> None:
        self.begin(5)
        self.file.rename(self.file.with_name("elsewhere"))
        self.file.symlink_to("elsewhere")
        self.assertFalse(self.mark.is_ahead(EPOCH, lambda: 1))
        self.assertFalse(self.mark.agrees(self.meta, lambda: 5))


class PowerCutTest(MarkCase):
    def test_a_new_mark_is_on_the_disk_before_it_takes_its_place_and_so_is_the_folder_after(self) -> None:
        steps: list[str] = []
        fsync, replace = os.fsync, os.replace

        def noted_fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            size = os.fstat(descriptor).st_size if os.path.isfile(path) else 0
            steps.append(f"fsync {'folder' if os.path.isdir(path) else f'{size > 0} file'}")
            fsync(descriptor)

        def noted_replace(source: str, target: str) -> None:
            steps.append(f"replace {Path(target).name}")
            replace(source, target)

        with mock.patch("os.fsync", noted_fsync), mock.patch("os.replace", noted_replace):
            self.begin(5)
            self.assertEqual(steps, ["fsync True file", "replace .mark", "fsync folder"])
            steps.clear()
            self.mark.sync()
            self.assertEqual(steps, ["fsync True file"])

    def test_who_may_write_the_log_may_write_its_mark_and_nobody_may_run_it(self) -> None:
        for mode, expected in ((0o600, 0o600), (0o664, 0o664), (0o777, 0o666)):
            with self.subTest(oct(mode)):
                self.path.chmod(mode)
                self.begin(5)
                self.assertEqual(self.file.stat().st_mode & 0o777, expected)

    def test_it_leaves_no_descriptor_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(6, 16):
            self.begin(number - 1)
            self.assertTrue(self.may_reserve(EPOCH, number, None))
            self.assertFalse(self.may_reserve(EPOCH, 1, None))
            self.mark.commit(EPOCH, number)
            self.mark.sync()
            self.mark.is_up_to_date(EPOCH, number)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


if __name__ == "__main__":
    unittest.main()
