"""The functions of gunicorn that the worker and the hooks rest on: has a release changed one?"""

import hashlib
import inspect
import sys
import unittest

import gunicorn
from gunicorn import arbiter, config, glogging, util
from gunicorn.http import body, parser, unreader, wsgi
from gunicorn.http2 import negotiation
from gunicorn.workers import base, gthread

from sse_threaded.server.client_connection import ClientConnection
from sse_threaded.worker import ThreadWorker

OVERRIDDEN = "overridden by worker.ThreadWorker or server.client_connection.ClientConnection"

# Fingerprints of each function's source when our code was written, one for each known form.
POINTS = {
    OVERRIDDEN: {
        gthread.ThreadWorker._cap_keepalive: {"69ef1ddd35fe"},
        gthread.ThreadWorker.init_process: {"357ac730010e"},
        gthread.TConn.init: {"e4b965c18bcb"},
        gthread.ThreadWorker.run: {"fbafdd20400c"},
        gthread.ThreadWorker.on_pending_socket_readable: {"39b3acee312c"},
        gthread.ThreadWorker.on_client_socket_readable: {"f41a9a5e9d82"},
        gthread.ThreadWorker.murder_pending: {"00b3959e780e"},
        gthread.ThreadWorker._keepalive_after: {"318430685de5"},
        gthread.ThreadWorker.accept: {"a06fbabe3fdb"},
        gthread.ThreadWorker.enqueue_req: {"0077368bd496"},
        gthread.ThreadWorker.get_thread_pool: {"7d502e0bc619"},
        gthread.ThreadWorker.handle_request: {"83829ceefc32"},
        gthread.ThreadWorker.set_accept_enabled: {"de784d6e9485"},
        gthread.ThreadWorker.wait_for_and_dispatch_events: {"eac8483c085f"},
        base.Worker.init_signals: {"0758139ad59b"},
        base.Worker.load_wsgi: {"fe1ed977a7f6"},
        base.Worker.notify: {"0c9a9946c72b"},
    },
    "relied on by them": {
        arbiter.Arbiter.spawn_worker: {"f8771d6679f1"},
        arbiter.Arbiter.kill_worker: {"b7c03bed1275"},
        base.Worker.handle_error: {"42c66e053359"},
        body.Body.read: {"4d8374769e69"},
        body.ChunkedReader.parse_chunk_size: {"63fa0060fd35"},
        body.ChunkedReader.parse_trailers: {"6c9748408afa"},
        config.Config.__getattr__: {"e332ce2e600e"},
        glogging.SafeAtoms.__init__: {"51c3ed436a7b"},
        glogging.Logger.access: {"2eb421e0dc10"},
        gthread.PollableMethodQueue.defer: {"5af8c4018ed8"},
        gthread.TConn.__init__: {"6f0455060212"},
        gthread.TConn.close: {"eb060afadaaa"},
        gthread.ThreadWorker.finish_request: {"c6a1a1f39f11"},
        gthread.ThreadWorker.handle: {"e0fcb03f7a3d"},
        gthread.ThreadWorker.murder_keepalived: {"a15c6b724d97"},
        negotiation.prior_knowledge_allowed: {"a5f0588a54dc"},
        parser.Parser.__next__: {"8fa7ba7da596"},
        parser.Parser.finish_body: {"bed0f3553cdb"},
        unreader.SocketUnreader.__init__: {"f3d8e3e9b929"},
        unreader.SocketUnreader.chunk: {"5424e9f6500d"},
        unreader.Unreader.read: {"e3154ff73104"},
        unreader.Unreader.take_buffered: {"d51ccd707fc9"},
        util.write_error: {"93302e0feb5e"},
        wsgi.create: {"ff372b261e22"},
        wsgi.default_environ: {"d74b28a0e956"},
        wsgi.Response.write: {"314aea79b39e"},
        wsgi.Response.should_close: {"cd784e8a6495"},
    },
    "chained by gunicorn_hooks": {
        gthread.ThreadWorker.handle_exit: {"9391483e2579"},
        gthread.ThreadWorker.handle_quit: {"499ed93f7086"},
    },
}


def fingerprint(function):
    lines = (line.strip() for line in inspect.getsource(function).splitlines())
    return hashlib.sha256("\n".join(line for line in lines if line).encode()).hexdigest()[:12]


def overridden():
    """The methods of gunicorn's that our classes override: our class, and gunicorn's function."""
    for ours, theirs in ((ThreadWorker, gthread.ThreadWorker), (ClientConnection, gthread.TConn)):
        for owner in ours.__mro__[: ours.__mro__.index(theirs)]:
            for name in vars(owner).keys() & {name for their in theirs.__mro__[:-1] for name in vars(their)}:
                if inspect.isfunction(vars(owner)[name]) and name != "__init__":
                    yield owner, getattr(theirs, name)


class PointsTest(unittest.TestCase):
    def test_what_is_overridden_is_known(self):
        self.assertEqual({function for _, function in overridden()}, set(POINTS[OVERRIDDEN]))

    def test_each_module_of_the_worker_says_what_it_overrides(self):
        for owner, function in overridden():
            if owner is not ClientConnection:
                with self.subTest(owner=owner.__name__, function=function.__name__):
                    self.assertIn(f"``{function.__name__}``", sys.modules[owner.__module__].__doc__)

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
