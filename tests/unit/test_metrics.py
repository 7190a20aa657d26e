"""Metrics: the numbers of one process, the files of several, and that the pages name each metric."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import threading
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from gunicorn.config import Config
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client, EnvironBuilder

from sse_threaded import Hub, InvalidEvent, LogUnavailable
from sse_threaded.board import create_app
from sse_threaded.board.settings import METRICS, SettingError, operator_networks
from sse_threaded.fanout.stream_state import EndReason
from sse_threaded.gunicorn_hooks import child_exit, on_starting
from sse_threaded.log import MemoryLog
from sse_threaded.metrics import Metrics, MetricsApp
from sse_threaded.metrics_directory import VARIABLE, forget, forget_dead, prepare
from sse_threaded.observer import Cause
from sse_threaded.worker import ThreadWorker
from tests.harness.warm_python import run_python
from tests.support import CHECKOUT, enter, temporary_directory, wait_until

PAGE = CHECKOUT / "docs" / "metrics.md"
ALERTS = CHECKOUT / "deploy" / "prometheus-alerts.yml"
DASHBOARD = CHECKOUT / "deploy" / "grafana.json"


def environ(query: str = "", **values: Any) -> dict[str, Any]:
    return {**EnvironBuilder(f"/?{query}", multithread=True).get_environ(), **values}


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def value_in(text: str, name: str, **labels: str) -> float:
    """The value of one series in the answer to a scrape; 0 if it is not there."""
    for family in families(text).values():
        for sample in family.samples:
            if sample.name == f"sse_threaded_{name}" and sample.labels == labels:
                return float(sample.value)
    return 0.0


class MetricsCase(unittest.TestCase):
    def make_hub(self, **arguments: Any) -> Hub:
        self.metrics = Metrics(CollectorRegistry())
        return enter(self, Hub(observers=[self.metrics], **arguments))

    def scrape(self) -> str:
        response = self.metrics.response(environ())
        self.assertEqual(response.status_code, 200)
        return response.get_data(as_text=True)

    def value(self, name: str, **labels: str) -> float:
        return value_in(self.scrape(), name, **labels)


class ProcessTest(MetricsCase):
    def test_a_stream(self) -> None:
        hub = self.make_hub()
        first = hub.publish("a", 1)
        hub.publish("a", 2)
        body = hub.stream(environ(f"lastEventId={first}"), "a").response
        sizes = [len(next(body)) for _ in range(2)]

        def publish() -> None:
            wait_until(lambda: self.value("replay_events_count"), message="the end of the replay")
            hub.publish("a", 3)

        publisher = threading.Thread(target=publish)
        publisher.start()
        sizes.append(len(next(body)))
        publisher.join()
        self.assertEqual(self.value("streams_open", kind="thread"), 1)
        self.assertEqual(self.value("streams_opened_total", kind="thread"), 1)
        body.close()
        self.assertEqual(self.value("streams_open", kind="thread"), 0)
        self.assertEqual(self.value("streams_ended_total", kind="thread", reason="gone"), 1)
        self.assertEqual(self.value("replay_events_sum"), 1)
        self.assertEqual(self.value("replay_events_count"), 1)
        # The last chunk was not asked beyond.
        self.assertEqual(self.value("events_sent_total", kind="thread"), 1)
        self.assertEqual(self.value("sent_bytes_total", kind="thread"), sizes[1])
        self.assertEqual(self.value("events_read_total"), 1)
        self.assertEqual(self.value("hand_out_duration_seconds_count"), 1)
        wait_until(lambda: self.value("delivery_duration_seconds_count") == 1, message="the delivery")

    def test_publishing(self) -> None:
        hub = self.make_hub()
        hub.publish("a", 1)
        hub.finish("a")
        with self.assertRaises(InvalidEvent):
            hub.publish("", 1)
        self.assertEqual(self.value("events_published_total"), 2)
        self.assertEqual(self.value("publish_duration_seconds_count"), 2)
        self.assertEqual(self.value("publish_errors_total", error="InvalidEvent"), 1)

    def test_refusals_and_resets(self) -> None:
        hub = self.make_hub(max_streams=1)
        first = hub.stream(environ("lastEventId=abcdef-1"), "a").response
        next(first)
        next(first)
        list(hub.stream(environ(), "a").response)
        self.assertEqual(self.value("streams_refused_total", cause="full"), 1)
        self.assertEqual(self.value("resets_total", reason="epoch"), 1)
        self.assertEqual(self.value("streams_limit"), 1)
        first.close()

    def test_events_that_wait(self) -> None:
        hub = self.make_hub()
        bodies = [hub.stream(environ(), "a").response for _ in range(2)]
        for body in bodies:
            next(body)
            body.subscriber or next(body)
        wait_until(lambda: hub.streams == 2, message="two streams")
        for number in range(3):
            hub.publish("a", number)
        wait_until(lambda: self.value("waiting_events") == 6, message="the queues")
        self.assertEqual(self.value("longest_queue_events"), 3)
        for body in bodies:
            body.close()
        self.assertEqual(self.value("waiting_events"), 0)

    def test_the_state_of_the_log(self) -> None:
        hub = self.make_hub()
        hub.publish("a", 1)
        log = {"log": "memory://"}
        self.assertEqual((self.value("log_end", **log), self.value("log_readable", **log)), (1, 1))
        self.assertNotIn("sse_threaded_log_lag_events{", self.scrape())  # no pump runs
        body = hub.stream(environ(), "a").response
        next(body)
        hub.publish("a", 2)
        wait_until(lambda: self.value("log_position", **log) == 2, message="the position")
        self.assertEqual(self.value("log_lag_events", **log), 0)
        with mock.patch.object(MemoryLog, "last_sequence", return_value=7):
            self.assertEqual(self.value("log_lag_events", **log), 5)
        with mock.patch.object(MemoryLog, "last_sequence", side_effect=LogUnavailable("memory://", "broken")):
            text = self.scrape()
        self.assertEqual(value_in(text, "log_readable", **log), 0)
        self.assertNotIn("sse_threaded_log_end{", text)
        body.close()

    def test_all_series_are_there_from_the_beginning(self) -> None:
        self.make_hub()
        text = self.scrape()
        for reason in (*EndReason, "answered"):
            self.assertIn(f'sse_threaded_streams_ended_total{{kind="parked",reason="{reason}"}} 0.0', text)
        for cause in Cause:
            self.assertIn(f'sse_threaded_streams_refused_total{{cause="{cause}"}} 0.0', text)

    def test_several_hubs_share_one(self) -> None:
        first = self.make_hub()
        second = enter(self, Hub(observers=[self.metrics]))
        first.publish("a", 1)
        second.publish("a", 1)
        self.assertEqual(self.value("events_published_total"), 2)
        registry = CollectorRegistry()
        Metrics(registry)
        with self.assertRaisesRegex(ValueError, "give all hubs the same Metrics"):
            Metrics(registry)

    def test_a_closed_hub_hinders_no_scrape(self) -> None:
        hub = self.make_hub()
        hub.publish("a", 1)
        hub.close()
        self.assertEqual(self.value("events_published_total"), 1)

    def test_a_hub_that_is_gone_is_forgotten(self) -> None:
        metrics = Metrics(CollectorRegistry())
        hub = Hub(observers=[metrics])
        hub.close()
        del hub
        gc.collect()
        self.assertEqual(metrics._hubs, ())


class ResponseTest(MetricsCase):
    def test_the_app(self) -> None:
        self.make_hub()
        client = Client(MetricsApp(self.metrics))
        answer = client.get("/")
        self.assertEqual(answer.status_code, 200)
        self.assertTrue(answer.headers["Content-Type"].startswith("text/plain; version="))
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        self.assertIn("# TYPE sse_threaded_streams_open gauge", answer.text)
        self.assertEqual(client.post("/").status_code, 405)

    def test_openmetrics_and_compression_are_prometheus_clients(self) -> None:
        self.make_hub()
        client = Client(MetricsApp(self.metrics))
        answer = client.get("/", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        self.assertTrue(answer.text.endswith("# EOF\n"))
        answer = client.get("/", headers={"Accept-Encoding": "gzip"})
        self.assertEqual(answer.headers["Content-Encoding"], "gzip")

    def test_several_processes_without_a_directory_get_an_error_that_says_what_to_do(self) -> None:
        self.make_hub()
        response = self.metrics.response(environ(**{"wsgi.multiprocess": True}))
        self.assertEqual(response.status_code, 500)
        self.assertIn(VARIABLE, response.get_data(as_text=True))


_PROGRAM = """
import json, os, sys
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from sse_threaded import Hub
from sse_threaded.metrics import Metrics
from werkzeug.test import EnvironBuilder

