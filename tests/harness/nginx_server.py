"""The real nginx with deploy/nginx.conf, in which only addresses, paths and the certificate are others.

with Nginx(directory, f"127.0.0.1:{gunicorn.port}") as nginx:
    with CurlStream(nginx.url + "/boards/board-1/events", nginx.certificate) as stream:
        stream.next_event()
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from sse_threaded.protocol.decoder import DecodedEvent, EventStreamDecoder
from sse_threaded.protocol.event import NOTICES
from sse_threaded.testing.processes import ChildProcess, process_table
from tests.support import ROOT, missing, reserved_port, wait_until

CONFIG = ROOT / "deploy" / "nginx.conf"

# What the file names on the machine it is for.
UPSTREAM = "unix:/run/sse-threaded.sock"

# What nginx keeps files of for a while, each in a directory of its own.
_KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_SECONDS = 30


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost and 127.0.0.1, and its key."""
    if shutil.which("openssl") is None:
        missing("openssl (apt-get install openssl)")
    chain, key = directory / "fullchain.pem", directory / "privkey.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *kind, *names, "-out", str(chain), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    return chain, key


class Nginx:
    """nginx until the ``with`` is left, on two free ports of 127.0.0.1.

    :param directory: where it makes a directory for its files.
    :param upstreams: where gunicorn listens, ``127.0.0.1:port`` or ``unix:/path``; several for several hosts.
    :param changes: further text of the file, and what takes its place.
    :ivar port: that of HTTPS, known from the start; ``plain_port`` that of HTTP.
    :ivar certificate: the file that a client must trust.
    """

    def __init__(self, directory: Path, *upstreams: str, changes: Mapping[str, str] | None = None) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
        if program is None:
            missing("nginx (apt-get install nginx)")
        directory = Path(tempfile.mkdtemp(prefix="nginx-", dir=directory))
        # Bound here and listened on by nginx alone, as in GunicornServer: nobody else gets them before it starts.
        self._reserved = reserved_port(), reserved_port()
        self.port, self.plain_port = (each.getsockname()[1] for each in self._reserved)
        self.certificate, key = certificate(directory)
        self.config = directory / "nginx.conf"
        self._command = [program, "-p", str(directory), "-e", str(directory / "error.log"), "-c", str(self.config)]
        self._child: ChildProcess | None = None
        addresses = {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "/run/nginx.pid": f"{directory}/nginx.pid",
            "/var/log/nginx": str(directory),
            "/etc/ssl/board.example/fullchain.pem": str(self.certificate),
            "/etc/ssl/board.example/privkey.pem": str(key),
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen [::]:80;": "",
            "listen [::]:443 ssl http2 backlog=4096;": "",
            "board.example": "localhost",
            "https://$host$": f"https://$host:{self.port}$",
            f"server {UPSTREAM} max_fails=0;": "".join(f"server {name} max_fails=0;" for name in upstreams),
            "http {\n": "http {\n" + "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in _KINDS),
        }
        text = CONFIG.read_text(encoding="utf-8")
        for old, new in [*addresses.items(), *(changes or {}).items()]:
            assert old in text, f"deploy/nginx.conf has no {old!r}"
            text = text.replace(old, new)
        self.config.write_text(text, encoding="utf-8")

    @property
    def url(self) -> str:
        """``https://localhost:port``, without a slash at the end."""
        return f"https://localhost:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of its master."""
        assert self._child is not None
        return self._child.pid

    def worker_pids(self) -> set[int]:
        """The process ids of those who serve."""
        return {process.pid for process in process_table() if process.parent == self.pid}

    def check(self) -> subprocess.CompletedProcess[str]:
        """``nginx -t``."""
        command = [*self._command, "-t"]
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)

    def reload(self) -> None:
        """Have it read its file again in new processes; the old ones serve what they have to its end."""
        os.kill(self.pid, signal.SIGHUP)

    def output(self) -> str:
        """What it has printed, and its log of errors."""
        files = [self.config.with_name(name) for name in ("output", "error.log")]
        return "".join(path.read_text(errors="replace") for path in files if path.exists())

    def __enter__(self) -> Nginx:
        command = [*self._command, "-g", "daemon off;"]
        with self.config.with_name("output").open("wb") as output:
            self._child = ChildProcess(command, output=output, env=os.environ, cwd=None)
        try:
            wait_until(self._answers, timeout=_SECONDS, message="nginx to answer")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._child is not None
        self._child.kill()
        for each in self._reserved:
            each.close()

    def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise AssertionError(f"nginx has ended: {self.output()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class CurlStream:
    """One event stream, read by curl over HTTP/2 until the ``with`` is left.

    :param url: where.
    :param trusted: the server's certificate; default ``None``, none is needed.
    :param args: further arguments of curl's.
    :ivar head: the response's head in lower case, ``""`` before it came.
    :ivar raw: the body so far; ``events`` those in it that were not asked for.
    :ivar ended: whether the body has ended, or was cut.
    """

    def __init__(self, url: str, trusted: Path | None = None, *args: str) -> None:
        if shutil.which("curl") is None:
            missing("curl (apt-get install curl)")
        trust = ["--cacert", str(trusted)] if trusted else []
        self._command = ["curl", "-sSNi", "--http2", *trust, "-H", "Accept: text/event-stream", *args, url]
        self._received = b""
        self._decoder = EventStreamDecoder()
        self.events: deque[DecodedEvent] = deque()
        self.head = ""
        self.raw = b""
        self.ended = False

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until ``condition()`` is true, and show what was received if it does not become so."""
        try:
            wait_until(condition, timeout=_SECONDS, message=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; received: {self._received!r}") from None

    def wait_for_id(self) -> None:
        """Wait for the first bytes of a stream of this package."""
        self.wait_for(lambda: b"\nid: " in self.raw, "the first bytes")

    def wait_for_end(self) -> None:
        """Wait until the body has ended."""
        self.wait_for(lambda: self.ended, "the end")

    def next_event(self) -> DecodedEvent:
        """Wait for the next event."""
        self.wait_for(lambda: self.events, "an event")
        return self.events.popleft()

    def close(self) -> None:
        """Hang up."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> CurlStream:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while piece := os.read(self._process.stdout.fileno(), 65536):
            self._received += piece
            if not self.head:
                head, found, piece = self._received.partition(b"\r\n\r\n")
                if not found:
                    continue
                self.head = head.decode("latin-1").lower()
            self.raw += piece
            self.events += (event for event in self._decoder.feed(piece) if event.event not in NOTICES)
        self.ended = True
