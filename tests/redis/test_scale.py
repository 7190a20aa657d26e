"""The simulation of fan-in, small; its model; and the page that is computed from both benchmarks' figures."""

import json
import shutil
import unittest
from unittest import mock

from benchmarks.common import scale
from benchmarks.common.redis_child import redis_server
from benchmarks.fan_in import experiment as listeners
from benchmarks.fan_in import report as fan_in
from tests.support import missing, once, temporary_directory

load_tests = once


def make_point(processes, **figures):
    line = {"redis_us": 100.0 + 7.0 * processes, "process_us": 50.0, "out_bytes": 200.0 * processes, "reads": 1.0}
    return listeners.Point(processes=processes, events=10, seconds=1.0, **{**line, **figures})


class ModelTest(unittest.TestCase):
    def test_straight_lines_are_predicted(self):
        model = fan_in.predicted([make_point(processes) for processes in (1, 2, 4, 8, 16)])
        self.assertAlmostEqual(model["redis_us"]["fixed"], 100.0)
        self.assertAlmostEqual(model["redis_us"]["each"], 7.0)
        for line in model.values():
            self.assertAlmostEqual(line["says"], line["is"])
            self.assertAlmostEqual(line["off"], 0.0)

    def test_it_is_told_how_far_off_it_was(self):
        points = [make_point(processes) for processes in (1, 2, 4, 8)]
        model = fan_in.predicted([*points, make_point(16, process_us=100.0)])
        self.assertAlmostEqual(model["process_us"]["off"], -0.5)


class SimulationTest(unittest.TestCase):
    def test_all_processes_read_what_is_for_others(self):
        if shutil.which("redis-server") is None:
            missing("redis-server (apt-get install redis-server)")
        small = {"RATES": (100,), "SECONDS": 0.3, "FLOOD": 200, "SETTLE_SECONDS": 0.1, "_IDLE_SECONDS": 0.5}
        with mock.patch.multiple(listeners, **small), redis_server(temporary_directory(self)) as server:
            bench = listeners.Bench(server)
            found = bench.points(2, "small")
            idle = bench.idle(1, 2)
        self.assertEqual(found.keys(), {"100", "flood"})
        for point in found.values():
            self.assertEqual(point.processes, 2)
            self.assertGreater(point.process_us, 0.0)
            self.assertGreater(point.redis_us, 0.0)
            # Each of the two gets each event: 110 bytes of data, and what is around them.
            self.assertGreater(point.out_bytes, 2 * 110)
        self.assertLess(found["flood"].reads, found["100"].reads)
        self.assertGreater(idle["process_kb"], 1000.0)

    def test_a_process_that_stops_reading_ends_it(self):
        stuck = mock.Mock()
        stuck.answer.return_value = "abcdef-1"
        with mock.patch.object(listeners, "_PATIENCE", 0.0), self.assertRaises(TimeoutError):
            listeners._until_all_have("abcdef-2", [stuck], 0.0)


class PageTest(unittest.TestCase):
    def setUp(self):
        self.benchmarks = json.loads(scale.BENCHMARKS.read_text())
        self.figures = json.loads(fan_in.FIGURES.read_text())

    def test_each_number_is_what_its_formula_gives(self):
        sheet = scale.Sheet()
        sheet.given("streams", 1000, "", "")
        line = sheet.is_("hosts", "ceil(streams / 300)", "how many")
        self.assertEqual(line, "| how many | `hosts = ceil(streams / 300)` | 4 |")

    def test_the_pages_in_docs_are_made_of_the_figures_in_docs(self):
        page = scale.page(self.benchmarks, self.figures)
        self.assertIn("| gunicorn workers | `processes = ceil(streams / per_process)` | 67 |", page)
        self.assertEqual(scale.DOCUMENT.read_text(), page)
        self.assertEqual(fan_in.DOCUMENT.read_text(), fan_in.report(self.figures))

    def test_the_model_in_docs_is_what_its_points_give(self):
        for load, points in self.figures["loads"].items():
            with self.subTest(load):
                found = fan_in.predicted([listeners.Point(**point) for point in points])
                for name, line in self.figures["model"][load].items():
                    for part, value in line.items():
                        self.assertAlmostEqual(found[name][part], value)

    def test_a_figure_that_was_not_measured_is_named(self):
        self.benchmarks["cells"] = []
        with self.assertRaisesRegex(AssertionError, "has no kb_per_stream of parked"):
            scale.page(self.benchmarks, self.figures)

    def test_idle_streams_that_were_not_measured_do_not_pass_for_free(self):
        self.benchmarks["scenarios"]["idle"] = [{"failed": "it does not start"}]
        with self.assertRaisesRegex(AssertionError, "has no share of idle streams"):
            scale.page(self.benchmarks, self.figures)


if __name__ == "__main__":
    unittest.main()
