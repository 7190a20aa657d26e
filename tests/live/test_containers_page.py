"""The code and the configuration of docs/containers.md, as they stand there, in namespaces like a container's."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest
from typing import Any

from sse_threaded import Hub
from sse_threaded.testing import EventStreamClient, GunicornServer, request
from tests.harness.container import Container, command_of_dockerfile, process_1
from tests.harness.django_project import page_block, page_blocks
from tests.harness.server_program import ServerProgram
from tests.support import CHECKOUT, enter, missing, temporary_directory

try:
    import yaml
except ImportError:
    yaml = None

ONCE = True  # it says the same under every Python

_SECONDS = 60
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def documents(sign: str) -> list[Any]:
    """The documents of the YAML block with this text in it."""
    if yaml is None:
        missing("yaml (pip install pyyaml)")
    return list(yaml.safe_load_all(page_block("containers.md", sign, "yaml")))


def settings() -> dict[str, Any]:
    """The settings of gunicorn on the page."""
    names: dict[str, Any] = {}
    exec(page_block("containers.md", "worker_tmp_dir"), names)
    return names


def seconds(text: str) -> int:
    """The seconds of a time such as ``30s``."""
    return int(text.removesuffix("s"))


class ContainerCase(unittest.TestCase):
    def setUp(self) -> None:
        if shutil.which("unshare") is None:
            missing("unshare (apt-get install util-linux)")
        self.container = Container(temporary_directory(self))
        self.command = command_of_dockerfile()

    def start(self, command: list[str], **options: bool) -> tuple[ServerProgram, str]:
        server, url = self.container.run(command, **options)
        return enter(self, server), url

    def open(self, url: str) -> EventStreamClient:
        client = enter(self, EventStreamClient(f"{url}/orders/events"))
        client.wait_for_retry()
        return client

    def order(self, url: str, item: str) -> None:
        self.assertEqual(request("POST", f"{url}/orders", body=f"item={item}".encode(), headers=_FORM).status, 201)

    def item(self, client: EventStreamClient) -> str:
        return str(json.loads(client.next_event().data)["item"])


class SignalTest(ContainerCase):
    def ends_well(self, command: list[str]) -> None:
        server, url = self.start(command)
        client = self.open(url)
        os.kill(process_1(server), signal.SIGTERM)
        client.wait_for_end()
        self.assertTrue(client.complete)
        self.assertIn(b"event: stream-end\n", client.raw)
        self.assertEqual(server.wait(), 0)

    def script(self, text: str) -> list[str]:
        path = self.container.folder / "entrypoint.sh"
        path.write_text(text)
        path.chmod(0o755)
        return [str(path)]

    def test_as_pid_1_it_ends_its_streams_on_sigterm(self) -> None:
        self.ends_well(self.command)

    def test_behind_a_script_that_ends_with_exec(self) -> None:
        text = page_block("containers.md", "exec gunicorn", "sh")
        self.assertIn(" ".join(self.command), text)
        self.ends_well(self.script(text))

    def test_a_shell_that_waits_keeps_the_signal(self) -> None:
        text = page_block("containers.md", "exec gunicorn", "sh").replace("exec gunicorn", "gunicorn") + "exit\n"
        server, url = self.start(self.script(text))
        client = self.open(url)
        os.kill(process_1(server), signal.SIGTERM)
        self.order(url, "tea")  # it goes on as before
        self.assertEqual(self.item(client), "tea")
        server.kill()  # as after the grace period
        client.wait_for_end()
        self.assertFalse(client.complete)
        self.assertNotIn(b"stream-end", client.raw)

    def test_the_script_needs_the_variable(self) -> None:
        script = self.script(page_block("containers.md", "exec gunicorn", "sh"))
        env = {name: value for name, value in os.environ.items() if name != "EVENTS_URL"}
        done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=_SECONDS, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("EVENTS_URL: must be set", done.stderr)


class ReadOnlyTest(ContainerCase):
    def test_one_writable_folder_is_enough(self) -> None:
        _, url = self.start(self.command, read_only=True)
        client = self.open(url)
        self.order(url, "tea")
        self.assertEqual(self.item(client), "tea")
        self.assertEqual(request("GET", f"{url}/healthz").status, 200)
        self.assertFalse((self.container.folder / "written").exists())
        names = {path.name for path in self.container.data.iterdir()}
        self.assertEqual(names, {"events.db", "events.db-wal", "events.db-shm", "events.db-bells"})

    def test_without_worker_tmp_dir_it_does_not_start(self) -> None:
        text = re.sub(
            r"^worker_tmp_dir.*\n", "", page_block("containers.md", "worker_tmp_dir"), flags=re.MULTILINE
        )
        (self.container.folder / "gunicorn.conf.py").write_text(text)
        server, _ = self.container.run(self.command, read_only=True)
        with self.assertRaisesRegex(AssertionError, "No usable temporary directory"), server:
            pass


class VolumeTest(ContainerCase):
    def test_two_containers_over_one_volume_wake_each_other(self) -> None:
        (_, first), (_, second) = [self.start(self.command) for _ in range(2)]
        client = self.open(second)
        for item in ("tea", "milk"):
            self.order(first, item)
            self.assertEqual(self.item(client), item)


class AppTest(unittest.TestCase):
    def test_its_probes(self) -> None:
        container = Container(temporary_directory(self))
        env = {"EVENTS_URL": container.log_url}
        args = ["-c", "gunicorn.conf.py"]
        server = enter(self, GunicornServer("app:app", args=args, cwd=container.folder, env=env))
        self.assertEqual(request("GET", f"{server.url}/livez").status, 200)
        answer = request("GET", f"{server.url}/healthz")
        self.assertEqual(answer.status, 200)
        with Hub(container.log_url) as hub:
            self.assertEqual(answer.json()["log"]["lastEventId"], hub.log.last_event_id())
        (compose,) = documents("build: .\n    ports")
        kind, python, *words = compose["services"]["app"]["healthcheck"]["test"]
        self.assertEqual((kind, python), ("CMD", "python"))
        check = [sys.executable, *(word.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}") for word in words)]
        for url, status in ((server.url, 0), ("http://127.0.0.1:1", 1)):
            with self.subTest(url):
                command = [word.replace(server.url, url) for word in check]
                done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
                self.assertEqual(done.returncode, status, done.stderr)


class ConfigurationTest(unittest.TestCase):
    """The files of the page fit together."""

    def setUp(self) -> None:
        self.settings = settings()
        (self.compose,) = documents("build: .\n    ports")
        (self.replicas,) = documents("replicas: 3\n    read_only")
        self.deployment, self.service = documents("kind: Deployment")
        (self.route,) = documents("kind: HTTPRoute")
        self.pod = self.deployment["spec"]["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.port = int(self.settings["bind"].rpartition(":")[2])

    def test_the_dockerfile(self) -> None:
        lines = dict(line.split(" ", 1) for line in page_block("containers.md", "FROM", "dockerfile").splitlines())
        name, _, url = lines["ENV"].partition("=")
        self.assertEqual((name, url.rpartition("/")[0]), ("EVENTS_URL", f"sqlite:///{lines['VOLUME']}"))
        self.assertEqual(int(lines["EXPOSE"]), self.port)
        self.assertIn(f"-o {lines['USER']} -g {lines['USER']} {lines['VOLUME']}", lines["RUN"])
        self.assertEqual(self.pod["securityContext"]["runAsUser"], int(lines["USER"]))
        self.assertNotIn("STOPSIGNAL", lines)

    def test_the_times(self) -> None:
        graceful = self.settings["graceful_timeout"]
        for compose in (self.compose, self.replicas):
            self.assertGreater(seconds(compose["services"]["app"]["stop_grace_period"]), graceful)
        _, before = self.container["lifecycle"]["preStop"]["exec"]["command"]
        self.assertGreaterEqual(self.pod["terminationGracePeriodSeconds"], int(before) + graceful + 5)

    def test_ports_and_names(self) -> None:
        (port,) = self.container["ports"]
        self.assertEqual(port["containerPort"], self.port)
        (service,) = self.service["spec"]["ports"]
        self.assertEqual(service["targetPort"], port["name"])
        labels = self.deployment["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(self.deployment["spec"]["selector"]["matchLabels"], labels)
        self.assertEqual(self.service["spec"]["selector"], labels)
        ((backend,),) = [rule["backendRefs"] for rule in self.route["spec"]["rules"]]
        self.assertEqual(backend, {"name": self.service["metadata"]["name"], "port": service["port"]})
        self.assertEqual(self.compose["services"]["app"]["ports"], [f"{self.port}:{self.port}"])

    def test_probes_ask_for_routes_of_the_app(self) -> None:
        routes = re.findall(r'@app\.get\("(.*?)"\)', page_block("containers.md", "def is_alive"))
        paths = {}
        for name in ("startup", "readiness", "liveness"):
            probe = self.container[f"{name}Probe"]["httpGet"]
            self.assertEqual(probe["port"], self.container["ports"][0]["name"])
            paths[name] = probe["path"]
        self.assertLessEqual(set(paths.values()), set(routes))
        self.assertEqual(paths, {"startup": "/healthz", "readiness": "/livez", "liveness": "/livez"})

    def test_what_must_be_writable(self) -> None:
        self.assertEqual(self.settings["worker_tmp_dir"], "/dev/shm")
        self.assertTrue(self.container["securityContext"]["readOnlyRootFilesystem"])
        mounts = {mount["name"] for mount in self.container["volumeMounts"]}
        self.assertEqual(mounts, {volume["name"] for volume in self.pod["volumes"]})
        app = self.compose["services"]["app"]
        self.assertTrue(app["read_only"])
        volume, _, place = app["volumes"][0].partition(":")
        self.assertIn(volume, self.compose["volumes"])
        self.assertEqual(app["environment"]["EVENTS_URL"].rpartition("/")[0], f"sqlite:///{place}")
        self.assertGreaterEqual(app["ulimits"]["nofile"], self.settings["worker_connections"] + 200)

    def test_a_limit_on_the_whole_answer_is_longer_than_the_lease(self) -> None:
        rows = re.findall(r"^\|.*for the whole answer in some kinds \| (\d+) \|$", self.page(), re.MULTILINE)
        self.assertGreater(int(rows[0]), 900)
        self.assertEqual([rule["timeouts"]["request"] for rule in self.route["spec"]["rules"]], ["0s"])

    def page(self) -> str:
        return (CHECKOUT / "docs" / "containers.md").read_text(encoding="utf-8")

    def test_each_block_has_a_test_here(self) -> None:
        counts = {language: len(page_blocks("containers.md", language)) for language in ("python", "sh", "yaml")}
        self.assertEqual(counts, {"python": 2, "sh": 1, "yaml": 4})


if __name__ == "__main__":
    unittest.main()
