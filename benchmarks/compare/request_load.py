"""Requests as fast as a server answers, over kept connections, by the client ``apps/request_client.c``."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from urllib.parse import urlsplit

from sse_threaded.bench.endpoint import Endpoint
from sse_threaded.bench.errors import CannotBench
from sse_threaded.bench.process_tree import ProcessTree

from .peers import Peers
from .starters import RunningServer

# Seconds that the client may need beyond the time of its requests.
_GRACE = 30.0

# Seconds of requests before a measurement.
_WARM_UP = 0.3


@dataclass(frozen=True)
class RequestResult:
    """The result of a measurement.

    :ivar us: the processor time of the server for a request, in microseconds.
    :ivar rate: requests a second.
    :ivar share: the share of a core that the client used, 0 to 1.
    """

    us: float
    rate: float
    share: float


class RequestLoad:
    """Sends one request again and again to a server.

    :param peers: compile the client.
    :param server: the server.
    :param path: the path of the URL.
    :param body: the body of a POST, as JSON; default ``None``: the request is a GET.
    """

    def __init__(self, peers: Peers, server: RunningServer, path: str, body: str | None = None) -> None:
        self._program = peers.request_client()
        self._port = str(urlsplit(server.url).port)
        endpoint = Endpoint(server.url + path)
        data = (body or "").encode()
        fields = [] if body is None else ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        self._request = endpoint.head("GET" if body is None else "POST", 0, *fields).encode() + data
        self._server = server

    def measure(self, connections: int, seconds: float) -> RequestResult:
        """Send requests over several connections, each with one request on the way.

        :raises CannotBench: the server does not answer as expected.
        """
        self._run(connections, _WARM_UP)
        tree = ProcessTree(*self._server.pids)
        used = tree.processor_ns()
        found = self._run(connections, seconds)
        used = tree.processor_ns() - used
        answers, took = found["answers"], found["seconds"]
        return RequestResult(used / 1000 / answers, answers / took, found["processor"] / took)

    def _run(self, connections: int, seconds: float) -> dict[str, float]:
        done = subprocess.run(
            [self._program, self._port, str(connections), str(seconds)],
            input=self._request,
            stdout=subprocess.PIPE,
            timeout=seconds + _GRACE,
            check=False,
        )
        found: dict[str, float] = json.loads(done.stdout or '{"error": "the client of requests ended"}')
        if "error" in found:
            raise CannotBench(str(found["error"]))
        return found
