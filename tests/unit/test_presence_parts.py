"""The parts of presence that compute only: messages, the directory, and the events for clients."""

from __future__ import annotations

import json
import unittest

from sse_threaded.presence.blocks import MOST_NAMED, NAMED_AGAIN, Blocks
from sse_threaded.presence.directory import Change, Directory
from sse_threaded.presence.messages import (
    Ask,
    Beat,
    Body,
    Bye,
    Full,
    Hello,
    Message,
    Moves,
    Snapshot,
    UnknownMessage,
    chunks,
    decode,
    encode,
    full,
    moves,
)
from sse_threaded.presence.times import times_for

ONCE = True  # it says the same under every Python

BODIES: list[Body] = [
    Hello(),
    Beat(),
    Bye(),
    Moves({"room": ["bo"]}, {"room": ["anna", "čy"], "": ["x"]}),
    Ask(["m2", "m3"]),
    Full({"room": ["anna"]}, is_first=True, is_last=False),
    Snapshot(7, "m2", 3, {"room": ["anna"]}, is_last=False),
    Snapshot(7, "", 0, {"room": {"anna": 2.5}}, is_last=True),
]


class MessageTest(unittest.TestCase):
    def test_each_is_read_as_it_was_written(self) -> None:
        for body in BODIES:
            with self.subTest(body=body):
                message = Message("m1", 5, 1760000000.5, body)
                text = encode(message)
                self.assertNotIn("\n", text)
                self.assertEqual(decode(text), message)

    def test_a_kind_of_a_later_release_is_nothing(self) -> None:
        self.assertIsNone(decode('{"v":1,"type":"streams","from":"m1","n":1,"at":1.0}'))
        self.assertIsNone(decode(""))

    def test_another_version_and_rubbish_are_refused(self) -> None:
        good = json.loads(encode(Message("m1", 5, 1.0, BODIES[3])))
        for changed in (
            {"v": 2},
            {"from": 7},
            {"n": "x"},
            {"came": []},
            {"came": {"room": "anna"}},
            {"went": {"room": [1]}},
        ):
            with self.subTest(changed), self.assertRaises(UnknownMessage):
                decode(json.dumps(good | changed))
        for text in ("rubbish", "[]", "{}", "7", '{"v":1,"type":"moves","from":"m1","n":1,"at":1.0}'):
            with self.subTest(text), self.assertRaises(UnknownMessage):
                decode(text)

    def test_parts_are_bounded_and_whole(self) -> None:
        people = [(f"room-{number % 7}", f"user-{number}") for number in range(500)]
        parts = list(chunks(people, 200))
        found = [(channel, user) for part in parts for channel, users in part.items() for user in users]
        self.assertEqual(sorted(found), sorted(people))
        self.assertGreater(len(parts), 20)
        self.assertLess(max(len(json.dumps(part)) for part in parts), 300)

    def test_those_who_went_come_first(self) -> None:
        went, came = (
            [("room", f"w{number}") for number in range(9)],
            [("room", f"c{number}") for number in range(9)],
        )
        self.assertEqual(list(moves([], [])), [])
        (one,) = moves(went, came)
        self.assertEqual((len(one.went["room"]), len(one.came["room"])), (9, 9))
        several = list(moves(went, came, 20))
        kinds = [bool(each.came) for each in several]
        self.assertEqual(kinds, sorted(kinds))

    def test_all_people_have_a_beginning_and_an_end(self) -> None:
        self.assertEqual(list(full([])), [Full({}, is_first=True, is_last=True)])
        parts = list(full([("room", f"u{number}") for number in range(9)], 20))
        self.assertEqual([each.is_first for each in parts], [True] + [False] * (len(parts) - 1))
        self.assertEqual([each.is_last for each in parts], [False] * (len(parts) - 1) + [True])


class DirectoryTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = Directory()

    def changes(self) -> list[Change]:
        return self.directory.take_changes()

    def test_each_person_is_there_once(self) -> None:
        for process in ("m1", "m2", "m1"):
            self.directory.come(process, "room", "anna")
        self.directory.come("m2", "room", "Bo")
        self.assertEqual(self.directory.people("room"), ["Bo", "anna"])
        self.assertEqual(self.directory.count("room"), 2)
        self.assertEqual(self.changes(), [Change("room", ("Bo", "anna"), ())])
        self.assertEqual(self.changes(), [])

    def test_someone_leaves_after_the_last_stream_and_a_while(self) -> None:
        self.directory.come("m1", "room", "anna")
        self.directory.come("m2", "room", "anna")
        self.changes()
        self.directory.go("m1", "room", "anna", 10.0, 25.0)
        self.directory.expire(100.0)
        self.assertEqual(self.directory.people("room"), ["anna"])
        self.directory.go("m2", "room", "anna", 100.0, 115.0)
        self.assertEqual(self.directory.next_end(), 115.0)
        self.directory.expire(114.9)
        self.assertEqual((self.directory.people("room"), self.changes()), (["anna"], []))
        self.directory.expire(115.0)
        self.assertEqual((self.directory.people("room"), self.directory.count("room")), ([], 0))
        self.assertEqual(self.changes(), [Change("room", (), ("anna",))])

    def test_someone_who_comes_back_in_time_has_not_left(self) -> None:
        self.directory.come("m1", "room", "anna")
        self.changes()
        self.directory.go("m1", "room", "anna", 10.0, 25.0)
        self.directory.come("m2", "room", "anna")
        self.directory.expire(100.0)
        self.assertEqual((self.directory.people("room"), self.changes()), (["anna"], []))
        # An old end does not count for a later absence.
        self.directory.go("m2", "room", "anna", 100.0, 115.0)
        self.directory.expire(100.0)
        self.assertEqual(self.directory.people("room"), ["anna"])

    def test_a_process_without_people_any_more(self) -> None:
        for user in ("anna", "bo"):
            self.directory.come("m1", "room", user)
        self.directory.come("m2", "room", "bo")
        self.changes()
        self.directory.drop("m1", 10.0, 25.0)
        self.directory.expire(25.0)
        self.assertEqual(self.changes(), [Change("room", (), ("anna",))])
        self.assertEqual(self.directory.people("room"), ["bo"])

    def test_all_people_of_a_process(self) -> None:
        self.directory.come("m1", "room", "anna")
        self.directory.come("m1", "room", "bo")
        self.changes()
        self.directory.replace("m1", {("room", "bo"), ("hall", "cy")}, 10.0, 25.0)
        self.assertEqual(self.changes(), [Change("hall", ("cy",), ())])
        self.directory.expire(25.0)
        self.assertEqual(self.changes(), [Change("room", (), ("anna",))])
        self.assertEqual(self.directory.by_process(), {"m1": [("room", "bo"), ("hall", "cy")]})

    def test_a_disconnection_takes_effect_at_once(self) -> None:
        for channel in ("room", "hall"):
            for user in ("anna", "bo"):
                self.directory.come("m1", channel, user)
        self.directory.go("m1", "hall", "bo", 10.0, 25.0)
        self.changes()
        self.directory.remove("bo", None, 11.0)
        self.assertEqual((self.directory.people("room"), self.directory.people("hall")), (["anna"], ["anna"]))
        self.directory.remove(None, "hall", 11.0)
        self.assertEqual((self.directory.people("room"), self.directory.people("hall")), (["anna"], []))
        self.directory.remove("anna", "room", 11.0)
        self.assertEqual(self.directory.count("room"), 0)
        self.assertEqual(
            sorted(self.changes()), [Change("hall", (), ("anna", "bo")), Change("room", (), ("anna", "bo"))]
        )
        self.directory.expire(100.0)
        self.assertEqual(self.changes(), [])

    def test_who_was_announced_just_before_a_disconnection_goes_at_once(self) -> None:
        self.directory.remove("anna", "room", 10.0)
        self.directory.come("m1", "room", "anna")
        self.directory.come("m1", "hall", "anna")
        self.directory.go("m1", "room", "anna", 10.5, 25.5)
        self.directory.go("m1", "hall", "anna", 10.5, 25.5)
        self.assertEqual((self.directory.people("room"), self.directory.people("hall")), ([], ["anna"]))
        self.directory.come("m1", "room", "anna")
        self.directory.go("m1", "room", "anna", 20.0, 35.0)
        self.assertEqual(self.directory.people("room"), ["anna"])

    def test_people_without_a_stream_may_stay_longer(self) -> None:
        self.directory.linger({"room": {"anna": 20.0, "bo": 40.0}})
        self.directory.prolong(30.0)
        self.directory.expire(29.0)
        self.assertEqual(self.directory.people("room"), ["anna", "bo"])
        self.directory.expire(30.0)
        self.assertEqual(self.directory.people("room"), ["bo"])
        self.assertEqual(list(self.directory.lingering()), [("room", "bo", 40.0)])


