"""The app of the module ``example``, and beside it a page that tells the state of the process.

gunicorn serves ``tests.live.frameworks.probe:app``. All other requests go to the example, and nothing is between.
"""

from __future__ import annotations

import gc
import json
import os
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import example

# Objects of which each open stream has one or more.
_OF_STREAMS = {"EventStream", "SocketSubscriber", "ThreadSubscriber", "WrappedSubscriber"}
_OF_STREAMS |= {"EventStreamResponse", "StreamResponse", "_ScopedResponse"}


def state() -> dict[str, Any]:
    return {"streams": example.hub.streams, **getattr(example, "further_state", dict)()}


def whole_state() -> dict[str, Any]:
    gc.collect()
    names = []
    for each in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # it has just been closed
            names.append(os.readlink(f"/proc/self/fd/{each}"))
    kinds = Counter(type(each).__name__ for each in gc.get_objects())
    return {
        **state(),
        "threads": len(os.listdir("/proc/self/task")),
        "python_threads": threading.active_count(),
        "files": names,
        "objects": {kind: kinds[kind] for kind in _OF_STREAMS if kinds[kind]},
        "exchanges": kinds["Exchange"],
    }


def app(environ: dict[str, Any], start_response: Any) -> Any:
    ask = {"/state": state, "/whole-state": whole_state}.get(environ["PATH_INFO"])
    if ask is not None:
        body = json.dumps(ask()).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]
    return example.app(environ, start_response)
