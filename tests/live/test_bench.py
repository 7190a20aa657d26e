"""The load client against the real gunicorn, and the report of made-up figures. No peer is needed."""

import contextlib
import io
import json
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

from benchmarks.compare.figures import median, ratios
from benchmarks.compare.goals import GOALS, judged
from benchmarks.compare.grid import Cell
from benchmarks.compare.report import markdown
from sse_threaded.bench.endpoint import Endpoint
from sse_threaded.bench.errors import CannotBench
from sse_threaded.bench.latencies import Latencies
from sse_threaded.bench.load import Load, Post
from sse_threaded.bench.process_tree import ProcessTree
from sse_threaded.bench.reader import Reader
from sse_threaded.bench.timestamps import new_mark, pattern, stamp
from sse_threaded.cli import main
from sse_threaded.protocol.event import END, START, notice
from sse_threaded.testing import GunicornServer, request
from tests.support import ROOT, enter, free_port, sqlite_url, wait_until

CONFIG = ROOT / "deploy" / "gunicorn.conf.py"
COMMAND = [sys.executable, "-m", "sse_threaded.cli", "bench"]
WORKER = "sse_threaded.worker.ThreadWorker"
BODY = '{"title": "{stamp}"}'


def run_bench(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False, **options
    )


def call_bench(*arguments):
    """Run the command in this process, which takes no time to start."""
    command = ["bench", *map(str, arguments)]
    with (
        contextlib.redirect_stdout(io.StringIO()) as output,
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            status = main(command)
        except SystemExit as end:  # argparse's
            status = end.code
    return subprocess.CompletedProcess(command, status, output.getvalue(), errors.getvalue())


class BoardTest(unittest.TestCase):
    """The board, its streams parked, on one worker."""

    @classmethod
    def setUpClass(cls):
        # One server for all: what a test leaves in it does not matter to the others.
        directory = tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True)
        cls.addClassCleanup(directory.cleanup)
        env = {"SSE_THREADED_URL": sqlite_url(Path(directory.name)), "SSE_THREADED_MAX_STREAMS": "500"}
        args = ["-k", WORKER, "-w", "1", "--threads", "8"]
        cls.server = GunicornServer(config=CONFIG, args=args, env=env, cwd=directory.name)
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)
        cls.events = cls.server.url + "/boards/board-1/events"
        cls.tasks = cls.server.url + "/boards/board-1/tasks"

    @property
    def post(self):
        return Post(Endpoint(self.tasks), BODY)

    def streams(self):
        return json.loads(request("GET", self.server.url + "/healthz").body)["streams"]


