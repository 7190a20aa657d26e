"""What comes of requests through the real proxies: those that lie about themselves, and those that stall."""

from __future__ import annotations

import functools
import json
import re
import socket
import ssl
import subprocess
import unittest
from collections.abc import Mapping
from pathlib import Path

from sse_threaded.testing import GunicornServer, ServerFailed, request
from tests.deploy.test_deploy import DEPLOY, EVENTS, SECONDS, TASKS, DeployTest, curl, post
from tests.harness.caddy_server import Caddy
from tests.harness.chromium import chromium, wait_for
from tests.harness.curl_stream import CurlStream
from tests.harness.nginx_server import Nginx
from tests.support import enter

ONCE = True  # it says the same under every Python

# What an app is told of a request, beside what its fields say.
ECHO = """
import json

NAMES = ("SCRIPT_NAME", "PATH_INFO", "REMOTE_USER", "REMOTE_ADDR", "wsgi.url_scheme", "HTTP_SCRIPT_NAME",
         "HTTP_PATH_INFO", "HTTP_REMOTE_USER", "HTTP_REMOTE_ADDR")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: environ.get(name) for name in NAMES}).encode()]
"""

# What a stranger may say. The first gets a path rule of the proxy's passed by, where it is believed.
LIES = {
    "SCRIPT_NAME": "/open",
    "PATH_INFO": "/admin",
    "REMOTE_USER": "root",
    "REMOTE_ADDR": "203.0.113.9",
    "X-Forwarded-Prefix": "/open",
    "X-Forwarded-Host": "rebound.example",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=203.0.113.9;proto=https",
}


@functools.cache
def trusting(certificate: Path) -> ssl.SSLContext:
    """What a client needs that trusts this certificate."""
    return ssl.create_default_context(cafile=str(certificate))


def flags(headers: dict[str, str]) -> list[str]:
    """curl's flags for these header fields."""
    return [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]


class BelievedTest(DeployTest):
    def ways(self, server: GunicornServer) -> dict[str, list[str]]:
        """How a request can reach the app: a name, and curl's arguments without the path."""
        nginx = self.proxy()
        caddy = enter(self, Caddy(self.directory, f"unix/{self.socket}"))
        nginx_tcp = self.proxy(f"127.0.0.1:{server.port}")
        caddy_tcp = enter(self, Caddy(self.directory, f"127.0.0.1:{server.port}"))
        proxies = {"nginx": nginx, "caddy": caddy, "nginx, TCP": nginx_tcp, "caddy, TCP": caddy_tcp}
        return {
            "TCP": [server.url],
            "Unix socket": ["--unix-socket", str(self.socket), "http://localhost"],
            **{name: ["--cacert", str(each.certificate), each.url] for name, each in proxies.items()},
        }

    def test_a_strangers_word_changes_neither_the_path_nor_the_user_nor_the_scheme(self) -> None:
        (self.directory / "echo.py").write_text(ECHO)
        args = ("-w", "1", "-b", f"unix:{self.socket}")
        config = DEPLOY / "gunicorn.conf.py"
        server = enter(self, GunicornServer("echo:app", config=config, args=args, cwd=self.directory))
        for name, way in self.ways(server).items():
            told = json.loads(curl(*flags(LIES), *way[:-1], f"{way[-1]}/open/healthz"))
            address = told.pop("REMOTE_ADDR")
            with self.subTest(way=name):
                self.assertIn(address, ("127.0.0.1", ""))
                self.assertEqual(
                    {name: value for name, value in told.items() if value},
                    {"PATH_INFO": "/open/healthz", "wsgi.url_scheme": "http"},
                )

    def test_a_rule_for_a_path_cannot_be_passed_by(self) -> None:
        # Were the prefix believed, a rule that closes /healthz would not see it.
        server = self.serve()
        for name, way in self.ways(server).items():
            status = ["-o", "/dev/null", "-w", "%{http_code}"]
            with self.subTest(way=name):
                said = curl(*status, "-H", "SCRIPT_NAME: /open", *way[:-1], f"{way[-1]}/open/healthz")
                self.assertEqual(said, "404")

    def test_signs_of_the_scheme_that_disagree_harm_nobody(self) -> None:
        server = self.serve(SSE_THREADED_PROXIES="0")
        headers = {"X-Forwarded-Proto": "http", "X-Forwarded-Ssl": "on"}
        self.assertEqual(request("GET", server.url + "/healthz", headers=headers).status, 200)


