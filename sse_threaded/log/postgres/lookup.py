"""Looks up the addresses of a host's name, with a bound: the system's resolver has none.

Each name is looked up on a thread of its own. All threads that need the name at the same time wait for this one.
So a name server that does not answer holds one thread for each name.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address


class LookupFailed(Exception):
    """The name has no address, or the answer takes too long."""


def addresses_of(name: str, seconds: float) -> list[str]:
    """Return the addresses of a name; those of an address are the address itself.

    :param name: of a host.
    :param seconds: how long to wait.
    :raises LookupFailed: no address was found in time.
    """
    with suppress(ValueError):
        return [str(ip_address(name))]
    lookup = _running.get(name)
    if lookup is None:
        lookup = _running.setdefault(name, _Lookup(name))  # of two threads, both get the first one's
    lookup.start_once()
    if not lookup.done.wait(seconds):
        raise LookupFailed(f"the name {name} was not found within {seconds:g} s")
    if lookup.failure:
        raise LookupFailed(f"the name {name} was not found: {lookup.failure}")
    return lookup.found


class _Lookup:
    """One search for one name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._unstarted = [True]  # of several threads, one takes it and starts the search
        self.done = threading.Event()
        self.found: list[str] = []
        self.failure = ""

    def start_once(self) -> None:
        """Start the search, unless another thread has done so."""
        try:
            self._unstarted.pop()
        except IndexError:
            return
        try:
            threading.Thread(target=self._run, name="sse_threaded lookup", daemon=True).start()
        except RuntimeError as error:  # the system gives no more threads
            self._end(str(error))

    def _run(self) -> None:
        try:
            answers = socket.getaddrinfo(self._name, None, proto=socket.IPPROTO_TCP)
        except (OSError, UnicodeError) as error:
            self._end(str(error))
        else:
            self.found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
            self._end("")

    def _end(self, failure: str) -> None:
        self.failure = failure
        _running.pop(self._name, None)
        self.done.set()


_running: dict[str, _Lookup] = {}

# The threads stay with the parent process.
os.register_at_fork(after_in_child=_running.clear)
