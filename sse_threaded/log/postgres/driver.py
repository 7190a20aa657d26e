"""Connections of psycopg on which each call has a bound, whatever PostgreSQL or the network does.

A stopped PostgreSQL answers nothing, and the kernel still acknowledges. So no option of libpq ends the wait for an
answer. Here a thread waits for the socket itself, until a deadline. Then it closes the connection.
"""

from __future__ import annotations

import os
import re
import select
import time
import weakref
from collections.abc import Generator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.generators import execute

from .errors import AnswerMissing
from .timeouts import Timeouts

T = TypeVar("T")

# The bits of psycopg's Wait and Ready: a generator of psycopg yields the first, and gets the second.
_READ, _WRITE = 1, 2
_BAD = select.POLLERR | select.POLLHUP | select.POLLNVAL

# How many times the bound for the next byte a whole answer may take.
_SLOW = 10

# All open connections, with the process that made them. A child process cuts itself off from its parent's.
_open: weakref.WeakKeyDictionary[pq.abc.PGconn, int] = weakref.WeakKeyDictionary()
# Those of a parent process: here the child's garbage collector does not close them.
_of_parent: list[object] = []


class BoundedConnection(psycopg.Connection[Any]):
    """A connection each of whose calls ends in time, if need be by closing it.

    :ivar answer: seconds without a byte after which a call ends. A whole answer takes ten times that at most.
    :ivar is_direct: whether PostgreSQL itself is at the other end, and no pooler.
    :ivar is_plain: whether a statement by itself is a transaction that may write, at ``READ COMMITTED``.
    :ivar is_replica: whether the server was one when it was asked, so that nothing may be written.
    :ivar system_identifier: that of the server; ``""`` if this role may not read it.
    :ivar seen: when the last three were read (monotonic).
    :ivar generation: see :class:`.client.PostgresClient`.
    :ivar pid: the process that made it.
    """

    answer: float = Timeouts().answer
    is_direct = False
    is_plain = False
    is_replica = False
    system_identifier = ""
    seen = 0.0
    generation = 0

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        super().__init__(pgconn)
        self.pid = os.getpid()

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """See psycopg. All its calls wait here."""
        pgconn = self.pgconn
        limit = time.monotonic() + self.answer * _SLOW
        try:
            wanted = next(gen)
            while True:
                # A large answer over a slow network takes its time: the bound is for the next bytes of it.
                ready = _wait(pgconn.socket, wanted, min(time.monotonic() + self.answer, limit))
                if not ready:
                    raise AnswerMissing(f"no answer within {self.answer:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
        except AnswerMissing:
            finish(pgconn)
            raise
        except psycopg.Error:
            raise
        except BaseException:  # Ctrl-C, or a killed greenlet: the answer may come later, to another question
            finish(pgconn)
            raise

    def close(self) -> None:
        """See psycopg. It does not block: the socket does not."""
        self._closed = True
        finish(self.pgconn)

    @property
    def is_idle(self) -> bool:
        """Whether it is open, and no transaction is."""
        return self.pgconn.transaction_status == pq.TransactionStatus.IDLE

    @property
    def is_failed(self) -> bool:
        """Whether PostgreSQL refuses all but the end of the open transaction."""
        return self.pgconn.transaction_status == pq.TransactionStatus.INERROR

    def has_news(self) -> bool:
        """Whether something has come, or the connection has ended, while no thread used it."""
        return bool(_wait(self.pgconn.socket, _READ, 0.0))

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; returns its rows, if it has any. ``%s`` in it stands for a value, if there are values.

        :param statement: as above.
        :param values: text, numbers, truth values and ``None``. PostgreSQL gets their types from the statement.
        """
        # Not by a cursor of psycopg, which takes longer than PostgreSQL itself.
        pgconn = self.pgconn
        if values:
            pgconn.send_query_params(_numbered(statement), [_as_text(value) for value in values])
        else:
            pgconn.send_query(statement.encode())
        result = self.wait(execute(pgconn))[-1]
        if result.status == pq.ExecStatus.TUPLES_OK:
            transformer = Transformer(self)
            transformer.set_pgresult(result)
            return transformer.load_rows(0, result.ntuples, tuple)
        if result.status == pq.ExecStatus.COMMAND_OK:
            return []
        raise psycopg.errors.error_from_result(result)


@lru_cache(100)
def _numbered(statement: str) -> bytes:
    """Return a statement with ``$1``, ``$2`` and so on for ``%s``, and ``%`` for ``%%``."""
    numbers = count(1)
    return re.sub("%[s%]", lambda found: f"${next(numbers)}" if found[0] == "%s" else "%", statement).encode()


def _as_text(value: object) -> bytes | None:
    if value is None:
        return None
    text = str(value)
    if "\0" in text:
        raise psycopg.DataError("a text of PostgreSQL cannot have a zero byte")
    return text.encode()


def _wait(fileno: int, wanted: int, deadline: float) -> int:
    """Wait for a socket; returns the bits that are ready, 0 after the deadline (monotonic)."""
    poll = select.poll()
    poll.register(fileno, (select.POLLIN if wanted & _READ else 0) | (select.POLLOUT if wanted & _WRITE else 0))
    while True:
        left = max(0.0, deadline - time.monotonic())
        for _, events in poll.poll(int(left * 1000) + (left > 0)):
            read = _READ if events & (select.POLLIN | _BAD) else 0
            write = _WRITE if events & (select.POLLOUT | _BAD) else 0
            return wanted & (read | write)
        if not left:
            return 0


def finish_connecting(pgconn: pq.abc.PGconn, deadline: float) -> None:
    """Finish a connection that was started.

    :param pgconn: the connection.
    :param deadline: monotonic.
    :raises psycopg.OperationalError: it failed, or took too long.
    """
    _open[pgconn] = os.getpid()
    status = pq.PollingStatus.WRITING if pgconn.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
    while status != pq.PollingStatus.OK:
        if status == pq.PollingStatus.FAILED:
            raise psycopg.OperationalError(pgconn.error_message.decode(errors="replace"))
        if not _wait(pgconn.socket, _READ if status == pq.PollingStatus.READING else _WRITE, deadline):
            host, port = (pgconn.hostaddr or pgconn.host).decode(), pgconn.port.decode()
            raise psycopg.OperationalError(f"no connection to {host}, port {port} in time")
        status = pq.PollingStatus(pgconn.connect_poll())


def finish(pgconn: pq.abc.PGconn) -> None:
    """Close a connection of libpq; idempotent, and never blocks."""
    _open.pop(pgconn, None)
    pgconn.finish()


def cut_off() -> None:
    """In a child process, close the parent's connections without a word to PostgreSQL; idempotent.

    If the parent dies, PostgreSQL must notice it, although the child lives: the parent may have had a lock.
    """
    pid = os.getpid()
    of_parent = [pgconn for pgconn, maker in list(_open.items()) if maker != pid]
    if not of_parent:
        return
    _of_parent.extend(of_parent)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for pgconn in of_parent:
        # Not close(): the number would go to another file, and libpq would take that for its connection.
        with suppress(psycopg.Error, OSError):
            os.dup2(nothing, pgconn.socket, inheritable=False)
        _open.pop(pgconn, None)
    os.close(nothing)


def forget(connections: object) -> None:
    """Keep connections of the parent process, in its child, from the garbage collector."""
    _of_parent.append(connections)


# Each child closes them at once, also one that never uses a log. It may live longer than its parent.
os.register_at_fork(after_in_child=cut_off)
