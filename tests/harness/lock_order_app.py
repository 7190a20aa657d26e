"""The configuration of gunicorn, the app and the recorder of locks for ``tests/live/test_lock_order.py``.

The recorder takes the place of ``threading.Lock`` and ``threading.RLock``. It notes which lock of the package a
thread takes while it holds another one. A lock's name is its file below the package and its attribute, such as
``fanout/registry.py _lock``. The environment variable :data:`FOLDER` names a folder with the log and the result,
``locks-PID.json`` of each worker. This module imports the package late: the recorder comes first.
"""

from __future__ import annotations

import importlib.util
import json
import linecache
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

FOLDER = "LOCK_ORDER_FOLDER"

_folder = Path(os.environ[FOLDER])
_spec = importlib.util.find_spec("sse_threaded")
assert _spec is not None and _spec.origin is not None
_PACKAGE = f"{Path(_spec.origin).parent}/"

_MADE = re.compile(r"(\w+)(?:, \w+)* = threading\.R?Lock\(\)")

# Not a lock but a signal: its owner takes it to sleep, and another thread releases it.
_SIGNALS = {"_signal"}

_held = threading.local()
_pairs: set[tuple[str, str]] = set()  # set.add is one step


class _Lock:
    """A lock that notes what its thread holds when it takes it. A thread other than the owner may release it."""

    __module__ = "_thread"  # the package takes other locks for those of greenlets

    def __init__(self, real: Any, name: str) -> None:
        self._real = real
        self._name = name

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        held: list[str] = _held.__dict__.setdefault("names", [])
        for name in held:
            if name != self._name:
                _pairs.add((name, self._name))
        taken: bool = self._real.acquire(blocking, timeout)
        if taken:
            held.append(self._name)
        return taken

    def release(self) -> None:
        self._real.release()
        held = _held.__dict__.setdefault("names", [])
        if self._name in held:
            held.reverse()
            held.remove(self._name)
            held.reverse()

    def locked(self) -> bool:
        return bool(self._real.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _recording(make: Callable[[], Any]) -> Callable[[], Any]:
    def made() -> Any:
        frame = sys._getframe(1)
        file = frame.f_code.co_filename
        found = _MADE.search(linecache.getline(file, frame.f_lineno)) if file.startswith(_PACKAGE) else None
        if found and found[1] not in _SIGNALS:
            return _Lock(make(), f"{file.removeprefix(_PACKAGE)} {found[1]}")
        if frame.f_globals.get("__name__") == "queue":
            return _Lock(make(), "queue.Queue mutex")
        return make()

    return made


threading.Lock = _recording(threading.Lock)  # type: ignore[assignment, misc]
threading.RLock = _recording(threading.RLock)  # type: ignore[assignment, misc]

# gunicorn's configuration.

threads = 8


def post_worker_init(worker: Any) -> None:
    """The package's hook, which gunicorn's own worker needs."""
    if _is_gunicorns(worker):
        from sse_threaded.gunicorn_hooks import post_worker_init as hook  # noqa: PLC0415

        hook(worker)


def worker_exit(server: Any, worker: Any) -> None:
    """The package's hook, likewise; then save the pairs."""
    if _is_gunicorns(worker):
        from sse_threaded.gunicorn_hooks import worker_exit as hook  # noqa: PLC0415

        hook(server, worker)
    (_folder / f"locks-{os.getpid()}.json").write_text(json.dumps(sorted(_pairs)))


def _is_gunicorns(worker: Any) -> bool:
    return str(type(worker).__module__).startswith("gunicorn.")


# The app.


def make_app() -> Callable[..., Any]:
    """Make an app whose paths use each kind of stream, and each call that takes a lock."""
    from werkzeug import Request, Response  # noqa: PLC0415

    from sse_threaded import Hub, Retention  # noqa: PLC0415  # after the recorder

    hub = Hub(f"sqlite:///{_folder}/log.db", retention=Retention(count=5), heartbeat=0.2, queue_size=2)

    def wrapped(response: Iterable[bytes]) -> Iterator[bytes]:
        yield from response  # a wrapper that the worker does not know

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if request.path in ("/bare", "/poll"):
            return hub.stream(request, "news")(environ, start_response)
        if request.path == "/wrapped":
            return wrapped(hub.stream(request, "news")(environ, start_response))
        if request.path == "/publish":
            for _ in range(50):
                hub.publish("news", "x" * 100_000)
            with hub.log.transaction() as transaction:
                transaction.append("news", "y")
            with hub.log.snapshot():
                pass
            hub.log.trim()
        if request.path == "/fork":
            child = os.fork()
            if child == 0:
                os._exit(0)
            os.waitpid(child, 0)
        hub.log.check()
        return Response(str(hub.streams))(environ, start_response)

    return app
