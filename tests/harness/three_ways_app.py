"""What gunicorn runs for :mod:`tests.harness.three_ways`: its configuration, and an app with one hub.

The environment variable :data:`FOLDER` names a folder with the log, the socket that takes commands, and the last
recording. The module imports the package late: the recorder comes first.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from called_functions import Recorder  # this folder is on the path

FOLDER = "THREE_WAYS_FOLDER"

_folder = Path(os.environ[FOLDER])

_monotonic = time.monotonic

_spec = importlib.util.find_spec("sse_threaded")
assert _spec is not None and _spec.origin is not None
recorder = Recorder(Path(_spec.origin).parent)

# gunicorn's configuration.

threads = 8
worker_class = "sse_threaded.worker.ThreadWorker"


def post_fork(server: Any, worker: Any) -> None:
    """Record before the worker loads the app, so that all its threads are seen."""
    recorder.install()


def worker_exit(server: Any, worker: Any) -> None:
    """Save the recording of the worker's end."""
    _save()


# The app.


def make_app() -> Callable[..., Any]:
    """Make the hub, take commands, and answer each request with a stream."""
    from werkzeug import Request  # noqa: PLC0415

    from sse_threaded import Hub  # noqa: PLC0415  # after the recorder

    hub = Hub(f"sqlite:///{_folder}/log.db")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(_folder / "commands"))
    listener.listen()
    threading.Thread(target=_take_commands, args=(listener, hub), name="commands", daemon=True).start()

    @Request.application
    def app(request: Request) -> Any:
        return hub.stream(request, "news")

    return app


def _take_commands(listener: socket.socket, hub: Any) -> None:
    sys.setprofile(None)
    connection, _ = listener.accept()
    for line in connection.makefile("r"):
        command = line.strip()
        reply = 0
        if command == "start":
            recorder.start()
        elif command == "save":
            _save()
        elif command == "publish":
            thread = threading.Thread(target=hub.publish, args=("news", "hello"), name="publisher")
            thread.start()
            thread.join()
        elif command == "slow the clock":
            time.monotonic = partial(_slow_time, _monotonic())
        elif command == "right the clock":
            time.monotonic = _monotonic
        elif command == "streams":
            reply = hub.streams
        connection.sendall(f"{reply}\n".encode())


def _slow_time(since: float) -> float:
    # It does not stand still: the pump rests for some milliseconds after each event.
    return since + (_monotonic() - since) / 100


def _save() -> None:
    (_folder / "recording.json").write_text(json.dumps(recorder.stop()))
