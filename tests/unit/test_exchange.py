"""One request and the app's response: how it counts, and what comes at its end."""

from __future__ import annotations

import unittest
from unittest import mock

from gunicorn.config import Config

from sse_threaded.server.exchange import Exchange
from sse_threaded.server.response import Response


class ExchangeTest(unittest.TestCase):
    def make(self, worker: mock.Mock) -> Exchange:
        req = mock.Mock(method="GET", version=(1, 1))
        return Exchange(worker, req, mock.Mock(), resp=Response(req, mock.Mock(), Config()))

    def counted(self, *steps: list[tuple[str, str]]) -> list[bool]:
        """Whether each request that the worker counts is a stream's, if the response begins with these headers."""
        worker = mock.Mock()
        exchange = self.make(worker)
        for headers in steps:
            exc_info = (None, ZeroDivisionError(), None) if headers is not steps[0] else None
            exchange.start_response("200 OK", headers, exc_info)
        exchange.finish()
        return [call.kwargs["is_stream"] for call in worker.count_request.call_args_list]

    def test_a_stream_is_told_from_other_responses(self) -> None:
        for kind, is_stream in (
            ("text/event-stream", True),
            ("Text/Event-Stream; charset=utf-8", True),
            ("text/html", False),
            ("application/json", False),
        ):
            with self.subTest(kind):
                self.assertEqual(self.counted([("X", "y"), ("content-TYPE", kind)]), [is_stream])
        self.assertEqual(self.counted([]), [False])

    def test_a_request_counts_once(self) -> None:
        self.assertEqual(self.counted([], []), [False])

    def test_a_request_whose_app_failed_counts(self) -> None:
        self.assertEqual(self.counted(), [False])

    def test_it_notes_that_its_body_is_encoded(self) -> None:
        for headers, expected in (([("X", "gzip")], False), ([("content-ENCODING", "gzip"), ("X", "y")], True)):
            exchange = self.make(mock.Mock())
            write = exchange.start_response("200 OK", headers)
            self.assertEqual((exchange.resp.is_encoded, exchange.resp.headers), (expected, headers))
            self.assertEqual(write, exchange.resp.write)

    def test_the_access_line_comes_before_the_apps_close_and_neither_hinders_the_other(self) -> None:
        calls = mock.Mock()
        exchange = Exchange(calls.worker, "req", mock.Mock(), environ="environ", resp="resp")
        exchange.respiter = calls.respiter
        exchange.conclude()
        self.assertEqual([call[0] for call in calls.mock_calls], ["worker.log.access", "respiter.close"])
        self.assertEqual(calls.worker.log.access.call_args.args[:3], ("resp", "req", "environ"))
        self.assertEqual((exchange.respiter, list(exchange.chunks)), (None, []))
        calls.worker.log.access.side_effect = ZeroDivisionError
        exchange.respiter = calls.respiter
        self.assertRaises(ZeroDivisionError, exchange.conclude)
        self.assertEqual(calls.respiter.close.call_count, 2)
        exchange.resp, exchange.respiter = None, [b""]
        exchange.conclude()
        self.assertEqual(calls.worker.log.access.call_count, 2)

    def test_without_a_log_or_a_hook_there_is_no_access_line(self) -> None:
        worker = mock.Mock(tells_ends=False)
        Exchange(worker, "req", mock.Mock(), environ="environ", resp="resp").conclude()
        worker.log.access.assert_not_called()

    def test_the_last_hook_is_called_where_it_matters(self) -> None:
        worker = mock.Mock()
        for tells_ends, error in ((True, None), (True, ZeroDivisionError), (False, None)):
            worker.tells_ends, worker.cfg.post_request.side_effect = tells_ends, error
            exchange = Exchange(worker, "req", mock.Mock(), environ="environ", resp="resp")
            exchange.finish()
            self.assertEqual((exchange.environ, exchange.req, exchange.resp), (None, None, None))
        calls = [mock.call(worker, "req", "environ", "resp")] * 2
        self.assertEqual(worker.cfg.post_request.mock_calls, calls)
        worker.log.exception.assert_called_once()
        self.assertEqual(worker.count_request.mock_calls, [mock.call("resp", is_stream=False)] * 3)

    def test_after_a_stream_the_connection_is_used_again_unless_a_body_is_left(self) -> None:
        for header, closes in (("HOST", False), ("CONTENT-LENGTH", True), ("TRANSFER-ENCODING", True)):
            for should_close in (False, True):
                resp = mock.Mock()
                resp.should_close.return_value = should_close
                exchange = Exchange(mock.Mock(), mock.Mock(headers=[("X", "y"), (header, "5")]), mock.Mock())
                exchange.resp = resp
                exchange.expect_stream()
                self.assertIs(resp.force_close.called, closes)
                self.assertIs(exchange.may_reuse, not should_close)


if __name__ == "__main__":
    unittest.main()