metrics = Metrics()
hub = Hub(observers=[metrics])

def environ():
    return EnvironBuilder("/", multithread=True, multiprocess=True).get_environ()

def scrape():
    lines = metrics.response(environ()).get_data(as_text=True).splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

def in_child(act):
    child = os.fork()
    if not child:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return child

def open_stream():
    body = hub.stream(environ(), "a").response
    next(body)
    return body
"""


class DirectoryTest(unittest.TestCase):
    """Each program has its own process, as prometheus_client looks at the variable when it is imported."""

    def run_program(self, code: str, folder: Path) -> Any:
        done = run_python(_PROGRAM + code, folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_a_scrape_has_the_sums_of_all_and_no_gauge_of_the_dead(self) -> None:
        found = self.run_program(
            """
def child():
    hub.publish("a", 1)
    hub.keep = open_stream()

in_child(child)  # it ends without an end of its stream
in_child(child)
body = open_stream()
hub.publish("a", 1)
print(json.dumps(scrape()))
""",
            temporary_directory(self) / "not" / "there",
        )
        self.assertEqual(found["sse_threaded_events_published_total"], 3)
        self.assertEqual(found['sse_threaded_streams_opened_total{kind="thread"}'], 3)
        self.assertEqual(found['sse_threaded_streams_open{kind="thread"}'], 1)
        self.assertEqual(found['sse_threaded_streams_ended_total{kind="thread",reason="gone"}'], 0)
        self.assertEqual(found['sse_threaded_log_end{log="memory://"}'], 1)

    def test_an_empty_file_of_a_killed_process_keeps_no_scrape_from_its_answer(self) -> None:
        found = self.run_program(
            """
