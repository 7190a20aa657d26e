"""How many connections a worker may have, and how many of its threads and connections streams may hold.

A part is kept for ordinary requests. It is a share of all and has an upper bound. So a small server keeps some,
and a large one does not keep too much. The rest, at least one, is for streams, unless there is only one of a
kind.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

# Threads kept for ordinary requests: an eighth of the pool, and two at least. gunicorn may lend one of them for
# five seconds to a connection that has not sent its request yet.
_LEAST_THREADS, _THREADS_SHARE = 2, 8

# Connections kept for them: as many as there are threads to serve them, but no more than a quarter. Of four or
# more, two at least are kept.
_LEAST_CONNECTIONS, _CONNECTIONS_SHARE = 2, 4

# Files that a worker opens beside its connections: listeners, logs, databases, files of the app. No more than
# half of all files that it may open.
_OTHER_FILES, _FILES_SHARE = 200, 2


def stream_limit(threads: int) -> int:
    """How many of a worker's ``threads`` streams may hold; 64 give 56, fewer than three give none."""
    return max(0, threads - max(_LEAST_THREADS, threads // _THREADS_SHARE))


def kept_connections(connections: int, threads: int) -> int:
    """How many of a worker's ``connections`` are not for streams.

    With 8 threads 8 of 10,000; with 999 threads 250 of 1000.
    """
    least = max(1, min(_LEAST_CONNECTIONS, connections // 2))
    return max(least, min(threads, connections // _CONNECTIONS_SHARE))


def connection_limit(files: int) -> int:
    """How many connections a process may have that may open so many files; 4096 give 3896, 100 give 50."""
    return files - min(_OTHER_FILES, files // _FILES_SHARE)


class Capacity(NamedTuple):
    """How much a worker has room for.

    :ivar connections: how many it may have.
    :ivar idle: how many of them may wait for their next request, or hold streams.
    :ivar files: how many files it may open.
    """

    connections: int
    idle: int
    files: int


def make_room(connections: int, threads: int) -> Capacity:
    """Let this process open the files that so many connections need, if the system allows that."""
    # A shell often gives a soft limit of 1024 open files, for programs that use select().
    wanted = connections + _OTHER_FILES
    files, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < wanted:
        files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
        connections = min(connections, connection_limit(files))
    return Capacity(connections, connections - kept_connections(connections, threads), files)


def file_limit() -> int | None:
    """How many files this process may open, ``None`` for no bound."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
