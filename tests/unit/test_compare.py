"""The plan of the comparison with other servers: its servers, cells, goals and other checkouts. No server runs."""

from __future__ import annotations

import argparse
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.common.paths import python_path
from benchmarks.compare.figures import Figure
from benchmarks.compare.goals import COMPARED, GOALS, judged, package_goals
from benchmarks.compare.grid import Cell, cells, needed_cells
from benchmarks.compare.options import options
from benchmarks.compare.peers import M0SERVE_PACKAGES, PYTHON_PACKAGES, Missing, Peers
from benchmarks.compare.plan import plan
from benchmarks.compare.publish_scenarios import LOGS, PUBLISHERS, publish_figure
from benchmarks.compare.report import markdown
from benchmarks.compare.request_report import requests_text
from benchmarks.compare.request_scenarios import BARE, BOARDS, CONNECTIONS, request_figure
from benchmarks.compare.servers import SERVERS, at_package, with_packages
from tests.support import ROOT, temporary_directory

KEYS = {server.key: server for server in SERVERS}


def run_of(**changes: Any) -> dict[str, Any]:
    """Return a run in which nothing was measured."""
    return {
        "machine": {
            "date": "2026-01-01",
            "commit": "abc1234",
            "dirty": False,
            "cores": 2,
            "processor": "a processor",
            "kernel": "Linux 6",
            "python": "3.11.0",
        },
        "settings": {"command": "python -m benchmarks.compare", "rounds": 2, "seconds": 2.0},
        "versions": {},
        "packages": {},
        "servers": {},
        "left_out": {},
        "cells": [],
        "scenarios": {},
        **changes,
    }


def cell_of(server: str, streams: int, *rounds: dict[str, Any]) -> dict[str, Any]:
    return {"server": server, "streams": streams, "channels": 1, "workers": 1, "rounds": list(rounds)}


class ServersTest(unittest.TestCase):
    def test_keys_are_unique(self) -> None:
        for servers in (SERVERS, BARE, BOARDS):
            self.assertEqual(len({server.key for server in servers}), len(servers))

    def test_a_server_with_a_bound_gives_a_reason(self) -> None:
        for server in SERVERS:
            if server.streams is not None and not server.ours:
                self.assertTrue(server.bound, server.key)

    def test_each_server_of_ours_is_followed_by_those_of_other_checkouts(self) -> None:
        found = with_packages(SERVERS, {"before": Path("/x"), "old": Path("/y")})
        keys = [server.key for server in found]
        place = keys.index("parked")
        self.assertEqual(keys[place : place + 3], ["parked", "parked@before", "parked@old"])
        self.assertEqual([server.package for server in found[place : place + 3]], [None, Path("/x"), Path("/y")])
        self.assertNotIn("uvicorn@before", keys)
        self.assertEqual(with_packages(SERVERS, {}), list(SERVERS))

    def test_the_package_of_another_checkout_comes_first(self) -> None:
        with mock.patch.dict("os.environ", {"PYTHONPATH": "/others"}):
            self.assertEqual(python_path(Path("/x")), "/x:/others")
            self.assertEqual(python_path(), f"{ROOT}:/others")

    def test_m0serve_has_an_environment_of_its_own(self) -> None:
        # If it cannot be installed, the other Python servers can.
        self.assertFalse(set(M0SERVE_PACKAGES) & set(PYTHON_PACKAGES))

    def test_a_package_that_this_interpreter_lacks_is_missing(self) -> None:
        peers = Peers(temporary_directory(self))
        with self.assertRaisesRegex(Missing, "pip install"):
            peers.importable("no_such_package")
        self.assertEqual(peers.versions(), {})


