"""The configurations of docs/proxies.md: the real HAProxy and the real Apache in front of the real gunicorn."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import unittest
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sse_threaded.testing import GunicornServer, request
from tests.harness.certificate import certificate
from tests.harness.curl_stream import CurlStream
from tests.harness.django_project import page_block
from tests.harness.server_program import ServerProgram
from tests.support import ROOT, enter, free_port, missing, temporary_directory, wait_until

ONCE = True  # it says the same under every Python

_SECONDS = 60

APP = """
from sse_threaded import Hub
from werkzeug import Request, Response

hub = Hub(heartbeat=0.5)

@Request.application
def app(web):
    if web.path == "/events":
        return hub.stream(web, "a")
    if web.path == "/publish":
        return Response(hub.publish("a", "hello"))
    fields = {name: web.headers.get(name) for name in ("X-Forwarded-For", "X-Forwarded-Proto")}
    return Response(__import__("json").dumps({"streams": hub.streams, **fields}))
"""

MODULES = """
ServerName localhost
PidFile {folder}/pid
Mutex file:{folder} default
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule socache_shmcb_module {modules}/mod_socache_shmcb.so
LoadModule ssl_module {modules}/mod_ssl.so
LoadModule http2_module {modules}/mod_http2.so
"""


class ProxyCase(unittest.TestCase):
    """A proxy on :attr:`port`, in front of an app."""

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        (self.folder / "app.py").write_text(APP)
        self.chain, self.key = certificate(self.folder)
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.context = ssl.create_default_context(cafile=str(self.chain))
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "4"]
        self.app = enter(self, GunicornServer("app:app", args=args, cwd=self.folder))

    def configured(self, text: str, **paths: object) -> str:
        """A configuration of the page, with this test's addresses and files."""
        changes = {"127.0.0.1:8000": f"127.0.0.1:{self.app.port}", **paths}
        for old, new in changes.items():
            self.assertIn(old, text)
            text = text.replace(old, str(new))
        return text

    def start(self, name: str, *command: str) -> None:
        enter(self, ServerProgram(name, command, self.folder, self.answers))

    def get(self, path: str, **fields: str) -> dict[str, object]:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        with urlopen(Request(self.url + path, headers=headers), timeout=_SECONDS, context=self.context) as answer:
            found: dict[str, object] = json.loads(answer.read())
        return found

    def answers(self) -> bool:
        try:
            return "streams" in self.get("/")
        except OSError:
            return False

    def streams_pass(self) -> None:
        with CurlStream(f"{self.url}/events", self.chain) as stream:
            stream.wait_for_id()
            self.assertIn("http/2 200", stream.head)
            for _ in range(3):
                request("GET", f"{self.app.url}/publish")
                self.assertEqual(stream.next_event().data, "hello")
            stream.wait_for(lambda: stream.raw.count(b": heartbeat\n") >= 2, "heartbeats")
            self.assertEqual(request("GET", self.app.url).json()["streams"], 1)
        wait_until(
            lambda: request("GET", self.app.url).json()["streams"] == 0, timeout=_SECONDS, message="the hang-up"
        )

    def fields_are_overwritten(self) -> None:
        found = self.get("/", X_Forwarded_For="192.0.2.1", X_Forwarded_Proto="gopher")
        self.assertEqual((found["X-Forwarded-For"], found["X-Forwarded-Proto"]), ("127.0.0.1", "https"))


class HAProxyTest(ProxyCase):
    def setUp(self) -> None:
        super().setUp()
        program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
        if program is None:
            missing("haproxy (apt-get install haproxy)")
        both, answer, config = (self.folder / name for name in ("both.pem", "stream.http", "haproxy.cfg"))
        both.write_bytes(self.chain.read_bytes() + self.key.read_bytes())
        answer.write_bytes(page_block("proxies.md", "HTTP/1.0 200", "http").replace("\n", "\r\n").encode())
        # With 20,000 it would need more open files than this machine may allow.
        changes = {
            "/etc/haproxy/board.pem": both,
            "/etc/haproxy/stream.http": answer,
            "maxconn 20000": "maxconn 200",
        }
        text = self.configured(page_block("proxies.md", "frontend", "haproxy"), **changes)
        self.assertIn("bind :443", text)
        config.write_text(text.replace("bind :443", f"bind 127.0.0.1:{self.port}"))
        self.start("haproxy", program, "-db", "-f", str(config))

    def test_streams(self) -> None:
        self.streams_pass()
        self.fields_are_overwritten()

    def test_while_the_app_is_down_streams_get_a_reconnection_time(self) -> None:
        self.app.kill()
        with CurlStream(f"{self.url}/events", self.chain) as stream:
            stream.wait_for_end()
            self.assertIn("http/2 200", stream.head)
            self.assertEqual(stream.raw, b"retry: 5000\r\nevent: stream-unavailable\r\ndata: {}\r\n\r\n")
        with self.assertRaisesRegex(HTTPError, "503"):
            self.get("/")


class ApacheTest(ProxyCase):
    def setUp(self) -> None:
        super().setUp()
        program, modules = shutil.which("apache2", path="/usr/sbin:/usr/bin"), Path("/usr/lib/apache2/modules")
        if program is None or not modules.is_dir():
            missing("apache2 (apt-get install apache2-bin)")
        folder = "/etc/ssl/board.example"
        changes = {
            f"{folder}/fullchain.pem": self.chain,
            f"{folder}/privkey.pem": self.key,
            "*:443": f"*:{self.port}",
        }
        text = self.configured(page_block("proxies.md", "VirtualHost", "apache"), **changes)
        config = self.folder / "apache.conf"
        config.write_text(MODULES.format(folder=self.folder, port=self.port, modules=modules) + text)
        self.start("apache", program, "-D", "FOREGROUND", "-f", str(config))

    def test_streams(self) -> None:
        self.streams_pass()
        self.fields_are_overwritten()

    def test_while_the_app_is_down_the_answer_is_a_503(self) -> None:
        self.app.kill()
        with CurlStream(f"{self.url}/events", self.chain) as stream:
            stream.wait_for_end()
            self.assertIn("http/2 503", stream.head)


class NginxTest(unittest.TestCase):
    def test_the_lines_of_the_page_are_in_the_file(self) -> None:
        page = (ROOT / "docs" / "proxies.md").read_text(encoding="utf-8")
        section = page.partition("## nginx\n")[2].partition("\n## ")[0]
        lines = re.findall(r"^\| `(.+?;)` \|", section, re.MULTILINE)
        self.assertEqual(len(lines), 5)
        file = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
        for line in lines:
            with self.subTest(line):
                self.assertIn(f" {line}\n", file)


if __name__ == "__main__":
    unittest.main()
