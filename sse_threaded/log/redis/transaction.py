"""The snapshot and the transaction that an app gets of a log in Redis."""

from __future__ import annotations

from collections.abc import Callable

from ..interface import Snapshot, Transaction, TransactionOver
from ..record import Record
from ..validation import validate_event


class RedisSnapshot(Snapshot):
    """The log at one moment.

    :param url: the log's, without a password.
    :param epoch: the log's.
    :param last: the newest event's number.
    """

    def __init__(self, url: str, epoch: str, last: int) -> None:
        super().__init__(url)
        self._epoch = epoch
        self._last = last

    def last_event_id(self) -> str:
        """See :class:`Snapshot`."""
        return f"{self._epoch}-{self._last}"


class RedisTransaction(RedisSnapshot, Transaction):
    """The events that one script is to append. The log is locked until then, so their numbers are known.

    :param newest: returns the newest event of a channel.
    :ivar rows: the arguments of ``commit_transaction.lua`` after the first.
    """

    def __init__(self, url: str, epoch: str, last: int, newest: Callable[[str], Record | None]) -> None:
        super().__init__(url, epoch, last)
        self._newest = newest
        self.rows: list[str | int] = []

    def append(self, channel: str, data: object, event: str | None = None) -> str:
        """See :class:`Transaction`."""
        name, text, kind = validate_event(channel, data, event, self.json_default)
        if self.over:
            raise TransactionOver(self._url)
        self.rows += [name, text, int(kind is not None), kind or ""]
        self._last += 1
        return self.last_event_id()

    def newest(self, channel: str) -> Record | None:
        """See :class:`Transaction`."""
        return self._newest(channel)
