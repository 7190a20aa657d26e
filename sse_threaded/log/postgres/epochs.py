"""The epochs of a log in PostgreSQL. They are a chain: each begins after the last number of the one before.

A new epoch begins when the log is another one than before. This is so after a dump was restored, a database
copied or a table emptied. It is also so on a replica that took over. PostgreSQL itself begins the epoch, before it
gives another number (``sql/renew.sql``). The numbers of events that still exist stay valid. So a client can resume
after an id of an old epoch. Only a client that has seen a lost event gets a ``reset``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ...errors import HistoryGone


class Epochs(NamedTuple):
    """The epochs of a log at one time.

    :ivar current: the epoch of the ids that are given now.
    :ivar ended: each earlier epoch that is known, with the number up to which its ids are valid.
    """

    current: str
    ended: Mapping[str, int]

    def require_kept(self, epoch: str, sequence: int) -> None:
        """Return if an id of an earlier epoch belongs to an event that the log has, or had.

        :raises HistoryGone: the epoch is not known, or the event is lost.
        """
        if sequence > self.ended.get(epoch, -1):
            raise HistoryGone("epoch")
