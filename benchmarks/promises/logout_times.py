"""How long a logout takes: until every stream of a user, in several processes, has ended."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, GunicornServer
from tests.harness.redis_server import RedisServer

from .rows import Row, in_milliseconds

_APP = """
import os
from sse_threaded import Hub
from werkzeug.wrappers import Request

hub = Hub(os.environ["LOG"])


@Request.application
def app(web):
    return hub.stream(web, "news", user=web.args.get("user"))
"""
_WORKER = ("-k", "sse_threaded.worker.ThreadWorker", "--threads", "8", "-w", "1")
_PROCESSES = 3
_STREAMS = 60
_LOGOUTS = 20


def logouts(where: str) -> Callable[[], Row]:
    """Return the measurement over three processes, with the log in SQLite or in Redis.

    :param where: ``"SQLite"`` or ``"Redis"``.
    """

    def measure() -> Row:
        what = (
            f"from `hub.disconnect(user=...)` until all {_STREAMS} streams of the user in {_PROCESSES} processes "
        )
        what += f"have ended; log in {where}"
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            (Path(folder) / "logging_out.py").write_text(_APP)
            url = f"sqlite:///{folder}/log.db"
            if where == "Redis":
                server = RedisServer("--appendonly", "yes")
                stack.callback(server.close)
                url = server.url()
            hub = stack.enter_context(Hub(url))
            made = [
                GunicornServer("logging_out:app", args=_WORKER, env={"LOG": url}, cwd=folder) for _ in range(3)
            ]
            servers = [stack.enter_context(each) for each in made]
            return Row(what, in_milliseconds([_log_out(hub, servers) for _ in range(_LOGOUTS)]))

    return measure


def _log_out(hub: Hub, servers: list[GunicornServer]) -> float:
    urls = [f"{servers[number % _PROCESSES].url}/?user=7" for number in range(_STREAMS)]
    clients = [EventStreamClient(url, timeout=30).open() for url in urls]
    for client in clients:
        client.wait_for_retry()
    time.sleep(1.1)  # a stream that began within a second before it is cut for another reason
    start = time.perf_counter()
    hub.disconnect(user=7)
    for client in clients:
        client.wait_for_end()
    seconds = time.perf_counter() - start
    for client in clients:
        client.close()
    return seconds