class BlocksTest(unittest.TestCase):
    def setUp(self) -> None:
        self.blocks, self.directory = Blocks(), Directory()

    def come(self, first: int, last: int) -> None:
        for number in range(first, last):
            self.directory.come("m1", "room", f"u{number:04}")

    def go(self, first: int, last: int) -> None:
        for number in range(first, last):
            self.directory.go("m1", "room", f"u{number:04}", 0.0, 0.0)

    def change(self) -> object:
        (change,) = self.directory.take_changes()
        wire = self.blocks.change(change, self.directory)
        return None if wire is None else self.data(wire)

    def data(self, wire: bytes) -> object:
        head, _, data = wire.decode().partition("\n")
        self.assertEqual(head, "event: stream-presence")
        self.assertRegex(data, r"\Adata: .*\n\n\Z")
        return json.loads(data.removeprefix("data: "))

    def test_a_list_and_changes(self) -> None:
        self.come(0, 2)
        people = ["u0000", "u0001"]
        found = self.data(self.blocks.list("room", self.directory))
        self.assertEqual(found, {"channel": "room", "people": people, "count": 2})
        self.directory.take_changes()
        self.come(2, 3)
        self.go(0, 1)
        found = self.change()
        self.assertEqual(found, {"channel": "room", "joined": ["u0002"], "left": ["u0000"], "count": 2})
        found = self.data(self.blocks.list("empty", self.directory))
        self.assertEqual(found, {"channel": "empty", "people": [], "count": 0})

    def test_of_many_people_the_number_only(self) -> None:
        self.come(0, MOST_NAMED)
        self.directory.take_changes()
        self.come(MOST_NAMED, MOST_NAMED + 1)
        many = {"channel": "room", "people": None, "count": MOST_NAMED + 1}
        self.assertEqual(self.change(), many)
        self.assertEqual(self.data(self.blocks.list("room", self.directory)), many)
        self.go(0, 2)
        self.assertIsNone(self.change())
        self.assertTrue(self.blocks.has_counts)
        ((channel, wire),) = self.blocks.counts(self.directory)
        self.assertEqual((channel, self.data(wire)), ("room", many | {"count": MOST_NAMED - 1}))
        self.assertFalse(self.blocks.has_counts)
        self.go(2, MOST_NAMED + 1 - NAMED_AGAIN + 1)
        found = self.change()
        self.assertEqual(found, {"channel": "room", "people": self.directory.people("room"), "count": 899})
        self.come(0, 1)
        self.assertEqual(self.change(), {"channel": "room", "joined": ["u0000"], "left": [], "count": 900})

    def test_a_channel_that_nobody_shows_is_forgotten(self) -> None:
        self.come(0, MOST_NAMED + 1)
        self.blocks.list("room", self.directory)
        self.go(0, 50)
        (change,) = self.directory.take_changes()
        self.blocks.change(change, self.directory)
        self.blocks.forget("room")
        self.assertFalse(self.blocks.has_counts)
        found = self.data(self.blocks.list("room", self.directory))
        self.assertEqual(found["count"], len(found["people"]))  # type: ignore[index]


class TimesTest(unittest.TestCase):
    def test_people_of_a_killed_process_are_gone_within_thirty_seconds(self) -> None:
        times = times_for(5000)
        self.assertEqual(times.grace, 15.0)
        self.assertLess(times.silent_beats * times.beat + times.grace + 3 * times.batch, 30.0)

    def test_a_client_has_time_for_its_reconnections(self) -> None:
        self.assertEqual((times_for(0).grace, times_for(20_000).grace), (10.0, 60.0))


if __name__ == "__main__":
    unittest.main()
