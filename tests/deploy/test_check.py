"""``sse-threaded check`` against the real nginx, Caddy and HAProxy, set up rightly and wrongly."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
import unittest
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from sse_threaded.check.findings import findings
from sse_threaded.check.probes import Check, Post, Settings
from sse_threaded.check.target import Target
from sse_threaded.cli import main
from sse_threaded.testing import GunicornServer
from tests.harness.caddy_server import Caddy
from tests.harness.certificate import certificate
from tests.harness.nginx_server import Nginx
from tests.harness.server_program import ServerProgram, answers_http
from tests.support import CHECKOUT, ROOT, enter, free_port, missing, sqlite_url, temporary_directory

ONCE = True  # it says the same under every Python

HERE = Path(__file__).parent
BODY = '{"title": "{stamp}"}'
ORIGIN = "https://app.example"

# Seconds. The heartbeats of the app that has many, and how long the check listens.
HEARTBEAT = 0.4
WAIT = 2.0
SECONDS = 30.0

# Checks that run at the same time. Most of their time they wait.
AT_ONCE = 10


@dataclass(frozen=True)
class Way:
    """One way to set a proxy up wrongly.

    :ivar codes: what the check must find, beside the note that there is no HTTP/2.
    :ivar config: lines of the proxy's configuration, for one path.
    :ivar is_quiet: whether the app behind it sends no heartbeat.
    :ivar publishes: whether the check publishes events.
    :ivar origin: whether it asks as a page of ``ORIGIN``; ``fields`` are its further fields.
    :ivar wait: how long it listens, seconds.
    """

    codes: set[str]
    config: str
    is_quiet: bool = False
    publishes: bool = False
    origin: bool = False
    fields: Mapping[str, str] | None = None
    wait: float = WAIT


NGINX = {
    "right": Way(set(), "", publishes=True),
    "right-origin": Way(set(), "", origin=True),
    # With HTTP/1.1 towards the app nginx would pass on each chunk.
    "ignores-the-app": Way({"silent"}, "proxy_http_version 1.0; proxy_ignore_headers X-Accel-Buffering;"),
    "compresses": Way({"compressed"}, "gzip on; gzip_types text/event-stream; gzip_min_length 0;"),
    "short-time-out": Way({"idle-timeout"}, "proxy_read_timeout 2s;", is_quiet=True, wait=5.0),
    "other-type": Way({"content-type"}, "proxy_hide_header Content-Type; add_header Content-Type text/plain;"),
    "other-charset": Way(
        {"charset"},
        'proxy_hide_header Content-Type; add_header Content-Type "text/event-stream; charset=iso-8859-1";',
    ),
    "lets-cache": Way({"cacheable"}, "proxy_hide_header Cache-Control; expires 1h;"),
    "login": Way({"login"}, "return 302 /login-page;"),
    "moved": Way({"redirected"}, "return 307 /right;"),
    "loop": Way({"redirect-loop"}, "return 301 /loop;"),
    "forbidden": Way({"status"}, "deny all;"),
    "forgets-the-id": Way({"resume"}, 'proxy_set_header Last-Event-ID "";', publishes=True),
    "allows-nothing": Way({"cors"}, "proxy_hide_header Access-Control-Allow-Origin;", origin=True),
    "allows-twice": Way({"cors"}, f"add_header Access-Control-Allow-Origin {ORIGIN};", origin=True),
    "no-head": Way({"head"}, "if ($request_method = HEAD) { return 500; }"),
    "slow-farewell": Way({"slow-farewell"}, ""),
    "no-farewell": Way({"no-farewell"}, ""),
}

# By default Caddy compresses only streams whose first piece has 512 bytes.
COMPRESSING = """encode {
            gzip
            minimum_length 1
        }"""

CADDY = {
    "right": Way(set(), "", publishes=True),
    "compresses": Way({"compressed", "buffered"}, ""),
    "collects": Way({"silent"}, "buffer_responses"),
    # Caddy ends the answer as if it were complete, so only a longer silence shows the time-out.
    "short-time-out": Way({"idle-timeout"}, "transport http {\n read_timeout 6s\n }", is_quiet=True, wait=9.0),
    "other-type": Way({"content-type"}, 'header_down Content-Type "application/octet-stream"'),
    "lets-cache": Way({"cacheable"}, 'header_down Cache-Control "public, max-age=600"'),
    "login": Way({"login"}, "handle_response {\n redir * /login-page\n }"),
    "old-answer": Way({"cached"}, 'header_down Age "30"'),
    "forgets-the-id": Way({"resume"}, "header_up -Last-Event-ID", publishes=True),
    "allows-everyone": Way(
        {"cors-any-origin"},
        "header_up Origin https://app.example\n"
        "header_down Access-Control-Allow-Origin {http.request.header.Origin}\n"
        "header_down Access-Control-Allow-Credentials true",
        origin=True,
    ),
}

HAPROXY = {
    "right": Way(set(), "", publishes=True),
    "obeys-no-transform": Way(set(), "compression algo gzip\ncompression type text/event-stream"),
    "transformable-compresses": Way(
        {"compressed", "transformable"}, "compression algo gzip\ncompression type text/event-stream"
    ),
    "collects": Way({"silent"}, "http-response wait-for-body time 30s at-least 100000"),
    "short-time-out": Way({"idle-timeout"}, "timeout server 2s", is_quiet=True, wait=5.0),
    "no-type": Way({"content-type"}, "http-response del-header Content-Type"),
    "no-field": Way({"accel-buffering"}, "http-response del-header X-Accel-Buffering"),
    "login": Way({"login"}, "http-request redirect location /login-page code 302"),
    "wrong-clock": Way({"clock"}, 'http-response set-header Date "Mon, 01 Jan 2001 00:00:00 GMT"'),
    "forgets-the-id": Way({"resume"}, "http-request del-header Last-Event-ID", publishes=True),
    "login-for-preflight": Way(
        {"cors-preflight"},
        "http-request deny deny_status 401 if METH_OPTIONS",
        origin=True,
        fields={"Authorization": "Bearer secret"},
    ),
}


# Of docs/check.md, for a backend whose server is down.
COME_BACK = (
    "http-request return status 200 content-type text/event-stream "
    r'string "retry: 5000\nevent: stream-unavailable\ndata: {}\n\n" if { nbsrv eq 0 }'
)


def program(name: str) -> str:
    """The path of a proxy, or the test ends."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        missing(f"{name} (apt-get install {name})")
    return found


