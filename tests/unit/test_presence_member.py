"""Processes that tell each other who is there, in many orders and with many ends.

Their lists agree, and nobody who stays is shown as leaving.
"""

from __future__ import annotations

import itertools
import random
import unittest
from collections.abc import Iterator

from sse_threaded.presence.directory import Change
from sse_threaded.presence.member import Member, Removal
from sse_threaded.presence.messages import Ask, Beat, Body, Bye, Full, Hello, Message, Moves, Pair, Snapshot, moves
from sse_threaded.presence.times import PresenceTimes

ONCE = True  # it says the same under every Python

TIMES = PresenceTimes(grace=15.0)


class Log:
    """The log: messages and removals, each with its number."""

    def __init__(self) -> None:
        self.records: list[Message | Removal] = []

    def append(self, record: Message | Removal) -> int:
        self.records.append(record)
        return len(self.records)


class Process:
    """A process with its member; its messages go to the log when :meth:`send` is called."""

    def __init__(self, log: Log, name: str, now: float) -> None:
        self.log = log
        self.name = name
        self.member = Member(name, TIMES)
        self.people: set[Pair] = set()
        self.changes: list[Change] = []
        self.read = len(log.records)
        self._sent = 0
        self._waiting: list[Body] = []
        self._pending: dict[Pair, bool] = {}
        self.put(Hello(), now)

    def put(self, body: Body, now: float) -> None:
        self._sent += 1
        self.log.append(Message(self.name, self._sent, now, body))

    def come(self, *pairs: Pair) -> None:
        for pair in pairs:
            self.people.add(pair)
            self._pending[pair] = True

    def go(self, *pairs: Pair) -> None:
        for pair in pairs:
            self.people.discard(pair)
            self._pending[pair] = False

    def send(self, now: float) -> None:
        for body in self.member.due(now, self._all):
            self.put(body, now)
        self._send_pending(now)
        self.changes += self.member.directory.take_changes() if self.member.is_synced else []

    def _send_pending(self, now: float) -> None:
        went = [pair for pair, is_here in self._pending.items() if not is_here]
        came = [pair for pair, is_here in self._pending.items() if is_here]
        self._pending.clear()
        for body in moves(went, came, 30):
            self.put(body, now)

    def _all(self) -> list[Pair]:
        self._pending.clear()
        return sorted(self.people)

    def receive(self, now: float, most: int | None = None) -> None:
        """Take in the next messages."""
        upto = len(self.log.records) if most is None else min(self.read + most, len(self.log.records))
        for sequence in range(self.read + 1, upto + 1):
            record = self.log.records[sequence - 1]
            is_own = isinstance(record, Message) and record.sender == self.name
            if not self.member.has_begun and is_own:
                history = [
                    (number, each)
                    for number, each in enumerate(self.log.records[: sequence - 1], 1)
                    if isinstance(each, Message) and each.at > now - 60
                ]
                self.member.begin(sequence, history, now, now)
            else:
                self.member.receive(sequence, record, now)
        self.read = upto
        self.changes += self.member.directory.take_changes() if self.member.is_synced else []

    def end(self, now: float) -> None:
        self.go(*self.people)
        self._send_pending(now)
        self.put(Bye(), now)

    def list(self, channel: str = "room") -> list[str]:
        return self.member.directory.people(channel)


def settle(processes: list[Process], now: float, seconds: float, step: float = 0.1) -> float:
    """Let time pass while all messages arrive at once."""
    for _ in range(round(seconds / step)):
        now += step
        for process in processes:
            process.receive(now)
            process.send(now)
    return now