class LoadTest(BoardTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.one = Load(1)
        cls.one.__enter__()
        cls.addClassCleanup(cls.one.__exit__, None, None, None)

    def load(self, processes=1):
        """A load without streams; most tests share one."""
        if processes == 1:
            self.addCleanup(self.one.close_streams)
            return self.one
        return enter(self, Load(processes))

    def test_every_delivery_is_counted_and_its_latency_seen(self):
        load = self.load()
        opened = load.open(Endpoint(self.events), 40)
        self.assertEqual((opened.streams, opened.ended), (40, 0))
        self.assertGreater(opened.rate, 0)
        delivered = load.publish(self.post, count=10, rate=50)
        self.assertEqual((delivered.published, delivered.expected, delivered.deliveries), (10, 400, 400))
        self.assertEqual((len(delivered.latencies), delivered.open, delivered.ended), (400, 40, 0))
        p50, p99, longest = (delivered.latencies.percentile(share) for share in (0.5, 0.99, 1.0))
        self.assertGreater(p50, 0)
        self.assertLessEqual(p50, p99)
        self.assertLessEqual(p99, longest)
        self.assertLess(longest, 1000 * delivered.seconds)
        self.assertGreater(delivered.share, 0)

    def test_a_burst_is_counted_to_the_last(self):
        load = self.load()
        load.open(Endpoint(self.events), 30)
        delivered = load.publish(self.post, count=25, burst=True)
        self.assertEqual((delivered.published, delivered.deliveries, delivered.expected), (25, 750, 750))
        self.assertEqual(len(delivered.latencies), 0)

    def test_streams_are_divided_among_processes(self):
        load = self.load(processes=3)
        self.assertEqual(load.open(Endpoint(self.events), 20).streams, 20)
        delivered = load.publish(self.post, count=5)
        self.assertEqual((delivered.open, delivered.deliveries), (20, 100))

    def test_stalled_streams_are_open_and_expect_nothing(self):
        load = self.load(processes=2)
        load.open(Endpoint(self.events), 30, stalled=7)
        wait_until(lambda: self.streams() == 30)
        delivered = load.publish(self.post, count=4)
        self.assertEqual((delivered.expected, delivered.deliveries, delivered.open), (92, 92, 30))

    def test_streams_resume_after_a_last_event_id(self):
        load = self.load()
        load.open(Endpoint(self.events), 1)
        before = json.loads(request("GET", self.server.url + "/boards/board-1", headers=JSON).body)["lastEventId"]
        load.publish(self.post, count=3)
        load.close_streams()
        load.open(Endpoint(self.events), 20, last_event_id=before)
        self.assertEqual(load.await_replay(3).deliveries, 60)

    def test_closing_leaves_none(self):
        load = self.load()
        load.open(Endpoint(self.events), 10, stalled=2)
        load.close_streams()
        load.open(Endpoint(self.events), 5)
        self.assertEqual(load.publish(self.post, count=1).deliveries, 5)

    def test_streams_can_be_opened_at_a_rate(self):
        load = self.load()
        opened = load.open(Endpoint(self.events), 10, rate=100)
        self.assertGreaterEqual(opened.seconds, 0.09)

    def test_a_process_tree_has_processor_time_and_memory(self):
        tree = ProcessTree(self.server.pid)
        self.assertEqual(tree.pids, [self.server.pid, *self.server.worker_pids()])
        self.assertGreater(tree.pss_kb(), 1000)
        before = tree.processor_ns()
        request("GET", self.server.url + "/healthz")
        self.assertGreater(tree.processor_ns(), before)


JSON = {"Accept": "application/json"}


class CommandTest(BoardTest):
    def test_figures_for_programs(self):
        arguments = [
            "--streams",
            30,
            "--stalled",
            3,
            "--post",
            self.tasks,
            "--body",
            BODY,
            "--rate",
            20,
            "--seconds",
            0.5,
        ]
        done = run_bench(self.events, *arguments, "--burst", 5, "--pid", self.server.pid, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        expected = {"streams": 30, "stalled": 3, "open_at_end": 30, "ended": 0, "published": 10}
        expected |= {"deliveries": 270, "deliveries_expected": 270}
        self.assertEqual({name: found[name] for name in expected}, expected)
        self.assertEqual(set(found["latency_ms"]), {"p50", "p99", "max"})
        self.assertEqual(found["burst"]["deliveries"], 5 * 27)
        for name in ("open_seconds", "opened_per_second", "deliveries_per_second", "client_share"):
            self.assertGreater(found[name], 0)
        self.assertGreater(found["server_us_per_delivery"], 0)
        self.assertIn("server_kb_per_stream", found)

    def test_a_table_for_people_and_no_bar_where_there_is_no_terminal(self):
        done = run_bench(
            self.events,
            "--streams",
            10,
            "--post",
            self.tasks,
            "--body",
            BODY,
            "--seconds",
            0.3,
            "--pid",
            self.server.pid,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        names = [line.split("  ")[0] for line in done.stdout.splitlines()]
        self.assertEqual(names, ["streams", "deliveries", "latency", "server", "memory", "client"])
        self.assertRegex(done.stdout, r"\Astreams +10 opened in [\d.]+ s, \d+ a second\n")
        self.assertRegex(done.stdout, r"deliveries +30 of 30, ")
        self.assertNotIn("\r", done.stderr)

    def test_without_post_it_listens(self):
        done = call_bench(self.events, "--streams", 5, "--seconds", 0.2, "--json")
        found = json.loads(done.stdout)
        self.assertEqual((found["published"], found["deliveries"], found["latency_ms"]), (0, 0, None))
        self.assertEqual(found["open_at_end"], 5)

    def test_missing_events_are_reported(self):
        other = json.loads(request("POST", self.server.url + "/boards", json={"title": "Other"}).body)["id"]
        wrong = f"{self.server.url}/boards/{other}/tasks"
        done = call_bench(self.events, "--streams", 2, "--post", wrong, "--body", BODY, "--seconds", 0.1)
        self.assertEqual(done.returncode, 0)
        self.assertIn("no event came with its stamp", done.stderr)

    def test_streams_that_the_server_ends_are_reported(self):
        wait_until(lambda: self.streams() == 0, message="the other tests' streams to end")
        done = call_bench(self.events, "--streams", 510, "--seconds", 0.5)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("the server ended 10 streams", done.stderr)

    def test_an_error_is_reported_in_one_sentence(self):
        url, nowhere = self.server.url, f"http://127.0.0.1:{free_port()}/"
        posting = ["--streams", 1, "--seconds", 0.1, "--post"]
        for arguments, words in (
            (["https://localhost/events"], "no TLS"),
            (["localhost:3000/events"], "not a URL such as http://"),
            (["http://127.0.0.1:port/"], "[Pp]ort"),
            (["http://no-such-host.invalid/"], "host cannot be found"),
            ([nowhere], "cannot connect .Connection refused"),
            ([f"{url}/boards/board-1"], "text/html.*not an event stream"),
            ([f"{url}/nowhere"], "answers 404"),
            ([f"{url}/"], "answers 302.* to /boards/board-1"),
            ([self.events, "--header", "rubbish"], "not a header field"),
            ([self.events, "--stalled", 2, "--streams", 1], "more than there are"),
            ([self.events, "--burst", 5], "need --post"),
            ([self.events, "--post", self.tasks], "needs --body"),
            ([self.events, "--post", self.tasks, "--body", "x"], "needs {stamp}"),
            ([self.events, *posting, nowhere, "--body", BODY], "POST: .*refused"),
            ([self.events, *posting, self.tasks, "--body", '"{stamp}"'], "POST: the server answers 422"),
            ([self.events, "--channels", 3], "go together"),
            ([self.events, "--pid", 2**22 + 1], "no such process"),
        ):
            with self.subTest(arguments=arguments):
                # One of them as a user runs it.
                done = (run_bench if arguments == [nowhere] else call_bench)(*arguments)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, rf"\Asse-threaded: .*{words}.*\n\Z")
        self.assertIn("whole number", call_bench(self.events, "--streams", "many").stderr)

    def test_the_limit_of_open_files_is_raised_if_it_can_be(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.assertGreater(hard, 256)
        few = run_bench(self.events, "--streams", 100, "--seconds", 0.1, preexec_fn=limited(60, 256))
        self.assertEqual(few.returncode, 0, few.stderr)
        done = run_bench(self.events, "--streams", 400, "--seconds", 0.1, preexec_fn=limited(60, 256))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Asse-threaded: 464 open files .* allows 256; use --processes 3, .*ulimit")

    def test_help_is_for_newcomers(self):
        text = " ".join(run_bench("--help").stdout.split())
        for words in ("URL", "{stamp}", "examples:", "--streams N", "default 1000", "a server of your own"):
            self.assertIn(words, text)


def limited(soft, hard):
    """What sets the limit of open files in a child."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class OddServer:
    """A server that calls a function for each connection, in a thread."""

    def __init__(self, behave):
        self._behave = behave
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._kept = []

    def __enter__(self):
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for kept in (self._listener, *self._kept):
            kept.close()

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._kept.append(connection)
            connection.recv(65536)
            self._behave(connection)


class OddServersTest(unittest.TestCase):
    HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"

    def open(self, behave, count=3):
        server = enter(self, OddServer(behave))
        return enter(self, Load()).open(Endpoint(server.url), count)

    def test_a_connection_that_is_closed_without_an_answer(self):
        with self.assertRaisesRegex(CannotBench, r"stream 1 of 3: .*without an answer"):
            self.open(lambda connection: connection.close())

    def test_what_is_not_http(self):
        with self.assertRaisesRegex(CannotBench, "does not speak HTTP/1.1"):
            self.open(lambda connection: connection.sendall(b"220 ready\r\n\r\n"))

    def test_a_server_that_sends_nothing_before_an_event(self):
        self.assertEqual(self.open(lambda connection: connection.sendall(self.HEAD)).streams, 3)

    def test_a_head_in_pieces_and_a_stream_that_ends(self):
        def behave(connection):
            for byte in self.HEAD:
                connection.sendall(bytes([byte]))
            connection.shutdown(socket.SHUT_RDWR)

        opened = self.open(behave)
        self.assertEqual(opened.streams, 3)


class ReaderTest(unittest.TestCase):
    def make_reader(self, mark, timed=True):
        reader = Reader()
        self.addCleanup(reader.poller.close)
        reader.set_mark(mark, timed=timed)
        return reader

    def test_a_stamp_may_be_cut_anywhere(self):
        mark = new_mark()
        data = b"".join(f"5f\r\nid: {n}\ndata: {stamp(mark)} x\n\n\r\n".encode() for n in range(3))
        for timed in (True, False):
            for cut in range(1, len(data)):
                with self.subTest(timed=timed, cut=cut):
                    reader = self.make_reader(mark, timed)
                    reader.take(5, data[:cut])
                    reader.take(6, data)
                    reader.take(5, data[cut:])
                    self.assertEqual(reader.deliveries, 6)

    def test_what_a_stream_says_about_itself_is_no_delivery(self):
        reader = self.make_reader("", timed=False)
        reader.take(5, notice(START, 5000, "kx-1") + b"id: kx-2\ndata: 1\n\n")
        reader.take(5, b"data: 2\n\n" + notice(END, 1000))
        self.assertEqual(reader.deliveries, 2)

    def test_who_reads_late_still_knows_when_it_came(self):
        reader = self.make_reader("")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = enter(self, socket.create_connection(listener.getsockname()))
            ours = enter(self, listener.accept()[0])
        reader.streams[ours.fileno()] = ours
        reader.set_mark("", timed=False, pause=1.0)

        def has_the_time_of_arrival():
            theirs.sendall(b"data: x\n\n")
            sent = time.monotonic_ns()
            wait_until(lambda: time.monotonic_ns() > sent + 100_000_000, message="a tenth of a second")
            reader.receive(ours.fileno())
            return reader.last_ns < sent + 50_000_000

        # The kernel begins to note times a moment after it was asked to.
        wait_until(has_the_time_of_arrival, message="the kernel's time")
        self.assertGreaterEqual(reader.deliveries, 1)

    def test_stamps_of_another_run_are_none(self):
        reader = self.make_reader(new_mark())
        reader.take(5, f"data: {stamp(new_mark())}\n\n".encode())
        self.assertEqual((reader.deliveries, reader.bytes > 0), (0, True))


class StampsTest(unittest.TestCase):
    def test_a_stamp_survives_what_applications_do_to_texts(self):
        mark = new_mark()
        text = stamp(mark)
        self.assertTrue(text.isascii() and text.isalnum() and text == text.lower())
        self.assertEqual(len(pattern(mark).findall(json.dumps({"title": text}).encode())), 1)

    def test_percentiles(self):
        late = Latencies.of(1_000_000 * n for n in range(1, 101))
        self.assertEqual(len(late), 100)
        self.assertEqual([late.percentile(share) for share in (0.5, 0.99, 1.0)], [50.0, 99.0, 100.0])
        late.add(Latencies.of([5_000_000_000]))
        self.assertEqual(late.percentile(1.0), 5000.0)
        self.assertIsNone(Latencies().percentile(0.5))

    def test_three_digits_are_kept(self):
        self.assertEqual(set(Latencies.of([123_456_789, 123_999_999, 45_678]).counts), {123_000, 45})


class EndpointTest(unittest.TestCase):
    def test_the_request(self):
        endpoint = Endpoint("http://127.0.0.1:8/events?channel={channel}&x=1", ["Cookie: a=b"])
        self.assertEqual(
            endpoint.head("GET", 7, "Accept: text/event-stream"),
            "GET /events?channel=7&x=1 HTTP/1.1\r\nHost: 127.0.0.1:8\r\nCookie: a=b\r\n"
            "User-Agent: sse-threaded-bench\r\nAccept: text/event-stream\r\n\r\n",
        )
        self.assertTrue(endpoint.channels_vary)
        self.assertEqual(endpoint.address, ("127.0.0.1", 8))

    def test_of_several_addresses_the_one_that_answers_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            self.assertEqual(Endpoint(f"http://localhost:{address[1]}/").address, address)


def made_up(**changes):
    """A run with round figures: three rounds of parked, nchan and floor, one peer left out, one that failed."""

    def rounds(us, **more):
        figures = {"rate": 10, "p50_ms": us, "p99_ms": 2 * us, "max_ms": 3 * us, "kb_per_stream": us / 2}
        figures |= {
            "connect_rate": 1000.0,
            "open_us": 400.0,
            "burst_rate": 50_000 / us,
            "burst_events": 100,
            "publish_rate": 700.0,
        }
        figures |= {
            "publish_us": 900.0,
            "client_share": 0.1,
            "connect_share": 0.2,
            "burst_share": 0.9,
            "missing": 0,
        }
        figures |= {"others_share": 0.05}
        return [{**figures, "us_per_delivery": us + n, **more} for n in range(3)]

    def cell(server, found, streams=1000, workers=1):
        return {"server": server, "streams": streams, "channels": 1, "workers": workers, "rounds": found}

    def server(title, streams=None, workers=1):
        return {"title": title, "streams": streams, "workers": workers, "note": "a note"}

    return {
        "machine": {
            "date": "2026-01-01", "commit": "abc1234", "dirty": False, "cores": 2,
            "processor": "a processor", "kernel": "Linux 6", "python": "3.11.0",
        },
        "settings": {"command": "python -m benchmarks.compare", "rounds": 3, "seconds": 3.0},
        "versions": {"gunicorn": "27.0.1"},
        "left_out": {"uvicorn": "there is no network"},
        "servers": {
            "floor": server("floor"), "parked": server("**parked**", workers=2),
            "nchan": server("nchan", workers=2), "plain": server("plain", (1000,)),
            "uvicorn": server("uvicorn"), "node": server("node"),
        },
        "cells": [
            cell("floor", rounds(8)), cell("parked", rounds(10)), cell("nchan", rounds(20)),
            cell("node", [{"failed": "it does not start"}] * 3),
            cell("parked", rounds(10), streams=5000),
            cell("nchan", [rounds(12)[0], {"failed": "gone"}], streams=5000),
            cell("parked", rounds(11), workers=2),
        ],
        "scenarios": {
            "idle": [{"size": 1.0, "streams": 15000, "seconds": 40.0, "share": 0.02, "heartbeat_bytes": 36.0}]
        },
        **changes,
    }  # fmt: skip


class ReportTest(unittest.TestCase):
    def test_a_ratio_is_formed_within_each_round(self):
        ones, others = [{"a": 1}, {"a": 10}, {"failed": "x"}, {"a": 3}], [{"a": 2}, {"a": 5}, {"a": 1}, {"a": 0}]
        self.assertEqual(ratios(ones, "a", others), [0.5, 2.0])
        self.assertEqual(median(ones, "a"), 3)
        self.assertIsNone(median([], "a"))

    def test_targets_are_judged_by_their_figures(self):
        found = {goal["target"]: goal for goal in judged(made_up())}
        self.assertLessEqual({goal.text for goal in GOALS if goal.sign}, found.keys())
        for target, met in (
            ("processor time a delivery, parked : floor", True),  # 1.22
            ("processor time a delivery, parked : nchan", True),  # 0.52
            ("burst of 100 events, deliveries/s, parked : nchan", False),  # 2
            ("memory a stream, parked, at 5000, KB", False),  # 5
            ("memory a stream at 5000, parked : nchan", True),
            ("15000 idle parked streams: share of a core", True),
            ("connect rate, parked : uvicorn raw ASGI", None),
        ):
            with self.subTest(target):
                self.assertIs(found[target]["met"], met)
        self.assertAlmostEqual(found["processor time a delivery, parked : floor"]["value"], 11 / 9)
        self.assertEqual(found["15000 idle parked streams: share of a core"]["shown"], "2.0 %")

    def test_the_document_says_what_was_measured_and_what_was_not(self):
        text = markdown(made_up())
        for words in (
            "commit abc1234: 2 cores (a processor), Linux 6, Python 3.11.0.\ngunicorn 27.0.1.\n",
            "| burst of 100 events, deliveries/s, parked : nchan | > 4 | 2 | 2 to 2 | **missed** |",
            "| connect rate, parked : uvicorn raw ASGI | > 1 | not measured |  | – |",
            "### 1000 streams, 1 worker\n\n10 events a second; bursts of 100 events.",
            "### 1000 streams, 2 workers",
            "| **parked** | 11.0 | 1.22 | 10.0 / 20.0 / 30.0 | 5.0 | 1,000 | – | 400 / – | 5,000 | – | 700 |",
            "| uvicorn | left out: there is no network |",
            "| node | failed: it does not start |",
            "nchan: 1 of 2 rounds failed (gone)",
            "plain: up to 1000 streams, because each holds a thread",
            "node: one process only, because its processes share no log",
            "15,000 streams to which nothing is published, for 40 s: 2.0 % of a core",
            "parked with 1000 streams while in a burst (90 %)",
            "During the run other processes of the machine used 5 % of a core",
        ):
            self.assertIn(words, text)
        for line in text.splitlines():
            if line.startswith("| ") and "target" not in line:
                self.assertIn(line.count("|"), (6, 14), line)

    def test_a_run_without_figures_makes_a_document_too(self):
        text = markdown(made_up(cells=[], scenarios={}, left_out={}))
        self.assertIn("not measured", text)
        self.assertNotIn("Parked streams alone", text)

    def test_cells_have_comparable_rates(self):
        for streams in (100, 1000, 5000, 15000):
            with self.subTest(streams):
                self.assertTrue(5000 <= Cell(streams, 1, 1).rate * streams <= 15000)
                self.assertTrue(5 <= Cell(streams, 1, 1).burst <= 100)
        self.assertEqual(Cell(1000, 1000, 1).burst, 0)

    def test_what_is_written_names_no_folder_of_the_machine(self):
        document = Path(ROOT) / "docs" / "benchmarks.md"
        if document.exists():
            self.assertNotRegex(document.read_text(), r"(/tmp|/home|/root)\b")


if __name__ == "__main__":
    unittest.main()
