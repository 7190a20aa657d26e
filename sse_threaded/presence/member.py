"""One process among those that share a log: it takes in their messages, and says which ones to send.

All processes read all messages in the log's order, their own included. So their lists agree.

- A process that begins sends :class:`.messages.Hello`. It keeps all later messages until another process has sent
  the whole list, as it was after a number of the log. Then it takes the messages after that number.
- The process with the first name sends the list. If it does not, the next one does a moment later.
- A process that ends says so. One that was killed is found by the others: each counts its own beats, as it reads
  them in the log, since the other's newest message. So a slow log, or a slow reader of it, makes no process seem
  dead.
- A process may seem dead by mistake, or a message may be missing. A process that reads a message of an unknown
  process asks it for its people.

A member has no clock and no threads: callers give monotonic times, and send what :meth:`Member.due` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .directory import Directory
from .messages import Ask, Beat, Body, Bye, Full, Hello, Message, Moves, Pair, Snapshot, chunks, full
from .times import PresenceTimes

NEVER = float("inf")

# How many processes wait for each other's list before they send it. All further ones send it at the same time.
_MOST_BEFORE = 3

# Seconds in which several processes may say hello, for one list.
_GATHERING = 0.05

# Seconds after which a process is asked again.
_ASKS_AGAIN = 2.0


class Removal(NamedTuple):
    """The app has disconnected a user, or a channel; see :meth:`.hub.Hub.disconnect`.

    :ivar user: the user; ``None`` for all.
    :ivar channel: the channel; ``None`` for all.
    """

    user: str | None
    channel: str | None


@dataclass
class _Process:
    """Another process, or this one.

    :ivar number: of its newest message.
    :ivar beats: this process's beats since that message.
    :ivar people: its people so far, while it sends all of them; ``None`` at other times.
    """

    number: int
    beats: int = 0
    people: set[Pair] | None = None


@dataclass
class _List:
    """A list that another process sends, with the parts that have come."""

    as_of: int
    directory: Directory = field(default_factory=Directory)
    processes: dict[str, _Process] = field(default_factory=dict)


class Member:
    """One process that takes part.

    :param name: its name, which no other process has.
    :param times: its times.
    :param directory: people to begin with; default: none.

    :ivar directory: the people, by the messages that it has read.
    :ivar is_synced: whether it knows the whole list.
    """

    def __init__(self, name: str, times: PresenceTimes, directory: Directory | None = None) -> None:
        self.name = name
        self.directory = directory or Directory()
        self.is_synced = False
        self._times = times
        self._processes: dict[str, _Process] = {}
        self._read = 0  # the newest number in the log that was applied
        self._begun_at: int | None = None  # the number of its own hello
        self._synced_by = NEVER  # it goes on without a list then
        self._kept: list[tuple[int, Message | Removal]] = []  # until it is synced
        self._lists: dict[str, _List] = {}  # by sender
        self._read_own = 0.0  # when it read a message of its own last
        self._next_beat = 0.0
        self._asked_for = 0  # the newest hello that has no list yet
        self._answers = NEVER  # when to send the list
        self._asked: dict[str, float] = {}  # processes to ask, and not before when
        self._owes_people = self._sends_people = False

    @property
    def has_begun(self) -> bool:
        """Whether it has read its own hello, so that :meth:`receive` may be called."""
        return self._begun_at is not None

    @property
    def processes(self) -> set[str]:
        """The names of the processes that it knows."""
        return set(self._processes)

    def begin(self, sequence: int, history: Iterable[tuple[int, Message]], now: float, wall: float) -> None:
        """Begin, as its own hello was read.

        :param sequence: the hello's number in the log.
        :param history: the messages before it that the log still has.
        :param now: the time.
        :param wall: the seconds since 1970.
        """
        self._begun_at = self._read = sequence
        self._read_own = now
        for _, message in history:
            # People who have gone some time ago are listed for the rest of their time only.
            until = now + self._times.grace - max(0.0, wall - message.at)
            if isinstance(message.body, Moves):
                # The log may not have the message with which they came any more.
                for channel, users in message.body.went.items():
                    for user in users:
                        self.directory.come(message.sender, channel, user)
            self._apply(message, now, until)
        others = self._processes.keys() - {self.name}
        self._processes[self.name] = _Process(1)
        self._synced_by = now + self._times.sync
        self._next_beat = now + self._times.beat
        if not others:
            self._sync(now)

    def _sync(self, now: float) -> None:
        self.is_synced = True
        self._synced_by = NEVER
        self._lists.clear()
        kept, self._kept = self._kept, []
        for sequence, message in kept:
            if sequence > self._read:
                self._take(sequence, message, now)
        self.directory.take_changes()  # no client has a list that they belong to

    def receive(self, sequence: int, message: Message | Removal, now: float) -> None:
        """Take in a message, or a removal, in the log's order.

        :param sequence: its number in the log.
        :param message: the message.
        :param now: the time.
        """
        if self._begun_at is None or sequence <= self._begun_at:
            return
        if isinstance(message, Message) and message.sender == self.name:
            if self._is_cut_off(now):
                # A person may have reconnected, and that could not be written, or not be read.
                self.directory.prolong(now + self._times.grace)
            self._read_own = now
        if self.is_synced:
            self._take(sequence, message, now)
        elif isinstance(message, Message) and isinstance(message.body, Snapshot):
            # It is kept without its people, as the next message of its sender has the next number.
            part = message.body
            self._kept.append((sequence, message._replace(body=replace(part, people={}))))
            self._take_list(message.sender, part, now)
        else:
            self._kept.append((sequence, message))

    def _take(self, sequence: int, message: Message | Removal, now: float) -> None:
        self._read = sequence
        if isinstance(message, Removal):
            self.directory.remove(message.user, message.channel, now)
            return
        self._apply(message, now, now + self._times.grace)
        if isinstance(message.body, Hello) and message.sender != self.name:
            self._asked_for = sequence
            others = sorted(self._processes.keys() - {message.sender})
            before = min(others.index(self.name), _MOST_BEFORE)
            self._answers = min(self._answers, now + _GATHERING + before * self._times.answer)
        elif isinstance(message.body, Snapshot) and message.body.as_of >= self._asked_for:
            # Another process sends the list. If its end does not come, the next one sends it.
            is_whole = self._answers == NEVER or message.body.is_last
            self._answers = NEVER if is_whole else max(self._answers, now + self._times.answer)

    def _take_list(self, sender: str, part: Snapshot, now: float) -> None:
        """Take in a part of the list of another process."""
        if self._begun_at is None or part.as_of < self._begun_at:
            return
        found = self._lists.get(sender)
        if found is None or found.as_of != part.as_of:
            found = self._lists[sender] = _List(part.as_of)
        if part.process:
            found.processes[part.process] = _Process(part.number)
            for channel, users in part.people.items():
                for user in users:
                    found.directory.come(part.process, channel, user)
        else:
            for channel, left in part.people.items():
                if isinstance(left, dict):
                    until = {user: now + seconds for user, seconds in left.items()}
                    found.directory.linger({channel: until})
        if part.is_last:
            self.directory, self._processes, self._read = found.directory, found.processes, found.as_of
            self._asked.clear()
            self._sync(now)

    def _apply(self, message: Message, now: float, until: float) -> None:
        """Apply a message; people without a stream are then listed until a time."""
        name, body = message.sender, message.body
        process = self._sender(message)
        if process is None:
            return
        if isinstance(body, Moves):
            for channel, users in body.went.items():
                for user in users:
                    self.directory.go(name, channel, user, now, until)
            for channel, users in body.came.items():
                for user in users:
                    self.directory.come(name, channel, user)
        elif isinstance(body, Full):
            self._take_full(name, process, body, now, until)
        elif isinstance(body, Bye):
            self._end(name, now, until)
        elif isinstance(body, Beat) and name == self.name:
            self._count_beat(now)
        elif isinstance(body, Ask) and self.name in body.whom and not self._sends_people:
            self._owes_people = True

    def _sender(self, message: Message) -> _Process | None:
        """Note that the sender lives; ``None`` if its message says nothing new."""
        name, body = message.sender, message.body
        process = self._processes.get(name)
        if process is None:
            if isinstance(body, Bye):
                return None  # its people, if it had any, are listed until their time is over
            process = self._processes[name] = _Process(message.number)
            if not isinstance(body, Hello) and not (isinstance(body, Full) and body.is_first):
                self._asked.setdefault(name, 0.0)
            return process
        if message.number <= process.number:
            return None  # the sender did not learn that it was in the log already
        if message.number > process.number + 1:
            self._asked.setdefault(name, 0.0)
            process.people = None
        process.number, process.beats = message.number, 0
        return process

    def _take_full(self, name: str, process: _Process, body: Full, now: float, until: float) -> None:
        if body.is_first:
            process.people = set()
        if process.people is None:
            if body.is_last:
                self._asked.setdefault(name, 0.0)  # the first part is missing
            return
        process.people.update((channel, user) for channel, users in body.people.items() for user in users)
        if body.is_last:
            people, process.people = process.people, None
            self.directory.replace(name, people, now, until)
            self._asked.pop(name, None)
            if name == self.name:
                self._sends_people = False

    def _count_beat(self, now: float) -> None:
        for name, process in list(self._processes.items()):
            if name != self.name:
                process.beats += 1
                if process.beats >= self._times.silent_beats:
                    self._end(name, now, now + self._times.grace)

    def _end(self, name: str, now: float, until: float) -> None:
        self.directory.drop(name, now, until)
        self._processes.pop(name, None)
        self._asked.pop(name, None)

    # Sending.

    def due(self, now: float, own_people: Callable[[], Iterable[Pair]]) -> Sequence[Body]:
        """Do the work that is due, and return the messages to send now.

        :param now: the time.
        :param own_people: returns all people who have streams in this process. It is called if the process must
            send them; changes that were not sent yet need not be sent then.
        """
        if self._begun_at is None:
            return ()
        if not self.is_synced and now >= self._synced_by:
            self._sync(now)
        found: list[Body] = []
        if self.is_synced:
            if not self._is_cut_off(now):
                self.directory.expire(now)
            if now >= self._answers:
                self._answers = NEVER
                found += self._list(now)
            ask = [name for name, not_before in self._asked.items() if now >= not_before]
            if ask:
                found.append(Ask(ask))
                self._asked.update(dict.fromkeys(ask, now + _ASKS_AGAIN))
        if self._owes_people:
            self._owes_people, self._sends_people = False, True
            found += full(own_people())
        if now >= self._next_beat:
            self._next_beat = now + self._times.beat
            found.append(Beat())
        return found

    def next_due(self, now: float) -> float:
        """When to call :meth:`due` next, at the latest."""
        if self._begun_at is None:
            return NEVER
        times = [self._synced_by, self._next_beat]
        if self.is_synced:
            times += [self._answers, *self._asked.values()]
            if not self._is_cut_off(now):
                times.append(self.directory.next_end())
        return now if self._owes_people else min(times)

    def _is_cut_off(self, now: float) -> bool:
        """Whether it has read nothing of its own for long: the log cannot be read, or not be written."""
        return now - self._read_own > 2 * self._times.beat

    def _list(self, now: float) -> list[Snapshot]:
        """The whole list, in parts."""
        parts: list[Snapshot] = []
        by_process = self.directory.by_process()
        for name, process in self._processes.items():
            for people in list(chunks(by_process.get(name, ()))) or [{}]:
                parts.append(Snapshot(self._read, name, process.number, people, False))
        left: dict[tuple[str, str], float] = {}
        for channel, user, until in self.directory.lingering():
            left[channel, user] = round(max(0.0, until - now), 2)
        for people in list(chunks(left)) or [{}]:
            seconds = {channel: {user: left[channel, user] for user in users} for channel, users in people.items()}
            parts.append(Snapshot(self._read, "", 0, seconds, False))
        parts[-1] = replace(parts[-1], is_last=True)
        return parts