NGINX_ARGUMENTS = ("-p", ".", "-e", "stderr", "-c", "config")


def nginx_config(port: int, locations: str, servers: str = "") -> str:
    """The configuration of an nginx on a port, and further servers of it."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return f"""
        {"user root;" if os.geteuid() == 0 else ""}
        daemon off; pid FOLDER/pid; error_log FOLDER/error.log; events {{ }}
        http {{
            {"".join(f"{kind}_temp_path FOLDER/{kind};" for kind in kinds)}
            access_log off;
            server {{
                listen 127.0.0.1:{port};
                location = /healthz {{ return 200 ok; }}
                location = /login-page {{ default_type text/html; return 200 "<form></form>"; }}
                {locations}
            }}
            {servers}
        }}
    """


class CheckCase(unittest.TestCase):
    """Two apps, one with heartbeats and one without."""

    apps: ClassVar[dict[bool, GunicornServer]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.apps = {}
        args = ["-k", "sse_threaded.worker.ThreadWorker", "--threads", "8", "--worker-connections", "500"]
        for is_quiet, heartbeat in ((False, HEARTBEAT), (True, 600)):
            server = GunicornServer("check_app:app", args=args, env={"HEARTBEAT": str(heartbeat)}, cwd=HERE)
            cls.apps[is_quiet] = server.__enter__()
            cls.addClassCleanup(server.__exit__, None, None, None)

    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        enter(self, mock.patch("sse_threaded.check.probes._PATIENCE", 3.0))
        enter(self, mock.patch("sse_threaded.check.probes._GLANCE", 0.5))

    def start(self, name: str, config: str, arguments: Sequence[str], port: int) -> str:
        """Start a proxy with a configuration of its own; returns its URL."""
        directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))
        (directory / "config").write_text(config.replace("FOLDER", str(directory)), encoding="utf-8")
        url = f"http://127.0.0.1:{port}"
        command = [program(name), *arguments]
        env = {**os.environ, "HOME": str(directory), "XDG_DATA_HOME": str(directory)}
        enter(self, ServerProgram(name, command, directory, answers_http(f"{url}/healthz"), env=env))
        return url

    def upstream(self, way: Way) -> str:
        return f"127.0.0.1:{self.apps[way.is_quiet].port}"

    def codes(self, url: str, way: Way) -> set[str]:
        """The findings of a check, without those of every server that has no TLS."""
        target = Target.of(url)
        settings = Settings(
            way.fields or {},
            ORIGIN if way.origin else None,
            way.wait,
            Post(target, BODY) if way.publishes else None,
        )
        return {finding.code for finding in findings(Check(target, settings).run())} - {"http1"}

    def check(self, url: str, ways: Mapping[str, Way]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = {name: pool.submit(self.codes, f"{url}/{name}", way) for name, way in ways.items()}
        for name, way in ways.items():
            with self.subTest(name):
                self.assertEqual(found[name].result(), way.codes)


class WrongProxyTest(CheckCase):
    def test_nginx(self) -> None:
        def version(way: Way) -> str:
            return "" if "proxy_http_version" in way.config else "proxy_http_version 1.1;"

        locations = "\n".join(
            f"location = /{name} {{ proxy_pass http://{self.upstream(way)}; {version(way)} {way.config} }}"
            for name, way in NGINX.items()
        )
        port = free_port()
        self.check(self.start("nginx", nginx_config(port, locations), NGINX_ARGUMENTS, port), NGINX)

    def test_caddy(self) -> None:
        handles = "\n".join(
            f"""
    handle /{name} {{
        {COMPRESSING if name == "compresses" else ""}
        reverse_proxy {self.upstream(way)} {{
            {way.config}
        }}
    }}"""
            for name, way in CADDY.items()
        )
        port = free_port()
        config = f"""
{{
    admin off
    auto_https off
}}
http://:{port} {{
    bind 127.0.0.1
    handle /healthz {{
        respond ok
    }}
    handle /login-page {{
        header Content-Type text/html
        respond form
    }}
{handles}
}}
"""
        self.check(
            self.start("caddy", config, ["run", "--config", "config", "--adapter", "caddyfile"], port), CADDY
        )

    def test_haproxy(self) -> None:
        port, dead = free_port(), free_port()
        choices = "\n".join(f"use_backend {name} if {{ path /{name} }}" for name in HAPROXY)
        backends = "\n".join(
            f"backend {name}\n{way.config}\nserver app {self.upstream(way)}\n" for name, way in HAPROXY.items()
        )
        config = f"""