class StepsTest(unittest.TestCase):
    """Each rule by itself."""

    def setUp(self) -> None:
        self.log = Log()
        self.now = 100.0
        self.processes: list[Process] = []

    def begin(self, name: str) -> Process:
        process = Process(self.log, name, self.now)
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        self.processes.remove(process)

    def wait(self, seconds: float) -> None:
        self.now = settle(self.processes, self.now, seconds)

    def bodies(self, kind: type[Body]) -> list[Message]:
        return [each for each in self.log.records if isinstance(each, Message) and isinstance(each.body, kind)]

    def test_who_is_alone_knows_all_at_once(self) -> None:
        first = self.begin("m1")
        self.assertFalse(first.member.is_synced)
        first.receive(self.now)
        self.assertTrue(first.member.is_synced)

    def test_who_begins_gets_the_whole_list(self) -> None:
        first = self.begin("m1")
        first.come(("room", "anna"), ("room", "bo"), ("hall", "cy"))
        self.wait(100)  # the messages in which they came are gone by now
        first.go(("room", "bo"))
        self.wait(1)
        second = self.begin("m2")
        self.wait(1)
        self.assertTrue(second.member.is_synced)
        self.assertEqual((second.list(), second.list("hall")), (["anna", "bo"], ["cy"]))
        self.assertEqual(second.changes, [])
        self.wait(14)
        self.assertEqual((first.list(), second.list()), (["anna"], ["anna"]))
        self.assertEqual((self.bodies(Ask), self.bodies(Full)), ([], []))

    def test_one_list_serves_several_who_begin(self) -> None:
        for number in range(4):
            self.begin(f"m{number}").come(("room", f"u{number}"))
            self.wait(3)
        before = len(self.bodies(Snapshot))
        late = [self.begin(f"n{number}") for number in range(5)]
        self.wait(2)
        self.assertTrue(all(each.member.is_synced for each in late))
        self.assertEqual({message.sender for message in self.bodies(Snapshot)[before:]}, {"m0"})
        self.assertEqual(len({message.body.as_of for message in self.bodies(Snapshot)[before:]}), 1)  # type: ignore[union-attr]

    def test_if_the_first_process_is_dead_the_next_sends_the_list(self) -> None:
        processes = [self.begin(f"m{number}") for number in range(3)]
        processes[0].come(("room", "anna"))
        self.wait(5)
        self.kill(processes[0])
        late = self.begin("n")
        self.wait(1.5)
        self.assertTrue(late.member.is_synced)
        # It knows the people of the dead process, too: they may be about to come back.
        self.assertEqual(late.list(), ["anna"])
        self.assertEqual({message.sender for message in self.bodies(Snapshot)[-2:]}, {"m1"})

    def test_if_a_list_has_no_end_the_next_process_sends_it(self) -> None:
        processes = [self.begin(f"m{number}") for number in range(3)]
        processes[0].come(("room", "anna"))
        self.wait(5)
        late = self.begin("n")
        processes[0].receive(self.now)
        processes[0].send(self.now + 0.1)
        last = self.log.records.pop()
        self.assertTrue(isinstance(last, Message) and isinstance(last.body, Snapshot) and last.body.is_last)
        self.kill(processes[0])
        self.wait(1.5)
        self.assertTrue(late.member.is_synced)
        self.assertEqual(late.list(), ["anna"])
        self.assertEqual(self.bodies(Snapshot)[-1].sender, "m1")

    def test_without_a_list_it_goes_on_with_what_it_has_read(self) -> None:
        first = self.begin("m1")
        first.come(("room", "anna"))
        self.wait(1)
        self.kill(first)
        late = self.begin("m2")
        self.wait(1.5)
        self.assertFalse(late.member.is_synced)
        self.wait(1)
        self.assertTrue(late.member.is_synced)
        self.assertEqual(late.list(), ["anna"])
        self.wait(28)
        self.assertEqual(late.list(), [])

    def test_after_an_end_of_all_the_next_one_lists_them_for_the_rest_of_their_time(self) -> None:
        first = self.begin("m1")
        first.come(("room", "anna"))
        self.wait(100)
        first.end(self.now)
        self.kill(first)
        self.now += 5
        late = self.begin("m2")
        self.wait(0.2)
        self.assertTrue(late.member.is_synced)
        self.assertEqual(late.list(), ["anna"])
        self.wait(9)
        self.assertEqual(late.list(), ["anna"])
        self.wait(2)
        self.assertEqual(late.list(), [])
        self.assertEqual(late.changes, [Change("room", (), ("anna",))])

    def test_the_people_of_a_killed_process_are_gone_within_thirty_seconds(self) -> None:
        first, second = self.begin("m1"), self.begin("m2")
        first.come(("room", "anna"))
        self.wait(5)
        self.kill(first)
        self.wait(22)
        self.assertEqual(second.list(), ["anna"])
        self.wait(7)
        self.assertEqual(second.list(), [])
        self.assertEqual(second.member.processes, {"m2"})

    def test_an_outage_of_the_log_kills_nobody(self) -> None:
        first, second = self.begin("m1"), self.begin("m2")
        first.come(("room", "anna"))
        self.wait(5)
        first.go(("room", "anna"))
        self.wait(1)
        self.now += 300  # nothing is written, and nothing is read
        second.send(self.now)
        self.assertEqual(second.list(), ["anna"])
        self.wait(5)  # her client reconnects a little later
        first.come(("room", "anna"))
        self.wait(60)
        self.assertEqual((first.list(), second.list()), (["anna"], ["anna"]))
        self.assertEqual(second.changes, [])
        self.assertEqual(self.bodies(Ask), [])

    def test_a_slow_reader_kills_nobody(self) -> None:
        first, second = self.begin("m1"), self.begin("m2")
        first.come(("room", "anna"))
        self.wait(5)
        for _ in range(600):  # the second one writes, and reads nothing
            self.now += 0.1
            first.receive(self.now)
            first.send(self.now)
            second.send(self.now)
        self.wait(1)
        self.assertEqual(second.list(), ["anna"])
        self.assertEqual(second.member.processes, {"m1", "m2"})

    def test_who_was_thought_dead_is_asked_and_nobody_is_shown_as_leaving(self) -> None:
        first, second, third = self.begin("m1"), self.begin("m2"), self.begin("m3")
        first.come(("room", "anna"), ("room", "bo"))
        self.wait(5)
        self.kill(first)
        self.wait(18)  # it hangs
        self.assertEqual(second.member.processes, {"m2", "m3"})
        self.processes.append(first)
        first.go(("room", "bo"))
        self.wait(3)
        self.assertEqual(second.member.processes, {"m1", "m2", "m3"})
        self.assertEqual({message.sender for message in self.bodies(Full)}, {"m1"})
        self.assertEqual(len(self.bodies(Full)), 1)
        self.wait(30)
        for process in (first, second, third):
            self.assertEqual(process.list(), ["anna"])
            self.assertEqual([change.left for change in process.changes if change.left], [("bo",)])

    def test_a_missing_message_is_noticed(self) -> None:
        first, second = self.begin("m1"), self.begin("m2")
        self.wait(5)
        first.come(("room", "anna"))
        first.send(self.now)
        second.read += 1  # it does not get this one
        first.come(("room", "bo"))
        self.wait(3)
        self.assertEqual(second.list(), ["anna", "bo"])

    def test_a_message_that_comes_twice_counts_once(self) -> None:
        first, second = self.begin("m1"), self.begin("m2")
        self.wait(5)
        beat = [message for message in self.bodies(Beat) if message.sender == "m2"][-1]
        for _ in range(5):
            self.log.append(beat)
        first.come(("room", "anna"))
        self.wait(1)
        came = self.bodies(Moves)[-1]
        first.go(("room", "anna"))
        self.wait(1)
        self.log.append(came)
        self.wait(1)
        self.assertEqual(second.member.processes, {"m1", "m2"})
        self.assertEqual(second.list(), ["anna"])
        self.wait(20)
        self.assertEqual(second.list(), [])
        self.assertEqual(self.bodies(Ask), [])

    def test_if_a_part_of_all_people_is_missing_they_are_asked_for_again(self) -> None:
        member = Member("me", TIMES)
        member.begin(1, [], self.now, self.now)
        bodies = [Hello(), Moves({}, {"room": ["anna", "bo"]}), Full({"room": ["anna"]}, True, False)]
        for number, body in enumerate(bodies, 1):
            member.receive(number + 1, Message("m1", number, self.now, body), self.now)
        member.receive(6, Message("m1", 5, self.now, Full({}, False, True)), self.now)
        self.assertEqual(member.directory.by_process(), {"m1": [("room", "anna"), ("room", "bo")]})
        self.assertEqual(member.due(self.now, list), [Ask(["m1"])])

    def test_a_disconnection_before_the_list_is_not_applied_after_it(self) -> None:
        first = self.begin("m1")
        first.come(("room", "anna"))
        self.wait(5)
        late = self.begin("m2")
        self.log.append(Removal("anna", None))
        first.come(("room", "anna"))  # she has logged in again
        self.wait(2)
        self.assertTrue(late.member.is_synced)
        self.assertEqual((first.list(), late.list()), (["anna"], ["anna"]))

    def test_a_disconnection_removes_at_once_and_for_all(self) -> None:
        first, second = self.begin("m1"), self.begin("m2")
        first.come(("room", "anna"), ("room", "bo"))
        self.wait(5)
        self.log.append(Removal("anna", None))
        first.go(("room", "anna"))
        self.wait(0.2)
        late = self.begin("m3")
        self.wait(2)
        for process in (first, second, late):
            self.assertEqual(process.list(), ["bo"])

    def test_a_large_process(self) -> None:
        first, second = self.begin("m1"), self.begin("m2")
        first.come(*[("room", f"user-{number:06}") for number in range(5000)])
        self.wait(1)
        late = self.begin("m3")
        self.wait(1)
        self.assertEqual((len(second.list()), len(late.list())), (5000, 5000))


