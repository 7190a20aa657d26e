"""A server on a socket that answers each connection as a test says, also in ways that no real server should."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType

_SECONDS = 20.0


@dataclass
class Request:
    """The head of a request; the names of its fields are in lower case."""

    line: str
    fields: dict[str, str]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


@dataclass
class Connection:
    """A connection, for an answer to write to.

    :ivar ending: set when the server ends, so that an answer that waits can end too.
    """

    socket: socket.socket
    request: Request
    ending: threading.Event

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait_for_client(self) -> None:
        """Stay silent until the client leaves."""
        while not self.ending.is_set():
            with contextlib.suppress(TimeoutError):
                self.socket.settimeout(0.05)
                if not self.socket.recv(1):
                    return


Answer = Callable[[Connection], None]


def head(status: str = "200 OK", content_type: str | None = "text/event-stream", *fields: str) -> bytes:
    kind = [f"Content-Type: {content_type}"] if content_type is not None else []
    return "".join(
        f"{line}\r\n" for line in [f"HTTP/1.1 {status}", *kind, *fields, "Connection: close", ""]
    ).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def pieces(*data: bytes) -> Answer:
    """An answer of these bytes, each sent by itself, and the end of the connection."""

    def answer(connection: Connection) -> None:
        for piece in data:
            connection.send(piece)

    return answer


def stream(*data: bytes) -> Answer:
    """An event stream of these bytes that ends regularly."""
    return pieces(head(), *data)


def silent(*data: bytes) -> Answer:
    """These bytes, and then nothing until the client leaves."""

    def answer(connection: Connection) -> None:
        for piece in data:
            connection.send(piece)
        connection.wait_for_client()

    return answer


def refusal(status: str, *fields: str) -> Answer:
    return pieces(head(status, "text/plain", "Content-Length: 0", *fields))


def redirect(status: str, location: str) -> Answer:
    return refusal(status, f"Location: {location}")


def reset(*data: bytes) -> Answer:
    """These bytes, and then an RST."""

    def answer(connection: Connection) -> None:
        for piece in data:
            connection.send(piece)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return answer


class ScriptedServer:
    """A server of one answer after the other, and then of 204, at which each client stops; a context manager.

    :param answers: for the first connection, the second, and so on.
    :param tls: with it the server uses TLS.
    :ivar requests: the heads of all requests so far.
    """

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self._answers: Sequence[Answer] = answers
        self._tls = tls
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self.requests: list[Request] = []

    def __enter__(self) -> ScriptedServer:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/events"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._thread, *self._threads]:
            thread.join(_SECONDS)

    def _run(self) -> None:
        answers = iter([*self._answers])
        while not self._ending.is_set():
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(accepted, answers), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, accepted: socket.socket, answers: Iterable[Answer]) -> None:
        accepted.settimeout(_SECONDS)
        with contextlib.suppress(OSError), contextlib.ExitStack() as resources:
            resources.enter_context(accepted)
            if self._tls is not None:
                accepted = resources.enter_context(self._tls.wrap_socket(accepted, server_side=True))
            data = b""
            while b"\r\n\r\n" not in data:
                received = accepted.recv(65536)
                if not received:
                    return
                data += received
            line, *fields = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            named = (field.partition(":") for field in fields)
            request = Request(line, {name.lower(): value.strip() for name, _, value in named})
            self.requests.append(request)
            answer = next(iter(answers), None) or refusal("204 No Content")
            answer(Connection(accepted, request, self._ending))
