"""What a request for events asks for."""

import gc
import tracemalloc
import unittest
from urllib.parse import urlencode

from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.protocol.event import CONTENT_TYPE
from sse_threaded.protocol.request import wanted_events


def environ(query="", **headers):
    return {**EnvironBuilder("/", query_string=query).get_environ(), **headers}


class LastEventIdTest(unittest.TestCase):
    def test_the_last_of_several_in_the_url_wins(self):
        for pairs, expected in (
            ([("lastEventId", "old-1"), ("lastEventId", "new-2")], "new-2"),
            ([("lastEventId", "a"), ("x", "y"), ("lastEventId", "b"), ("lastEventId", "c")], "c"),
            ([("lastEventId", "old-1"), ("lastEventId", "")], "old-1"),  # an empty one is none
            ([("lastEventId", ""), ("lastEventId", "new-2")], "new-2"),
            ([("lastEventId", "")], None),
            ([("lasteventid", "x")], None),
            ([], None),
        ):
            with self.subTest(pairs=pairs):
                self.assertEqual(wanted_events(environ(urlencode(pairs))).last_event_id, expected)

    def test_the_header_wins_over_all_of_them(self):
        query = "lastEventId=old-1&lastEventId=new-2"
        self.assertEqual(wanted_events(environ(query, HTTP_LAST_EVENT_ID="newest-3")).last_event_id, "newest-3")
        self.assertEqual(wanted_events(environ(query, HTTP_LAST_EVENT_ID="")).last_event_id, "new-2")

    def test_a_stream_resumes_after_the_last_one(self):
        with Hub() as hub:
            first, second, third = (hub.publish("a", word) for word in ("one", "two", "three"))
            body = hub.stream(
                {**environ(f"lastEventId={first}&lastEventId={second}"), "wsgi.multithread": True}, "a"
            ).response
            self.assertIn(second.encode(), next(body))
            self.assertIn(third.encode(), next(body))
            body.close()


class BestKindTest(unittest.TestCase):
    def test_of_whatever_length_it_is_understood(self) -> None:
        for accept, kind in (
            ("", CONTENT_TYPE),
            ("*/*", CONTENT_TYPE),
            ("application/json", "application/json"),
            ("image/png", None),
        ):
            for padding in ("", ", image/x-none" * 500 if accept else ""):
                with self.subTest(accept=accept, padding=len(padding)):
                    self.assertEqual(wanted_events({"HTTP_ACCEPT": accept + padding}).kind, kind)

    def test_what_is_kept_is_bounded_whatever_clients_send(self) -> None:
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(30):
            wanted_events({"HTTP_ACCEPT": f"application/json;x={number}" + ", image/x-none" * 400})
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        self.assertLess(used, 40 * 1024)  # the headers alone have 67 kB


if __name__ == "__main__":
    unittest.main()