class PlanTest(unittest.TestCase):
    def test_goals_name_known_servers_and_figures(self) -> None:
        scenario_servers = {"gets": BARE, "board-posts": BOARDS}
        for goal in GOALS:
            for figure in goal.figures:
                with self.subTest(goal.text, figure=figure):
                    if not figure.scenario:
                        streams = KEYS[figure.server].streams
                        self.assertTrue(streams is None or figure.streams in streams)
                    elif figure.scenario in scenario_servers:
                        servers = scenario_servers[figure.scenario]
                        self.assertIn(figure.server, {server.key for server in servers})

    def test_only_figures_of_this_package_are_compared_with_another_checkout(self) -> None:
        ours = {server.key for server in (*SERVERS, *BARE, *BOARDS) if server.ours} | set(LOGS)
        self.assertLessEqual({figure.server for figure in COMPARED.values()}, ours)

    def test_a_number_of_streams_that_a_server_does_not_have_is_left_out(self) -> None:
        found = cells(SERVERS, [900, 1000], [1], [1])
        m0serve = [cell for cell, server in found if server.key == "m0serve"]
        self.assertEqual(m0serve, [Cell(900, 1, 1)])
        self.assertIn((Cell(1000, 1, 1), KEYS["plain"]), found)
        self.assertNotIn("waitress", {server.key for _, server in found})

    def test_only_the_cells_that_figures_need(self) -> None:
        servers = with_packages(SERVERS, {"before": Path("/x")})
        wanted = [
            Figure("us_per_delivery", "uvicorn", 1000, 1000),
            Figure("open_us", "parked", 3000),
            Figure("open_us", "parked@before", 3000),
            Figure("connect_rate", "parked", 3000),
            Figure("1_us", "worker", scenario="gets"),
            Figure("open_us", "m0serve", 900),
        ]
        found = [(server.key, cell.streams, cell.channels) for cell, server in needed_cells(servers, wanted)]
        self.assertEqual(
            found, [("m0serve", 900, 1), ("parked", 3000, 1), ("parked@before", 3000, 1), ("uvicorn", 1000, 1000)]
        )

    def test_a_server_that_cannot_be_installed_has_no_cells(self) -> None:
        wanted = [Figure("open_us", "parked", 900), Figure("open_us", "m0serve", 900)]
        servers = [server for server in SERVERS if server.key != "m0serve"]
        self.assertEqual([server.key for _, server in needed_cells(servers, wanted)], ["parked"])


class OptionsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.checkout = temporary_directory(self)
        (self.checkout / "sse_threaded").mkdir()
        (self.checkout / "sse_threaded" / "__init__.py").touch()

    def parse(self, *arguments: str) -> argparse.Namespace:
        with mock.patch("sys.argv", ["compare", *arguments]), mock.patch("sys.stderr"):
            return options("Measures.")

    def test_the_report_names_no_folder_of_another_checkout(self) -> None:
        found = self.parse(
            "--package", f"before={self.checkout}", "--only=parked,gets", "--cache", "/somewhere", "--targets"
        )
        self.assertEqual(found.packages, {"before": self.checkout})
        self.assertEqual(found.only, ["parked", "gets"])
        command = "python -m benchmarks.compare --package before=... --only parked,gets --targets"
        self.assertEqual(found.command, command)
        self.assertNotIn(str(self.checkout), found.command)
        self.assertNotIn("/somewhere", found.command)

    def test_a_folder_without_the_package_is_refused(self) -> None:
        for text in ("before=/no/such/folder", f"={self.checkout}", str(self.checkout), f"a@b={self.checkout}"):
            with self.subTest(text), self.assertRaises(SystemExit):
                self.parse("--package", text)

    def test_other_numbers_of_streams_replace_those_of_the_targets_too(self) -> None:
        self.assertTrue(self.parse().whole)
        found = self.parse("--streams", "900,1000")
        self.assertEqual((found.streams, found.whole), ([900, 1000], False))

    def test_the_plan_of_a_run(self) -> None:
        targets, scenarios = plan(self.parse("--targets"), list(SERVERS))
        self.assertIn((Cell(10_000, 1, 1), KEYS["uvicorn"]), targets)
        self.assertNotIn((Cell(10_000, 1, 1), KEYS["node"]), targets)
        self.assertLessEqual({"gets", "board-posts", "publishers"}, set(scenarios))
        whole, _ = plan(self.parse(), list(SERVERS))
        self.assertLessEqual(set(targets), set(whole))
        self.assertEqual(len(whole), len(set(whole)))
        some, scenarios = plan(self.parse("--streams", "100", "--only", "m0serve"), [KEYS["m0serve"]])
        self.assertEqual({cell.streams for cell, _ in some}, {100})
        self.assertEqual(scenarios, [])


