"""What a request for events asks for."""

import unittest
from urllib.parse import urlencode

from werkzeug.test import EnvironBuilder

from sse_threaded import Hub
from sse_threaded.request import last_event_id


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
                self.assertEqual(last_event_id(environ(urlencode(pairs))), expected)

    def test_the_header_wins_over_all_of_them(self):
        query = "lastEventId=old-1&lastEventId=new-2"
        self.assertEqual(last_event_id(environ(query, HTTP_LAST_EVENT_ID="newest-3")), "newest-3")
        self.assertEqual(last_event_id(environ(query, HTTP_LAST_EVENT_ID="")), "new-2")

    def test_a_stream_resumes_after_the_last_one(self):
        with Hub() as hub:
            first, second, third = (hub.publish("a", word) for word in ("one", "two", "three"))
            body = hub.stream(
                {**environ(f"lastEventId={first}&lastEventId={second}"), "wsgi.multithread": True}, "a"
            ).response
            self.assertIn(second.encode(), next(body))
            self.assertIn(third.encode(), next(body))
            body.close()


if __name__ == "__main__":
    unittest.main()