for kind in ("counter", "histogram", "gauge_livesum"):
    open(f"{sys.argv[1]}/{kind}_999999999.db", "w").close()
    open(f"{sys.argv[1]}/{kind}_{os.getppid()}.db", "w").close()
hub.publish("a", 1)
print(json.dumps(scrape()))
""",
            temporary_directory(self),
        )
        self.assertEqual(found["sse_threaded_events_published_total"], 1)

    def test_a_process_with_the_number_of_a_dead_one_has_no_stream(self) -> None:
        folder = temporary_directory(self)
        found = self.run_program(
            """
def child():
    hub.keep = open_stream()
    hub.keep_too = open_stream()

dead = in_child(child)
for kind in ("counter", "gauge_livesum"):  # as if this process had that number
    os.rename(f"{sys.argv[1]}/{kind}_{dead}.db", f"{sys.argv[1]}/{kind}_{os.getpid()}.db.new")
    os.replace(f"{sys.argv[1]}/{kind}_{os.getpid()}.db.new", f"{sys.argv[1]}/{kind}_{os.getpid()}.db")
import prometheus_client.values
prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue()
from prometheus_client import CollectorRegistry
metrics = Metrics(CollectorRegistry())
print(json.dumps(scrape()))
""",
            folder,
        )
        self.assertEqual(found['sse_threaded_streams_open{kind="thread"}'], 0)
        self.assertEqual(found['sse_threaded_streams_opened_total{kind="thread"}'], 2)

    def test_a_fork_while_a_thread_counts(self) -> None:
        found = self.run_program(
            """
