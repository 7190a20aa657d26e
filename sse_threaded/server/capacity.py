"""How much of a worker is kept for requests that are no streams: threads, connections, open files.

Each reserve is a part of what there is and has an upper bound, so that a small server keeps some and a large
one does not keep too much. Something is left for streams, too, unless there is only one of a kind.
"""

from __future__ import annotations

import resource

# Threads kept for ordinary requests: an eighth of the pool, and two at least, as gunicorn may lend one for five
# seconds to a connection that has not sent its request yet.
_LEAST_THREADS, _THREADS_SHARE = 2, 8

# Connections kept for them: as many as there are threads to serve them, but no more than a quarter; two at least,
# where there are four.
_LEAST_CONNECTIONS, _CONNECTIONS_SHARE = 2, 4

# Files that a worker opens beside its connections: listeners, logs, databases, what the app reads. No more than a
# half of what it may open.
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


def raise_file_limit(connections: int) -> tuple[int, int]:
    """Let this process open the files that so many connections need, as far as it may.

    Returns for how many connections there is room, and how many files it may open.
    """
    # What a shell gives is often a soft limit of 1024 open files, for the sake of programs that use select().
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections, soft
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, connection_limit(soft)), soft


def file_limit() -> int | None:
    """How many files this process may open, ``None`` for no bound."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