def merged(*sequences: list[str]) -> Iterator[list[tuple[int, str]]]:
    """All orders of the steps of several processes that keep the order of each process's own."""
    places = [number for number, steps in enumerate(sequences) for _ in steps]
    for order in sorted(set(itertools.permutations(places))):
        taken = [iter(steps) for steps in sequences]
        yield [(number, next(taken[number])) for number in order]


class EveryOrderTest(unittest.TestCase):
    def test_whatever_the_order_all_agree_and_who_stays_stays(self) -> None:
        steps = ["begin", "come anna", "go anna", "come bo"], ["begin", "come anna", "end"], ["begin", "come cy"]
        orders = list(merged(*steps))
        self.assertEqual(len(orders), 1260)
        for order in orders:
            self.check(order)

    def check(self, order: list[tuple[int, str]]) -> None:
        log, now = Log(), 100.0
        watcher = Process(log, "a", now)
        watcher.come(("room", "stays"))
        now = settle([watcher], now, 0.2)
        processes: dict[int, Process] = {}
        for number, step in order:
            what, _, user = step.partition(" ")
            if what == "begin":
                processes[number] = Process(log, f"m{number}", now)
            elif what == "come":
                processes[number].come(("room", user))
            elif what == "go":
                processes[number].go(("room", user))
            else:
                processes.pop(number).end(now)
            now = settle([watcher, *processes.values()], now, 0.1)
        now = settle([watcher, *processes.values()], now, 3)
        everybody = [watcher, *processes.values()]
        self.assertEqual({tuple(each.list()) for each in everybody}, {("anna", "bo", "cy", "stays")}, order)
        now = settle(everybody, now, 20, 1.0)
        self.assertEqual({tuple(each.list()) for each in everybody}, {("bo", "cy", "stays")}, order)
        for each in everybody:
            left = [user for change in each.changes for user in change.left]
            self.assertEqual(left, ["anna"], order)


