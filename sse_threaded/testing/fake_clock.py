"""Time that a test moves on, so that it need not wait for heartbeats, leases and tickets."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from .. import event_requests
from .. import hub as hub_module
from ..fanout import control_events, log_reader, pump, pump_thread, registry
from ..hub import Hub

# The modules that look at the time of streams and tickets.
_MODULES: tuple[Any, ...] = (control_events, event_requests, hub_module, log_reader, pump, pump_thread, registry)


class FakeClock:
    """The time of all hubs of this process, while the block lasts. Tests use one at a time.

    ::

        with Hub(heartbeat=15) as hub, FakeClock(hub) as clock:
            ...  # open a stream
            clock.advance(15)  # a heartbeat comes
            clock.advance(900)  # the lease ends

    Time also goes on by itself. A long poll that waits is not shortened.

    :param hubs: the hubs whose streams are to see at once that time has passed.
    :ivar passed: seconds that the test has added.
    """

    def __init__(self, *hubs: Hub) -> None:
        self._hubs = hubs
        self.passed = 0.0

    def monotonic(self) -> float:
        """As :func:`time.monotonic`, with the seconds that were added."""
        return time.monotonic() + self.passed

    def time(self) -> float:
        """As :func:`time.time`, with the seconds that were added."""
        return time.time() + self.passed

    def sleep(self, seconds: float) -> None:
        """As :func:`time.sleep`."""
        time.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass.

        :param seconds: from 0.
        """
        self.passed += seconds
        for hub in self._hubs:
            hub.look_at_clock()

    def __enter__(self) -> FakeClock:
        for module in _MODULES:
            module.time = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for module in _MODULES:
            module.time = time
        for hub in self._hubs:
            hub.look_at_clock()
