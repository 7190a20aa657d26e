"""Which wrappers a server may look into: those in the list, unless the app has changed this one."""

from __future__ import annotations

import itertools
import unittest
from functools import partial

import django.conf
from django.http import StreamingHttpResponse
from werkzeug.wsgi import ClosingIterator

from sse_threaded import Hub
from sse_threaded.server.transparent_wrappers import bare_stream, joining, passes_through


class Timed:
    """A class that an app adds to the list; both tests add it, and no other module knows it."""

    def __init__(self, inner):
        self.inner = inner


class TimedToo(Timed):
    pass


class TransparentWrappersTest(unittest.TestCase):
    def setUp(self):
        if not django.conf.settings.configured:
            django.conf.settings.configure()
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        self.stream = self.hub.stream({"REQUEST_METHOD": "GET"}, "a").response
        self.addCleanup(self.stream.close)

    def test_the_stream_is_found_inside_what_is_known(self):
        passes_through(f"{__name__}.Timed", "inner")
        for name, wrapper in {
            "itself": self.stream,
            "werkzeug": ClosingIterator(self.stream),
            "werkzeug twice": ClosingIterator(ClosingIterator(self.stream, [list])),
            "django": StreamingHttpResponse(self.stream),
            "an app's": Timed(ClosingIterator(self.stream)),
        }.items():
            with self.subTest(name):
                self.assertIs(bare_stream(wrapper), self.stream)

    def test_it_is_not_looked_for_inside_anything_else(self):
        circle = Timed(None)
        circle.inner = circle
        redacting = ClosingIterator(self.stream)
        redacting._next = partial(lambda chunks: next(chunks).replace(b"a", b"b"), self.stream)
        django_redacting = StreamingHttpResponse(self.stream)
        django_redacting.make_bytes = lambda value: value.replace(b"a", b"b")
        replaced = StreamingHttpResponse(self.stream)
        replaced.streaming_content = (chunk for chunk in replaced.streaming_content)
        passes_through(f"{__name__}.Timed", "inner")
        for name, wrapper in {
            "a generator": (chunk for chunk in self.stream),
            "map": map(bytes, self.stream),
            "chain": itertools.chain(self.stream),
            "a list": [self.stream],
            "a subclass": TimedToo(self.stream),
            "a circle": circle,
            "another next": redacting,
            "other bytes": django_redacting,
            "other content": replaced,
            "nothing": None,
        }.items():
            with self.subTest(name):
                self.assertIsNone(bare_stream(wrapper))

    def test_it_is_looked_for_inside_seven_wrappers_and_no_more(self):
        passes_through(f"{__name__}.Timed", "inner")
        wrapper = self.stream
        for _ in range(7):
            wrapper = Timed(wrapper)
        self.assertIs(bare_stream(wrapper), self.stream)
        self.assertIsNone(bare_stream(Timed(wrapper)))

    def test_a_wrapper_of_another_release_is_left_alone(self):
        for fault in ("no attribute", "no arguments"):
            with self.subTest(fault):
                wrapper = ClosingIterator(self.stream)
                wrapper._next = partial(next)
                if fault == "no attribute":
                    del wrapper._next
                self.assertIsNone(bare_stream(wrapper))
        passes_through(f"{__name__}.Timed", "renamed")
        self.assertIsNone(bare_stream(Timed(self.stream)))

    def test_a_bare_stream_joins_its_events_and_what_the_app_returns_is_unchanged(self):
        for returned, joins in (([b"x"], False), ((chunk for chunk in self.stream), False), (self.stream, True)):
            with self.subTest(type(returned)):
                called = []

                def app(environ, start_response, returned=returned, called=called):
                    called.append((environ, start_response))
                    return returned

                self.assertIs(joining(app)("environ", "start"), returned)
                self.assertEqual(called, [("environ", "start")])
                self.assertEqual(self.stream.joins, joins)


if __name__ == "__main__":
    unittest.main()