defaults
    mode http
    timeout connect 5s
    retries 0
    timeout client 60s
    timeout server 60s
frontend all
    bind 127.0.0.1:{port}
    acl is_noticed nbsrv(come-back) eq 0
    http-request return status 200 content-type text/plain string ok if {{ path /healthz }} is_noticed
    http-request return status 200 content-type text/html string form if {{ path /login-page }}
{choices}
    use_backend no-server if {{ path /no-server }}
    use_backend come-back if {{ path /come-back }}
{backends}
backend no-server
    server app 127.0.0.1:{dead}
backend come-back
    {COME_BACK}
    server app 127.0.0.1:{dead} check inter 100ms fall 1
"""
        ways = {**HAPROXY, "no-server": Way({"status"}, ""), "come-back": Way({"unavailable"}, "")}
        self.check(self.start("haproxy", config, ["-db", "-f", "config"], port), ways)

    def test_the_page_has_the_line_for_haproxy(self) -> None:
        self.assertIn(COME_BACK, (CHECKOUT / "docs" / "check.md").read_text(encoding="utf-8"))

    def test_there_are_enough_ways(self) -> None:
        codes = {code for ways in (NGINX, CADDY, HAPROXY) for way in ways.values() for code in way.codes}
        self.assertGreaterEqual(len(codes), 18)


class TLSTest(CheckCase):
    def tls_codes(self, port: int, authority: Path | None) -> set[str]:
        target = Target.of(f"https://localhost:{port}/events")
        settings = Settings(wait=WAIT, authorities=str(authority) if authority else None)
        return {finding.code for finding in findings(Check(target, settings).run())}

    def test_certificates(self) -> None:
        now = datetime.now(timezone.utc)
        day = timedelta(days=1)
        kinds: dict[str, tuple[set[str], str, dict[str, Any]]] = {
            "right": (set(), "http2", {}),
            "without-http2": ({"http1"}, "", {}),
            "expired": ({"certificate-expired"}, "http2", {"begin": now - 90 * day, "end": now - day}),
            "of-tomorrow": ({"certificate-expired"}, "http2", {"begin": now + day, "end": now + 90 * day}),
            "ends-soon": ({"certificate-soon"}, "http2", {"begin": now - 85 * day, "end": now + 5 * day}),
            "other-name": ({"certificate-name"}, "http2", {"name": "other.example"}),
        }
        servers, ports, files = [], {}, {}
        for kind, (_, flag, options) in kinds.items():
            folder = self.directory / kind
            folder.mkdir()
            files[kind], key = certificate(folder, **options)
            ports[kind] = free_port()
            servers.append(
                f"""server {{
                    listen 127.0.0.1:{ports[kind]} ssl {flag};
                    ssl_certificate {files[kind]}; ssl_certificate_key {key};
                    location / {{
                        proxy_pass http://127.0.0.1:{self.apps[False].port};
                        proxy_http_version 1.1; proxy_set_header Connection "";
                    }}
                }}"""
            )
        plain = free_port()
        self.start("nginx", nginx_config(plain, "", "\n".join(servers)), NGINX_ARGUMENTS, plain)
        expected = {kind: (codes, ports[kind], files[kind]) for kind, (codes, _, _) in kinds.items()}
        cases: dict[str, tuple[set[str], int, Path | None]] = {
            **expected,
            "unknown-authority": ({"certificate-untrusted"}, ports["right"], None),
            "no-tls": ({"tls"}, plain, None),
        }
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = {name: pool.submit(self.tls_codes, port, file) for name, (_, port, file) in cases.items()}
        for name, (codes, _, _) in cases.items():
            with self.subTest(name):
                self.assertEqual(found[name].result(), codes)


class DeployTest(unittest.TestCase):
    """Nothing is said against the files in deploy/."""

    def setUp(self) -> None:
        self.directory = temporary_directory(self)
        self.directory.chmod(0o755)  # nginx's processes have another user
        self.socket = self.directory / "app.sock"
        env = {
            "SSE_THREADED_URL": sqlite_url(self.directory),
            "SSE_THREADED_PROXIES": "1",
            "SSE_THREADED_HEARTBEAT": str(HEARTBEAT),
        }
        config = ROOT / "deploy" / "gunicorn.conf.py"
        args = ("-w", "1", "-b", f"unix:{self.socket}")
        self.app = enter(self, GunicornServer(config=config, args=args, env=env, cwd=self.directory))

    def run_check(self, url: str, certificate: Path) -> tuple[int, dict[str, Any]]:
        board = f"{url}/boards/board-1"
        options = ["--cacert", str(certificate), "--post", f"{board}/tasks", BODY, "--json"]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            status = main(["check", f"{board}/events", *options])
        return status, json.loads(output.getvalue())

    def check_right(self, proxy: Caddy | Nginx) -> None:
        status, shown = self.run_check(proxy.url, proxy.certificate)
        self.assertEqual((status, shown["findings"]), (0, []))
        self.assertIs(shown["measured"]["http2"], True)
        self.assertIsNotNone(shown["measured"]["delivery_ms"])
        self.assertIsNotNone(shown["measured"]["heartbeat_s"])

    def test_nginx(self) -> None:
        nginx = enter(self, Nginx(self.directory, f"unix:{self.socket}"))
        self.check_right(nginx)
        self.app.kill()
        status, shown = self.run_check(nginx.url, nginx.certificate)
        self.assertEqual((status, [finding["code"] for finding in shown["findings"]]), (1, ["unavailable"]))

    def test_caddy(self) -> None:
        self.check_right(enter(self, Caddy(self.directory, f"unix/{self.socket}")))

    def test_a_reload_during_the_check(self) -> None:
        nginx = enter(self, Nginx(self.directory, f"unix:{self.socket}"))
        reloads: list[str] = []

        def progress(words: str, *_: float) -> None:
            if words.startswith("listening") and not reloads:
                reloads.append(words)
                self.app.hup()

        target = Target.of(f"{nginx.url}/boards/board-1/events")
        settings = Settings(wait=SECONDS, authorities=str(nginx.certificate))
        found = findings(Check(target, settings, progress).run())
        self.assertEqual([finding.code for finding in found], ["ended"])


if __name__ == "__main__":
    unittest.main()
