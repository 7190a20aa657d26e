"""Compares rows, events, and what the clients received. Every difference is a fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ..common.event_ids import split_id
from ..faults.clients import ReceivedEvent
from ..faults.delivery_check import DeliveryCheck, EpochChain
from .writers import Ledger

# How many of the names a fault shows.
_SHOWN = 5


class LogContents(NamedTuple):
    """Everything that the database has in the end.

    :ivar chain: the epochs.
    :ivar events: number, channel and data of each event, by number.
    :ivar rows: name and channel of each row.
    """

    chain: EpochChain
    events: Sequence[tuple[int, str, str]]
    rows: Sequence[tuple[str, str]]

    def ids(self, channels: Collection[str]) -> list[str]:
        """Return the ids of the events of some channels."""
        return [f"{self.chain.current}-{number}" for number, channel, _ in self.events if channel in channels]


@dataclass
class Comparison:
    """The result.

    :ivar faults: one sentence each.
    :ivar lost_by_database: acknowledged rows and events that the database does not have in the end.
    :ivar delivered: the events that clients received.
    :ivar check: the result of the clients' comparison.
    """

    faults: list[str] = field(default_factory=list)
    lost_by_database: int = 0
    delivered: int = 0
    check: DeliveryCheck = field(default_factory=DeliveryCheck)

    def _find(self, what: str, names: Collection[object]) -> None:
        if names:
            shown = ", ".join(map(str, sorted(names, key=str)[:_SHOWN]))
            self.faults.append(f"{len(names)} {what}: {shown}")

    def compare_rows(self, contents: LogContents, ledger: Ledger, *, keeps_all: bool) -> None:
        """Compare rows and events with each other, and with what the writers know.

        :param keeps_all: whether the database must have everything that it has acknowledged.
        """
        numbers = [number for number, _, _ in contents.events]
        gaps = [later for earlier, later in pairwise([0, *numbers]) if later != earlier + 1]
        self._find("numbers after a gap", gaps)
        events = Counter((data, channel) for _, channel, data in contents.events)
        self._find("events twice in the log", [name for (name, _), count in events.items() if count > 1])
        alone = {each for each in events if each[0] in ledger.without_row}
        rows = {*contents.rows}
        self._find("rows without their event", rows - events.keys())
        self._find("events without their row", events.keys() - rows - alone)
        place = {data: number for number, _, data in contents.events}
        self._find("events of rolled-back transactions", place.keys() & ledger.rolled_back)
        lost = ledger.committed - place.keys()
        self.lost_by_database = len(lost)
        if keeps_all:
            self._find("acknowledged events that are not in the log", lost)
        for title, order in ledger.order.items():
            found = [place[each] for each in order if each in ledger.committed and each in place]
            if found != sorted(found):
                self.faults.append(f"the events of {title} have another order in the log")
        wrong = [
            event
            for event, (_, event_id) in ledger.ids.items()
            if event in place and split_id(contents.chain.in_current(event_id))[1] != place[event]
        ]
        self._find("events with another id than the one that was returned", wrong)
        self.faults += ledger.complaints

    def compare_client(
        self,
        start: str,
        received: Sequence[ReceivedEvent],
        channels: Collection[str],
        contents: LogContents,
        ledger: Ledger,
    ) -> None:
        """Compare what one client received with the log.

        :param start: the id with which its first stream began.
        :param channels: its channels.
        """
        known = {f"{contents.chain.current}-{number}": data for number, _, data in contents.events}
        acknowledged = [
            event_id
            for name, (channel, event_id) in ledger.ids.items()
            if channel in channels and name in ledger.committed
        ]
        before = len(self.check.details)
        self.check.add(start, received, contents.ids(channels), acknowledged, contents.chain)
        self.faults += self.check.details[before:]
        for each in received:
            if each.is_reset:
                continue
            self.delivered += 1
            data = known.get(contents.chain.in_current(each.id))
            if data is not None and data != each.data:
                self.faults.append(f"event {each.id} came with the data {each.data}; in the log it has {data}")
            if each.data in ledger.rolled_back:
                self.faults.append(f"the event {each.data} came, and was rolled back")