import threading
stop = threading.Event()

def count():
    while not stop.is_set():
        hub.publish("a", 1)

threads = [threading.Thread(target=count) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(50):
    in_child(lambda: hub.publish("a", 1))
stop.set()
for thread in threads:
    thread.join()
published = scrape()["sse_threaded_events_published_total"]
print(json.dumps([published, hub.log.last_sequence() + 50]))
""",
            temporary_directory(self),
        )
        self.assertEqual(found[0], found[1])

    def test_a_fork_while_a_thread_publishes_inside_a_transaction(self) -> None:
        found = self.run_program(
            """
import threading
from sse_threaded import Hub
other = Hub(observers=hub._observers._observers)
inside, forking = threading.Event(), threading.Event()

def publish():
    with hub.log.transaction() as transaction:
        transaction.append("a", 1)
        inside.set()
        forking.wait()
        other.publish("b", 1)

thread = threading.Thread(target=publish)
thread.start()
inside.wait()
threading.Timer(0.2, forking.set).start()
in_child(lambda: None)
thread.join()
print(json.dumps([hub.log.last_sequence(), other.log.last_sequence()]))
""",
            temporary_directory(self),
        )
        self.assertEqual(found, [1, 1])

    def test_a_variable_that_comes_too_late_is_refused(self) -> None:
        variables = {VARIABLE: str(temporary_directory(self))}
        with mock.patch.dict(os.environ, variables), self.assertRaisesRegex(ValueError, "set it before"):
            Metrics(CollectorRegistry())

    def test_files_of_an_earlier_run_are_removed_and_others_stay(self) -> None:
        folder = temporary_directory(self)
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        alive = os.getppid()
        names = [f"counter_{dead.pid}.db", f"histogram_{dead.pid}.db", f"gauge_livesum_{dead.pid}.db"]
        kept = [f"counter_{alive}.db", f"gauge_livesum_{alive}.db", "notes.db", f"counter_{dead.pid}.txt"]
        own = [f"counter_{os.getpid()}.db"]

        def fill() -> None:
            for name in (*names, *kept, *own):
                (folder / name).touch()

        with mock.patch.dict(os.environ, {VARIABLE: str(folder)}):
            fill()
            prepare(keeps_own=False)
            self.assertEqual(sorted(os.listdir(folder)), sorted(kept))
            fill()
            prepare(keeps_own=True)
            self.assertEqual(sorted(os.listdir(folder)), sorted([*kept, *own]))
            fill()
            forget(alive)
            forget_dead()
            gone = {f"gauge_livesum_{alive}.db", f"gauge_livesum_{dead.pid}.db"}
            self.assertEqual(sorted(os.listdir(folder)), sorted({*names, *kept, *own} - gone))
        with mock.patch.dict(os.environ):
            os.environ.pop(VARIABLE, None)
            prepare(keeps_own=False)
            forget_dead()
        with mock.patch.dict(os.environ, {VARIABLE: str(folder / "not" / "there")}):
            forget_dead()
            prepare(keeps_own=False)
            self.assertTrue((folder / "not" / "there").is_dir())


class HooksTest(unittest.TestCase):
    """The hooks of gunicorn's master, on objects in place of it."""

    def setUp(self) -> None:
        self.folder = temporary_directory(self)
        self.dead = subprocess.Popen([sys.executable, "-c", ""])
        self.dead.wait()
        for kind in ("counter", "gauge_livesum"):
            (self.folder / f"{kind}_{self.dead.pid}.db").touch()
        self.server: Any = mock.Mock(cfg=mock.Mock(preload_app=False))

    def names(self) -> list[str]:
        return sorted(name.rpartition("_")[0] for name in os.listdir(self.folder))

    def in_directory(self, **variables: str) -> Any:
        return mock.patch.dict(os.environ, {VARIABLE: str(self.folder), **variables})

    def test_a_start_removes_the_files_of_an_earlier_run(self) -> None:
        with self.in_directory():
            on_starting(self.server)
        self.assertEqual(self.names(), [])

    def test_a_master_that_replaces_another_one_goes_on(self) -> None:
        with self.in_directory(GUNICORN_PID="7"):
            on_starting(self.server)
        self.assertEqual(self.names(), ["counter", "gauge_livesum"])

    def test_a_worker_that_has_ended_keeps_its_counters(self) -> None:
        with self.in_directory():
            child_exit(self.server, mock.Mock(pid=self.dead.pid))
        self.assertEqual(self.names(), ["counter"])

    def test_this_packages_worker_prepares_the_directory_by_itself(self) -> None:
        with self.in_directory():
            ThreadWorker.check_config(Config(), mock.Mock())
        self.assertEqual(self.names(), [])

    def test_a_directory_that_cannot_be_made_is_logged(self) -> None:
        with mock.patch.dict(os.environ, {VARIABLE: f"{__file__}/metrics"}):
            on_starting(self.server)
        self.server.log.error.assert_called_once()

    def test_without_a_directory_nothing_is_done(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop(VARIABLE, None)
            on_starting(self.server)
            child_exit(self.server, mock.Mock(pid=self.dead.pid))
        self.assertEqual(self.names(), ["counter", "gauge_livesum"])


class BoardTest(unittest.TestCase):
    def make_client(self, **variables: str) -> Client:
        with mock.patch.dict(os.environ, variables):
            self.board = create_app("memory://")
        enter(self, self.board.hub)
        return Client(self.board)

    def status(self, client: Client, address: str, **fields: str) -> int:
        base = {"REMOTE_ADDR": address}
        return client.get("/metrics", environ_base=base, headers=fields).status_code

    def test_this_machine_only(self) -> None:
        client = self.make_client(SSE_THREADED_METRICS="1")
        statuses = {address: self.status(client, address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1")}
        self.assertEqual(set(statuses.values()), {200}, statuses)
        for address in ("10.0.0.1", "", "2001:db8::1"):
            self.assertEqual(self.status(client, address), 403, address)
        for field in ("X-Forwarded-For", "Forwarded"):
            self.assertEqual(self.status(client, "127.0.0.1", **{field: "for=127.0.0.1"}), 403)

    def test_a_trusted_proxy_names_the_address(self) -> None:
        client = self.make_client(SSE_THREADED_METRICS="10.0.0.0/8", SSE_THREADED_PROXIES="1")
        self.assertEqual(self.status(client, "127.0.0.1", **{"X-Forwarded-For": "10.1.2.3"}), 200)
        self.assertEqual(self.status(client, "127.0.0.1", **{"X-Forwarded-For": "10.1.2.3, 192.0.2.1"}), 403)
        self.assertEqual(self.status(client, "127.0.0.1"), 403)

    def test_by_default_there_is_no_such_page(self) -> None:
        answer = self.make_client().get("/metrics")
        self.assertEqual(answer.status_code, 404)
        self.assertIn("SSE_THREADED_METRICS=1", answer.text)

    def test_invalid_settings(self) -> None:
        for text in ("yes", "10.0.0.0/33", "1,2,3", "localhost"):
            with self.subTest(text), self.assertRaisesRegex(SettingError, "SSE_THREADED_METRICS"):
                operator_networks({METRICS: text}, METRICS)
        for text in ("", "0"):
            self.assertEqual(operator_networks({METRICS: text}, METRICS), [])

    def test_without_prometheus_client_it_says_what_to_install(self) -> None:
        missing = {"prometheus_client": None, "sse_threaded.board.metrics_page": None}
        with mock.patch.dict(sys.modules, missing), self.assertRaisesRegex(SettingError, "extra 'metrics'"):
            self.make_client(SSE_THREADED_METRICS="1")

    def test_prometheus_may_ask_by_address(self) -> None:
        client = self.make_client(SSE_THREADED_METRICS="1", SSE_THREADED_HOSTS="board.example")
        headers = {"Host": "192.0.2.7:3000"}
        base = {"REMOTE_ADDR": "127.0.0.1"}
        self.assertEqual(client.get("/metrics", headers=headers, environ_base=base).status_code, 200)
        self.assertEqual(client.get("/boards", headers=headers, environ_base=base).status_code, 421)


def rows(page: Path, columns: int) -> list[list[str]]:
    """The rows of all tables of a page that have so many columns, without the backquotes."""
    found = []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("`", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == columns and not set(cells[0]) <= set("- "):
            found.append(cells)
    return found


class PageTest(MetricsCase):
    """docs/metrics.md, the alerts and the dashboard agree with the code."""

    def setUp(self) -> None:
        self.make_hub().publish("a", 1)
        with mock.patch.object(MemoryLog, "last_sequence", return_value=1):
            body = next(iter(self.metrics._hubs)).stream(environ(), "a").response  # type: ignore[attr-defined]
            next(body)
            self.addCleanup(body.close)
            wait_until(lambda: "sse_threaded_log_lag_events{" in self.scrape(), message="all metrics")
        with self.assertRaises(InvalidEvent):
            next(iter(self.metrics._hubs)).publish("", 1)  # type: ignore[attr-defined]
        self.found = families(self.scrape())

    def test_the_table_has_each_metric_with_its_type_labels_and_meaning(self) -> None:
        listed = {
            name: (kind, labels, about) for name, kind, labels, about in rows(PAGE, 4) if name.startswith("sse_")
        }
        real = {}
        for family in self.found.values():
            if family.name.endswith("_created"):
                continue
            own = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            real[name] = (family.type, ", ".join(sorted(own)), family.documentation)
        self.assertEqual(listed, real)

    def test_names_follow_prometheus_rules(self) -> None:
        for family in self.found.values():
            with self.subTest(family.name):
                self.assertRegex(family.name, r"^sse_threaded_[a-z]+(_[a-z]+)*$")
                self.assertNotRegex(family.name, r"_(count|sum|bucket|ms|milliseconds|kb)$")
                if family.type == "histogram":
                    self.assertRegex(family.name, r"_(seconds|events)$")

    def test_the_tables_of_reasons_and_causes_are_complete(self) -> None:
        pairs = [tuple(row) for row in rows(PAGE, 2)]
        for value in (*EndReason, *Cause):
            about = re.sub(r":\w+:`[\w.]*?(\w+)`", r"\1", type(value).__doc__ or "")
            with self.subTest(value):
                self.assertIn(str(value), [name for name, _ in pairs], about)
        self.assertIn("answered", [name for name, _ in pairs])

    def test_queries_use_metrics_and_labels_that_exist(self) -> None:
        series = {sample.name for family in self.found.values() for sample in family.samples}
        labels = {label for family in self.found.values() for sample in family.samples for label in sample.labels}
        values = {
            value
            for family in self.found.values()
            for sample in family.samples
            for value in sample.labels.values()
        }
        for path in (PAGE, ALERTS, DASHBOARD):
            text = path.read_text(encoding="utf-8")
            queries = [text] if path != PAGE else [query for _, query in rows(PAGE, 2) if "rate(" in query]
            self.assertTrue(queries)
            for query in queries:
                with self.subTest(path=path.name):
                    self.assertEqual(set(re.findall(r"sse_threaded_[a-z_]+", query)) - series, set())
                    by = {
                        name.strip() for found in re.findall(r"by \(([^)]*)\)", query) for name in found.split(",")
                    }
                    self.assertEqual(by - labels, set())
                    for name, operands in re.findall(r'\b(\w+)=~?\\?"([^"\\]*)\\?"', query):
                        if name in labels:
                            self.assertEqual(set(operands.split("|")) - values, set())
                    self.assertEqual(query.count("("), query.count(")"))

    def test_the_dashboard_is_json_with_a_query_in_each_panel(self) -> None:
        panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
        for panel in panels:
            with self.subTest(panel["title"]):
                self.assertTrue(all(target["expr"] for target in panel["targets"]))


if __name__ == "__main__":
    unittest.main()