class JudgedTest(unittest.TestCase):
    def test_a_figure_without_a_limit_that_was_not_measured_is_left_out(self) -> None:
        found = judged(run_of(packages={"before": "def5678"}))
        self.assertEqual([goal["target"] for goal in found], [goal.text for goal in GOALS if goal.sign])

    def test_a_figure_without_a_limit_is_only_shown(self) -> None:
        results = run_of(
            cells=[
                cell_of("parked", 900, {"open_us": 200.0}, {"open_us": 400.0}),
                cell_of("m0serve", 900, {"open_us": 100.0}, {"open_us": 100.0}),
            ]
        )
        found = {goal["target"]: goal for goal in judged(results)}
        goal = found["processor time of an opening of 900 streams, parked : m0serve"]
        self.assertEqual((goal["value"], goal["limit"], goal["met"]), (3.0, "–", None))
        self.assertIn(f"| {goal['target']} | – | 3 | 2 to 4 | – |", markdown(results))

    def test_figures_of_a_scenario_are_found_by_their_server(self) -> None:
        rounds = [{"size": 1.0, "worker_1_us": 90.0, "uvicorn_1_us": 60.0}, {"size": 0.2, "worker_1_us": 1.0}]
        found = {goal["target"]: goal for goal in judged(run_of(scenarios={"gets": rounds}))}
        self.assertEqual(found["processor time of a GET, worker : uvicorn raw ASGI"]["value"], 1.5)

    def test_another_checkout_is_compared_within_each_round(self) -> None:
        results = run_of(
            packages={"before": "def5678"},
            cells=[
                cell_of("parked", 3000, {"open_us": 200.0}, {"failed": "gone"}, {"open_us": 300.0}),
                cell_of("parked@before", 3000, {"open_us": 400.0}, {"open_us": 400.0}, {"open_us": 400.0}),
            ],
        )
        found = {goal["target"]: goal for goal in judged(results)}
        goal = found["processor time of an opening of 3000 streams, now : before"]
        self.assertEqual((goal["value"], goal["range"]), (0.625, "0.5 to 0.75"))
        self.assertEqual(len(package_goals(["a", "b"])), 2 * len(COMPARED))
        text = markdown(results)
        self.assertIn("before is commit def5678", text)

    def test_a_file_of_an_earlier_version_is_read(self) -> None:
        results = run_of()
        del results["packages"]
        self.assertIn("# Benchmarks", markdown(results))


class RequestReportTest(unittest.TestCase):
    def test_every_server_and_checkout_has_a_row(self) -> None:
        keys = [*(server.key for server in BARE), at_package("worker", "before")]
        gets = {"size": 1.0, "left_out": {"m0serve": "there is no wheel"}}
        for number, key in enumerate(keys, 10):
            for connections in CONNECTIONS if key != "m0serve" else ():
                gets[request_figure(key, connections, "us")] = float(number)
                gets[request_figure(key, connections, "rate")] = 1000.0 * number
                gets[request_figure(key, connections, "client")] = 0.25
        text = requests_text(run_of(packages={"before": "def5678"}, scenarios={"gets": [gets]}))
        self.assertIn("| gunicorn, gthread | 12.0 | 12.0 | 12,000 | 12,000 | 25 % | 25 % |", text)
        self.assertIn("| **worker of sse_threaded**, before | 16.0 |", text)
        self.assertIn("- m0serve: left out: there is no wheel.", text)
        self.assertIn(
            "the client makes 10,000 GETs/s; with the best server, waitress, 15,000. There it uses 25 %", text
        )
        self.assertNotIn("| m0serve |", text)

    def test_threads_that_publish(self) -> None:
        found: dict[str, Any] = {"size": 1.0}
        for log in LOGS:
            for threads in PUBLISHERS:
                found[publish_figure(log, threads, "rate")] = 1000.0 * threads
                found[publish_figure(log, threads, "us")] = 100.0
            found[f"{log}_ratio"] = 8.0
        text = requests_text(run_of(scenarios={"publishers": [found, {"failed": "it ended"}]}))
        self.assertIn("| synchronous=full | 1,000 | 8,000 | 8.00 | 100.0 | 100.0 |", text)
        self.assertIn("- One round failed: it ended.", text)

    def test_without_these_scenarios_there_is_no_section(self) -> None:
        self.assertEqual(requests_text(run_of()), "")


if __name__ == "__main__":
    unittest.main()
