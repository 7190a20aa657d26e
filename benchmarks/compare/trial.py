"""The input of a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .peers import Peers


@dataclass(frozen=True)
class Trial:
    """The other servers, the other checkouts, and the size of a scenario.

    :ivar peers: the other servers.
    :ivar packages: the names of other checkouts of this package and their folders.
    :ivar share: the share of the full numbers of streams and of the full times, 0 to 1.
    :ivar idle_seconds: how long nothing is published.
    """

    peers: Peers
    packages: Mapping[str, Path] = field(default_factory=dict)
    share: float = 1.0
    idle_seconds: float = 40.0

    def streams(self, full: int) -> int:
        """Return how many streams, for the number of a full run."""
        return round(full * self.share)