class StalledTest(DeployTest):
    """Requests that stop in the midst: they must not reach the app, whose threads they would hold."""

    # More than the app has threads.
    COUNT = 48

    def connect(self, proxy: Nginx | Caddy) -> ssl.SSLSocket:
        context = trusting(proxy.certificate)
        plain = socket.create_connection(("127.0.0.1", proxy.port), SECONDS)
        return enter(self, context.wrap_socket(plain, server_hostname="localhost"))

    def stall(self, proxy: Nginx | Caddy, text: bytes) -> list[ssl.SSLSocket]:
        """So many connections, each of which sends this much and then nothing."""
        stalled = [self.connect(proxy) for _ in range(self.COUNT)]
        for connection in stalled:
            connection.sendall(text)
        return stalled

    def stall_over_http2(self, proxy: Nginx | Caddy, length: str) -> None:
        """A few uploads over HTTP/2 that begin and do not go on."""
        command = ["curl", "-sSN", "--http2", "--cacert", str(proxy.certificate), "-X", "POST", "-T", "-"]
        command += ["-H", "Content-Type: application/json", *length.split("|"), proxy.url + TASKS]
        for _ in range(4):
            upload = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            self.addCleanup(upload.wait)
            self.addCleanup(upload.kill)
            assert upload.stdin is not None
            self.addCleanup(upload.stdin.close)
            upload.stdin.write(b'{"title": "half')
            upload.stdin.flush()

    def assert_served(self, server: GunicornServer, proxy: Nginx | Caddy) -> None:
        """The app answers, by itself and through the proxy."""
        self.assertEqual(request("GET", server.url + "/healthz", timeout=5).status, 200)
        trust = ["--cacert", str(proxy.certificate), "--max-time", "5"]
        body = ["--json", '{"title": "whole"}', "-o", "/dev/null", "-w", "%{http_code}"]
        self.assertEqual(curl(*trust, *body, proxy.url + TASKS), "201")

    def proxies(self, changes: Mapping[str, dict[str, str]] | None = None) -> dict[str, Nginx | Caddy]:
        """Both, before the app that listens at the socket, with changes to their files."""
        changes = changes or {}
        return {
            "nginx": self.proxy(changes=changes.get("nginx")),
            "caddy": enter(self, Caddy(self.directory, f"unix/{self.socket}", changes=changes.get("caddy"))),
        }

    HEAD = f"POST {TASKS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
    STALLS = (
        ("half a head", HEAD[:40]),
        ("a body of a known length", HEAD + b'Content-Length: 50\r\n\r\n{"title": "half'),
        ("a chunked body", HEAD + b'Transfer-Encoding: chunked\r\n\r\n50\r\n{"title": "half'),
    )

    def test_what_stalls_at_the_proxy_holds_no_thread_of_the_app(self) -> None:
        server = self.serve("--threads", "4")
        for name, proxy in self.proxies().items():
            for kind, text in self.STALLS:
                with self.subTest(proxy=name, kind=kind):
                    self.stall(proxy, text)
                    self.assert_served(server, proxy)
            for length in ("-H|Content-Length: 50", "-H|X-Length: unknown"):
                with self.subTest(proxy=name, over="HTTP/2", length=length):
                    self.stall_over_http2(proxy, length)
                    self.assert_served(server, proxy)

    def test_a_proxy_ends_what_stalls(self) -> None:
        short = {
            "nginx": {
                "client_header_timeout 10s": "client_header_timeout 1s",
                "client_body_timeout 10s": "client_body_timeout 1s",
            },
            "caddy": {"read_header 10s": "read_header 1s", "read_body 1m": "read_body 1s"},
        }
        server = self.serve()
        for name, proxy in self.proxies(short).items():
            for kind, text in self.STALLS:
                with self.subTest(proxy=name, kind=kind):
                    connection = self.connect(proxy)
                    connection.sendall(text)
                    while connection.recv(4096):  # an answer, or none; then the end
                        pass
            # A stream lives on, and so does a request that waits for its answer.
            with CurlStream(proxy.url + EVENTS, proxy.certificate, "--http1.1") as stream:
                stream.wait_for_id()
                poll = f"{proxy.url}{EVENTS}?wait=3"
                trust = ["--http1.1", "--cacert", str(proxy.certificate), "-H", "Accept: application/json"]
                self.assertEqual(json.loads(curl(*trust, poll))["events"], [])
                post(server.url, "Still there")
                self.assertIn("Still there", stream.next_event().data)

    def test_bodies_of_all_sizes_arrive_whole_or_are_refused(self) -> None:
        self.serve()
        for name, proxy in self.proxies().items():
            for size, expected in (
                (20, "201"),
                (60_000, "201"),
                (65_536, "201"),
                (65_537, "413"),
                (99_000, "413"),
            ):
                path = self.directory / f"{name}-{size}.json"
                text = json.dumps({"title": f"{name} {size}"})
                path.write_text(text + " " * (size - len(text)))
                for version in ("--http1.1", "--http2"):
                    for more in ((), ("-H", "Transfer-Encoding: chunked")) if version == "--http1.1" else ((),):
                        with self.subTest(proxy=name, size=size, version=version, more=more):
                            self.assertEqual(self.upload(proxy, path, version, *more), expected)

    def upload(self, proxy: Nginx | Caddy, path: Path, *args: str) -> str:
        kind = ["-H", "Content-Type: application/json", "--data-binary", f"@{path}", *args]
        show = ["-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(proxy.certificate)]
        return curl(*kind, *show, proxy.url + TASKS)


class HostsTest(DeployTest):
    def test_behind_a_proxy_its_name_is_served_and_no_other(self) -> None:
        (name,) = re.findall(r"^SSE_THREADED_HOSTS=(.*)$", (DEPLOY / "sse-threaded.env").read_text(), re.MULTILINE)
        for file in ("nginx.conf", "Caddyfile"):
            self.assertIn(name, (DEPLOY / file).read_text())
        server = self.serve(SSE_THREADED_HOSTS=name)
        caddy = enter(self, Caddy(self.directory, f"unix/{self.socket}"))
        show = ["-k", "-o", "/dev/null", "-w", "%{http_code}"]
        for proxy in (self.proxy(), self.proxy(f"127.0.0.1:{server.port}"), caddy):
            for host, expected in ((name, "200"), ("localhost", "200"), ("rebound.example", "421")):
                # Caddy has nothing for a name that is not in its file, and says so without the app.
                if isinstance(proxy, Caddy) and expected == "421":
                    continue
                with self.subTest(proxy=type(proxy).__name__, host=host):
                    way = ["--resolve", f"{host}:{proxy.port}:127.0.0.1"]
                    said = curl(*show, *way, f"https://{host}:{proxy.port}/boards/board-1")
                    self.assertEqual(said, expected)
                    said = curl(*show, *way, "-I", f"https://{host}:{proxy.port}{EVENTS}")
                    self.assertEqual(said, expected)

    def test_without_the_variable_a_unix_socket_serves_all_names_and_localhost_its_own(self) -> None:
        server = self.serve()
        show = ["-o", "/dev/null", "-w", "%{http_code}"]
        unix = ["--unix-socket", str(self.socket), "http://board.example"]
        self.assertEqual(curl(*show, *unix[:-1], unix[-1] + "/boards/board-1"), "200")
        for host, expected in (("localhost:1", 200), ("[::1]", 200), ("board.example", 421)):
            with self.subTest(host=host):
                reply = request("GET", server.url + "/boards/board-1", headers={"Host": host})
                self.assertEqual(reply.status, expected)

    def test_a_page_that_has_its_name_lead_here_can_read_nothing(self) -> None:
        server = self.serve()
        rebound = f"http://rebound.example:{server.port}"
        with chromium(1280, 800, "--host-resolver-rules=MAP rebound.example 127.0.0.1") as browser:
            browser.get(rebound + "/boards/board-1")
            wait_for(browser, "document.body.innerText.includes('SSE_THREADED_HOSTS')")
            # From its own origin, as the page of the site would do it.
            read = """
                const [path, done] = arguments;
                fetch(path).then((answer) => answer.text()).then(done, (error) => done(String(error)));
            """
            for path in ("/boards/board-1", EVENTS, "/healthz", "/static/board.js"):
                with self.subTest(path=path):
                    told = json.loads(browser.execute_async_script(read, path))
                    self.assertEqual(told["status"], 421)

    def test_a_setting_that_is_no_name_is_refused_at_the_start(self) -> None:
        with self.assertRaisesRegex(ServerFailed, "Cannot start: SSE_THREADED_HOSTS='https://board.example'"):
            self.serve(SSE_THREADED_HOSTS="https://board.example")


if __name__ == "__main__":
    unittest.main()