class World:
    """Processes begin, end and are killed; people move between them, within their grace; messages arrive late.

    :ivar stayers: people who have a stream all the time, but for a few seconds; each with the process.
    """

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.log = Log()
        self.now = 100.0
        self._names = (f"{chance.randrange(16**4):04x}-{number}" for number in itertools.count())
        self.processes: list[Process] = []
        self.begin()
        self.begin()
        self.now = settle(self.processes, self.now, 3)
        self.stayers = {f"s{number}": chance.choice(self.processes) for number in range(6)}
        for user, process in self.stayers.items():
            process.come(("room", user))
        self.now = settle(self.processes, self.now, 3)
        for process in self.processes:
            process.changes.clear()
        self._away: dict[str, float] = {}  # stayers without a stream, and when they are back

    def begin(self) -> None:
        self.processes.append(Process(self.log, next(self._names), self.now))

    def end(self) -> None:
        """End or kill a process, but leave two that know all."""
        synced = [process for process in self.processes if process.member.is_synced]
        process = self.chance.choice(self.processes)
        if len(synced) <= 2 and process in synced:
            return
        self.processes.remove(process)
        if self.chance.random() < 0.5:
            process.end(self.now)
        for user, home in self.stayers.items():
            if home is process:
                self.leave(user)

    def leave(self, user: str) -> None:
        self._away.setdefault(user, self.now + self.chance.uniform(0, 5))

    def come_back(self, *, all_now: bool = False) -> None:
        for user, back in list(self._away.items()):
            if self.now >= back or all_now:
                del self._away[user]
                self.stayers[user] = self.chance.choice(self.processes)
                self.stayers[user].come(("room", user))

    def step(self) -> None:
        """Do something, or nothing; then some messages arrive."""
        self.now += 0.1
        self.come_back()
        kind = self.chance.random()
        if kind < 0.2:
            process, pair = self.chance.choice(self.processes), ("room", f"v{self.chance.randrange(5)}")
            (process.go if pair in process.people else process.come)(pair)
        elif kind < 0.25:
            user = self.chance.choice(list(self.stayers))
            self.stayers[user].go(("room", user))
            self.leave(user)
        elif kind < 0.27 and len(self.processes) < 5:
            self.begin()
        elif kind < 0.29:
            self.end()
        for process in self.chance.sample(self.processes, len(self.processes)):
            if self.chance.random() < 0.8:
                process.receive(self.now, self.chance.choice((1, 5, None)))
            if self.chance.random() < 0.8:
                process.send(self.now)


class RandomTest(unittest.TestCase):
    def test_all_agree_and_who_stays_stays(self) -> None:
        for seed in range(60):
            with self.subTest(seed=seed):
                self.run_once(World(seed))

    def run_once(self, world: World) -> None:
        stayers = set(world.stayers)
        for _ in range(400):
            world.step()
            for process in world.processes:
                if process.member.is_synced:
                    self.assertLessEqual(stayers, set(process.list()), process.name)
        world.come_back(all_now=True)
        settle(world.processes, world.now, 40, 0.5)
        truth = sorted({user for process in world.processes for _, user in process.people})
        self.assertLessEqual(stayers, set(truth))
        for process in world.processes:
            self.assertEqual(process.list(), truth)
            shown = {user for change in process.changes for user in (*change.joined, *change.left)}
            self.assertFalse(shown & stayers, process.name)
            self.assertEqual(process.member.processes, {each.name for each in world.processes})


if __name__ == "__main__":
    unittest.main()
