"""The messages that processes send each other over the log, as values and as JSON.

Each message has a sender, and a number that counts the sender's messages. So a reader notices a missing one. Other
kinds of messages may come in later releases: a process ignores a kind that it does not know.

    >>> encode(Message("k3x", 7, 1760000000.0, Moves({}, {"room": ["anna"]})))
    '{"v":1,"type":"moves","from":"k3x","n":7,"at":1760000000.0,"went":{},"came":{"room":["anna"]}}'
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..protocol.event import json_line

VERSION = 1

# Characters of people in one message, about. A log takes 1,048,576 in one event, but a long append delays others.
CHUNK = 32 * 1024

# A channel, and a person on it.
Pair = tuple[str, str]

# The users of each channel.
People = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class Hello:
    """The sender begins, and needs the whole list."""


@dataclass(frozen=True)
class Beat:
    """The sender lives."""


@dataclass(frozen=True)
class Bye:
    """The sender ends, and has no people any more."""


@dataclass(frozen=True)
class Moves:
    """People have come and gone in the sender. Those who went come first: some may be in both.

    :ivar went: people without a stream in the sender.
    :ivar came: people with a stream in it.
    """

    went: People
    came: People


@dataclass(frozen=True)
class Ask:
    """The sender does not know the people of some processes; each of them sends :class:`Full`.

    :ivar whom: the processes.
    """

    whom: Collection[str]


@dataclass(frozen=True)
class Full:
    """All people of the sender, in one message or several in a row.

    :ivar people: some of them.
    :ivar is_first: whether this is the first message.
    :ivar is_last: whether this is the last message.
    """

    people: People
    is_first: bool
    is_last: bool


@dataclass(frozen=True)
class Snapshot:
    """A part of the whole list, for processes that begin. It is as the messages up to a number of the log say.

    :ivar as_of: the number.
    :ivar process: the process that the people belong to; ``""`` for people without a stream.
    :ivar number: the number of the process's newest message.
    :ivar people: some of its people. For people without a stream: for how many seconds they stay listed.
    :ivar is_last: whether this is the last part.
    """

    as_of: int
    process: str
    number: int
    people: Mapping[str, Collection[str] | Mapping[str, float]]
    is_last: bool


Body = Hello | Beat | Bye | Moves | Ask | Full | Snapshot


class Message(NamedTuple):
    """A message.

    :ivar sender: the process.
    :ivar number: how many messages the sender has sent, this one included.
    :ivar at: when it was made (seconds since 1970), by the sender's clock.
    :ivar body: its content.
    """

    sender: str
    number: int
    at: float
    body: Body


class UnknownMessage(Exception):
    """A message of another version, or one that is invalid."""


def encode(message: Message) -> str:
    """Return a message as one line of JSON."""
    body = message.body
    head = {
        "v": VERSION,
        "type": type(body).__name__.lower(),
        "from": message.sender,
        "n": message.number,
        "at": round(message.at, 1),
    }
    return json_line(head | vars(body))


def decode(text: str) -> Message | None:
    """Return the message in a line of JSON; ``None`` for a kind that is not known, and for empty text.

    :raises UnknownMessage: it is of another version, or invalid.
    """
    if not text:
        return None  # the log has dropped its data
    try:
        values = json.loads(text)
        if values["v"] != VERSION:
            raise UnknownMessage(f"version {values['v']!r}")
        read = _READERS.get(values["type"])
        if read is None:
            return None
        return Message(_text(values["from"]), int(values["n"]), float(values["at"]), read(values))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnknownMessage(f"{type(error).__name__}: {error}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not text: {value!r}")
    return value


def _people(value: Any) -> People:
    for users in value.values():
        if not isinstance(users, list) or not all(isinstance(user, str) for user in users):
            raise TypeError("people must be lists of text")
    return dict(value)


def _snapshot(values: Mapping[str, Any]) -> Snapshot:
    people = values["people"]
    if values["process"]:
        people = _people(people)
    else:
        people = {
            channel: {user: float(left) for user, left in users.items()} for channel, users in people.items()
        }
    process = _text(values["process"])
    return Snapshot(int(values["as_of"]), process, int(values["number"]), people, bool(values["is_last"]))


_READERS: dict[str, Callable[[Mapping[str, Any]], Body]] = {
    "hello": lambda values: Hello(),
    "beat": lambda values: Beat(),
    "bye": lambda values: Bye(),
    "moves": lambda values: Moves(_people(values["went"]), _people(values["came"])),
    "ask": lambda values: Ask([_text(each) for each in values["whom"]]),
    "full": lambda values: Full(_people(values["people"]), bool(values["is_first"]), bool(values["is_last"])),
    "snapshot": _snapshot,
}


def chunks(pairs: Iterable[Pair], size: int = CHUNK) -> Iterator[dict[str, list[str]]]:
    """Yield people by channel, in parts of a bounded size.

    :param pairs: the people.
    :param size: characters of a part, about.
    """
    part: dict[str, list[str]] = {}
    length = 0
    for channel, user in pairs:
        if length and length + len(user) > size:
            yield part
            part, length = {}, 0
        if channel in part:
            part[channel].append(user)
        else:
            part[channel] = [user]
            length += len(channel) + 6
        length += len(user) + 3
    if part:
        yield part


def moves(went: Iterable[Pair], came: Iterable[Pair], size: int = CHUNK) -> Iterator[Moves]:
    """Yield the messages about people who have gone and come; those who went are in the first ones."""
    gone, here = list(chunks(went, size)), list(chunks(came, size))
    if len(gone) <= 1 and len(here) <= 1:
        if gone or here:
            yield Moves(gone[0] if gone else {}, here[0] if here else {})
        return
    yield from (Moves(part, {}) for part in gone)
    yield from (Moves({}, part) for part in here)


def full(people: Iterable[Pair], size: int = CHUNK) -> Iterator[Full]:
    """Yield the messages that say all people of a process."""
    parts = list(chunks(people, size)) or [{}]
    for place, part in enumerate(parts):
        yield Full(part, place == 0, place == len(parts) - 1)
