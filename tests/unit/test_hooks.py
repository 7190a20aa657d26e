"""The server hooks, on an object in place of a worker: budgets, warnings, signals."""

import os
import signal
import sys
import types
import unittest
from unittest import mock

from gunicorn.glogging import SafeAtoms
from gunicorn.workers.base_async import AsyncWorker

from sse_threaded import Hub, HubClosed
from sse_threaded.fanout.lifecycle import close_all_when, is_ending, parking_budget, process_budget
from sse_threaded.gunicorn_hooks import post_worker_init, worker_exit
from sse_threaded.server.access_atoms import OneLineAtoms
from sse_threaded.server.capacity import stream_limit
from tests.support import FAREWELL, sqlite_url, temporary_directory, wait_until
from tests.unit.test_stream import make_environ

ENDS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


class HooksTest(unittest.TestCase):
    def setUp(self):
        for signum in ENDS:
            self.addCleanup(signal.signal, signum, signal.getsignal(signum))
        for budget in (parking_budget, process_budget):
            self.addCleanup(setattr, budget, "limit", budget.limit)
        self.addCleanup(close_all_when, lambda: False)

    def make_worker(self):
        cfg = types.SimpleNamespace(threads=64, workers=1)
        # It never says that it ends: what ends streams is the signal.
        return types.SimpleNamespace(
            alive=True,
            cfg=cfg,
            log=mock.Mock(),
            max_requests=sys.maxsize,
            pid=os.getpid(),
            ppid=os.getppid(),
            worker_connections=1000,
            wsgi=mock.Mock(),
        )

    def test_each_signal_ends_all_streams_and_reaches_gunicorn_too(self):
        for signum in ENDS:
            with self.subTest(signum), Hub() as hub:
                before = mock.Mock()
                signal.signal(signum, before)
                post_worker_init(self.make_worker())
                body = hub.stream(make_environ("/"), "a").response
                next(body)
                os.kill(os.getpid(), signum)
                wait_until(lambda handler=before: handler.called, message="gunicorn's own handler")
                self.assertRegex(next(body), rb"\A" + FAREWELL + rb"\Z")
                body.close()
                before.assert_called_once()

    def test_a_worker_that_is_gone_leaves_the_masters_hubs_open(self):
        # gunicorn's master calls the hook, too, where it finds that a worker is no more.
        worker = self.make_worker()
        with Hub() as hub:
            worker.pid = os.getpid() + 1
            worker_exit(mock.Mock(), worker)
            hub.publish("a", "b")
            worker.pid = os.getpid()
            worker_exit(mock.Mock(), worker)
            with self.assertRaises(HubClosed):
                hub.publish("a", "b")

    def test_where_restarts_would_never_end_it_says_so(self):
        for most, warned in ((20, True), (500, True), (600, False), (sys.maxsize, False)):
            with self.subTest(most):
                worker = self.make_worker()
                worker.max_requests = most
                post_worker_init(worker)
                said = [call.args for call in worker.log.warning.call_args_list if "max_requests" in call.args[0]]
                self.assertEqual([args[1:] for args in said], [(most, 56, 560)] if warned else [])
                worker.log.reset_mock()
                worker.sse_threaded_ready = False
                post_worker_init(worker, parks=True)
                self.assertNotIn("max_requests", str(worker.log.warning.call_args_list))

    def test_of_few_connections_some_are_kept_too_and_it_says_how_many(self):
        for connections, threads, parked, threaded in (
            (10_000, 8, 9992, 6),
            (1000, 999, 750, 750),
            (1000, 64, 936, 56),
            (50, 8, 42, 6),
            (10, 64, 8, 8),
            (4, 4, 2, 2),
            (3, 8, 2, 2),
            (2, 8, 1, 1),
            (1, 8, 0, 0),
        ):
            for parks, streams in ((True, parked), (False, threaded)):
                with self.subTest(connections=connections, threads=threads, parks=parks):
                    worker = self.make_worker()
                    worker.worker_connections, worker.cfg.threads = connections, threads
                    post_worker_init(worker, parks=parks)
                    self.assertEqual((parking_budget if parks else process_budget).limit, streams)
                    calls = worker.log.info.call_args_list + worker.log.warning.call_args_list
                    self.assertRegex(
                        "\n".join(call.args[0] % call.args[1:] for call in calls),
                        rf"Up to {streams} streams: \d+ of \d+ {'connections' if parks else 'threads'} are kept"
                        if streams
                        else "No streams",
                    )

    def test_a_worker_that_does_not_say_how_many_connections_it_has_is_taken_to_have_one(self):
        worker = self.make_worker()
        del worker.worker_connections  # as gunicorn's sync worker
        post_worker_init(worker)
        self.assertEqual(process_budget.limit, 0)

    def test_an_eighth_of_the_threads_and_two_at_least_are_kept(self):
        for threads, streams in ((1, 0), (2, 0), (3, 1), (8, 6), (16, 14), (64, 56), (128, 112)):
            with self.subTest(threads=threads):
                self.assertEqual(stream_limit(threads), streams)

    def test_it_says_where_greenlets_have_replaced_the_threads_that_a_worker_needs(self):
        for greenlets, kind, warned in ((True, object, True), (True, AsyncWorker, False), (False, object, False)):
            with self.subTest(greenlets=greenlets, kind=kind):
                worker = self.make_worker()
                made = type("Worker", (kind,), {"__init__": lambda self, **values: vars(self).update(values)})
                with mock.patch("sse_threaded.server.hooks.has_greenlets", return_value=greenlets):
                    post_worker_init(made(**vars(worker)))
                self.assertEqual(worker.log.error.called, warned)

    def test_a_worker_is_made_ready_once(self):
        worker = self.make_worker()
        post_worker_init(worker)
        app, calls = worker.wsgi, len(worker.log.mock_calls)
        post_worker_init(worker)
        self.assertIs(worker.wsgi, app)
        self.assertEqual(len(worker.log.mock_calls), calls)

    def test_the_app_answers_as_before_and_its_streams_join_events(self):
        for parks in (False, True):
            with self.subTest(parks=parks), Hub() as hub:
                worker = self.make_worker()
                body = hub.stream(make_environ("/"), "a").response
                worker.wsgi = app = mock.Mock(return_value=body)
                post_worker_init(worker, parks=parks)
                self.assertEqual(worker.wsgi is app, parks)  # the worker that parks joins by itself
                self.assertIs(worker.wsgi({}, None), body)
                self.assertEqual(body.joins, not parks)
                body.close()

    def test_the_access_log_gets_atoms_of_one_line_unless_it_has_its_own(self):
        for atoms, expected in ((SafeAtoms, OneLineAtoms), (dict, dict)):
            with self.subTest(atoms):
                worker = self.make_worker()
                worker.log.atoms_wrapper_class = atoms
                post_worker_init(worker)
                self.assertIs(worker.log.atoms_wrapper_class, expected)

    def test_streams_end_where_the_worker_does_or_its_master_is_lost(self):
        worker = self.make_worker()
        post_worker_init(worker)
        self.assertFalse(is_ending())
        worker.alive = False
        self.assertTrue(is_ending())
        worker.alive, worker.ppid = True, os.getppid() + 1
        self.assertTrue(is_ending())

    def test_hubs_that_were_made_before_the_fork_begin_anew(self):
        with Hub() as hub, mock.patch.object(Hub, "begin_anew_if_needed", autospec=True) as begin:
            post_worker_init(self.make_worker())
            self.assertIn(mock.call(hub), begin.call_args_list)

    def test_at_the_end_all_hubs_together_have_a_second(self):
        with Hub() as first, Hub() as second:
            requested = []
            with (
                mock.patch.object(Hub, "request_close", autospec=True, side_effect=requested.append),
                mock.patch.object(Hub, "close", autospec=True) as close,
                mock.patch("sse_threaded.server.hooks.time.monotonic", side_effect=[100.0, 100.25, 102.0]),
                mock.patch("sse_threaded.server.hooks.hubs", return_value=(first, second)),
            ):
                worker_exit(mock.Mock(), self.make_worker())
            self.assertEqual(
                close.call_args_list, [mock.call(first, timeout=0.75), mock.call(second, timeout=0.0)]
            )
            self.assertTrue({first, second} <= set(requested), "all begin to end before the first is waited for")

    def warnings_of(self, hub, *, parks=False, **settings):
        worker = self.make_worker()
        for name, value in settings.items():
            setattr(worker.cfg, name, value)
        with mock.patch("sse_threaded.server.stream_budgets.hubs", return_value=(hub,)):
            post_worker_init(worker, parks=parks)
        calls = worker.log.warning.call_args_list
        return [call.args[0] % call.args[1:] for call in calls if "max_requests" not in call.args[0]]

    def test_a_hub_in_memory_is_warned_of_where_there_are_several_workers(self):
        with Hub() as hub:
            for workers, parks, count in ((1, False, 0), (2, False, 1), (2, True, 1)):
                found = self.warnings_of(hub, workers=workers, parks=parks)
                self.assertEqual(len(found), count)
                for warning in found:
                    self.assertIn("what one of 2 workers publishes", warning)
        with Hub(sqlite_url(temporary_directory(self))) as hub:
            self.assertEqual(self.warnings_of(hub, workers=2), [])

    def test_a_limit_that_leaves_too_few_threads_is_warned_of(self):
        for limit, parks, count in ((56, False, 0), (57, False, 1), (57, True, 0), (0, False, 0)):
            with self.subTest(limit=limit, parks=parks), Hub(max_streams=limit) as hub:
                found = self.warnings_of(hub, parks=parks)
                self.assertEqual(len(found), count)
                for warning in found:
                    self.assertRegex(warning, "max_streams=57 of .* leaves too few of 64 threads .*; 56 are safe")

    def test_the_files_that_a_process_may_open_bound_its_streams(self):
        for files, streams in ((None, 56), (1000, 56), (300, 56), (100, 38), (4, 1)):
            worker = self.make_worker()
            with mock.patch("sse_threaded.server.stream_budgets.file_limit", return_value=files):
                post_worker_init(worker)
            self.assertEqual(process_budget.limit, streams, files)
