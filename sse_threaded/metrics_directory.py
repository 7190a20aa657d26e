"""The directory in which prometheus_client keeps the metrics of several processes.

The environment variable ``PROMETHEUS_MULTIPROC_DIR`` names it. Each process has files there, which outlive it. So
the counters of a killed process still count. But its gauges must not: a dead process has no open stream.

Nothing here needs prometheus_client.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# Such as counter_17.db, histogram_17.db and gauge_livesum_17.db.
_NAME = re.compile(r"(counter|histogram|summary|gauge_(?P<mode>[a-z]+))_(?P<pid>[0-9]+)\.db", re.ASCII)


class _File(NamedTuple):
    """The file of one process.

    :ivar path: where it is.
    :ivar pid: the process.
    :ivar is_live: whether it holds gauges that end with the process.
    """

    path: Path
    pid: int
    is_live: bool


def directory() -> Path | None:
    """Return the directory; ``None`` if each process keeps its metrics in memory."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def prepare(*, keeps_own: bool) -> None:
    """Create the directory, and remove the files of an earlier run. The files of processes that still run stay.

    A server calls it once, before its workers start.

    :param keeps_own: whether the files of this process stay, too, as it has loaded the app already.
    :raises OSError: the directory cannot be created, or a file cannot be removed.
    """
    path = directory()
    if path is None:
        return
    path.mkdir(parents=True, exist_ok=True)
    for file in _files(path):
        is_own = file.pid == os.getpid()
        if (is_own and not keeps_own) or not _is_running(file.pid):
            file.path.unlink(missing_ok=True)


def forget(pid: int) -> None:
    """Remove the gauges of a process that has ended. Its counters stay."""
    _remove_gauges(lambda other: other == pid)


def forget_dead() -> None:
    """Remove the gauges of all processes that have ended."""
    _remove_gauges(lambda pid: not _is_running(pid))


def complete_files() -> list[str]:
    """Return the paths of the files that have content. A process that was killed may have left an empty one.

    :raises OSError: the directory cannot be read.
    """
    path = directory()
    found = [] if path is None else [file.path for file in _files(path)]
    return [str(file) for file in found if _size(file)]


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):  # its process has ended since
        return file.stat().st_size
    return 0


def _remove_gauges(has_ended: Callable[[int], bool]) -> None:
    path = directory()
    if path is None:
        return
    with suppress(OSError):  # the directory is gone, or another user's; a scrape then reports it
        for file in _files(path):
            if file.is_live and has_ended(file.pid):
                file.path.unlink(missing_ok=True)


def _files(path: Path) -> Iterator[_File]:
    for name in os.listdir(path):
        match = _NAME.fullmatch(name)
        if match:
            yield _File(path / name, int(match["pid"]), (match["mode"] or "").startswith("live"))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True
