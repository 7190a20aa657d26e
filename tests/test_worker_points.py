"""The points of gunicorn that worker.py and gunicorn_hooks.py rest on: has a release changed one?"""

import hashlib
import inspect
import unittest

import gunicorn
from gunicorn.http import wsgi
from gunicorn.workers import base, gthread

# What each was when the code beside it was written: fingerprints of the source, one for each known form.
POINTS = {
    "overridden by worker.ThreadWorker": {
        gthread.ThreadWorker.handle_request: {"83829ceefc32"},
        gthread.ThreadWorker.finish_request: {"c6a1a1f39f11"},
        base.Worker.load_wsgi: {"fe1ed977a7f6"},
    },
    "relied on by worker.ThreadWorker": {
        gthread.ThreadWorker.handle: {"e0fcb03f7a3d"},
        gthread.ThreadWorker.enqueue_req: {"0077368bd496"},
        gthread.ThreadWorker._keepalive_after: {"318430685de5"},
        gthread.PollableMethodQueue.defer: {"5af8c4018ed8"},
        wsgi.create: {"ff372b261e22"},
        wsgi.Response.write: {"314aea79b39e"},
        wsgi.Response.should_close: {"cd784e8a6495"},
    },
    "chained by gunicorn_hooks": {
        gthread.ThreadWorker.handle_exit: {"9391483e2579"},
        gthread.ThreadWorker.handle_quit: {"499ed93f7086"},
        base.Worker.init_signals: {"0758139ad59b"},
    },
}


def fingerprint(function):
    lines = (line.strip() for line in inspect.getsource(function).splitlines())
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()[:12]


class PointsTest(unittest.TestCase):
    def test_gunicorn_is_what_the_worker_was_written_for(self):
        for role, points in POINTS.items():
            for function, known in points.items():
                with self.subTest(function.__qualname__):
                    found = fingerprint(function)
                    self.assertIn(
                        found,
                        known,
                        f"gunicorn {gunicorn.__version__} has changed {function.__qualname__}, {role}: read its "
                        f"new source, change ours where it must follow, then add {found!r} here",
                    )
