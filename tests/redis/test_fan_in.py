"""The fan-in experiment, small; its model, and its page."""

import json
import unittest
from unittest import mock

from benchmarks.fan_in import experiment, report
from benchmarks.fan_in.experiment import Experiment, Point
from benchmarks.fan_in.model import predicted
from tests.harness.redis_server import RedisServer

ONCE = True  # it says the same under every Python


def make_point(processes, **figures):
    line = {"redis_us": 100.0 + 7.0 * processes, "process_us": 50.0, "out_bytes": 200.0 * processes, "reads": 1.0}
    return Point(processes=processes, events=10, seconds=1.0, **{**line, **figures})


class ModelTest(unittest.TestCase):
    def test_straight_lines_are_predicted(self):
        model = predicted([make_point(processes) for processes in (1, 2, 4, 8, 16)])
        self.assertAlmostEqual(model["redis_us"]["fixed"], 100.0)
        self.assertAlmostEqual(model["redis_us"]["each"], 7.0)
        for line in model.values():
            self.assertAlmostEqual(line["says"], line["is"])
            self.assertAlmostEqual(line["off"], 0.0)

    def test_it_is_told_how_far_off_it_was(self):
        points = [make_point(processes) for processes in (1, 2, 4, 8)]
        model = predicted([*points, make_point(16, process_us=100.0)])
        self.assertAlmostEqual(model["process_us"]["off"], -0.5)


class SimulationTest(unittest.TestCase):
    def test_all_processes_read_what_is_for_others(self):
        small = {"RATES": (100,), "SECONDS": 0.3, "FLOOD": 200, "SETTLE_SECONDS": 0.1, "_IDLE_SECONDS": 0.5}
        server = RedisServer("--appendonly", "yes")
        self.addCleanup(server.close)
        with mock.patch.multiple(experiment, **small):
            measuring = Experiment(server)
            found = measuring.points(2, "small")
            idle = measuring.idle(1, 2)
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
        with mock.patch.object(experiment, "_ANSWER_SECONDS", 0.0), self.assertRaises(TimeoutError):
            experiment._until_all_have("abcdef-2", [stuck], 0.0)


class PageTest(unittest.TestCase):
    def setUp(self):
        self.figures = json.loads(report.FIGURES.read_text())

    def test_the_page_in_docs_is_made_of_the_figures_in_docs(self):
        self.assertEqual(report.DOCUMENT.read_text(), report.report(self.figures))

    def test_the_model_in_docs_is_what_its_points_give(self):
        for load, points in self.figures["loads"].items():
            with self.subTest(load):
                found = predicted([Point(**point) for point in points])
                for name, line in self.figures["model"][load].items():
                    for part, value in line.items():
                        self.assertAlmostEqual(found[name][part], value)


if __name__ == "__main__":
    unittest.main()
