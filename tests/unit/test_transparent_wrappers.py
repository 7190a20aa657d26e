"""Which wrappers a server may look into: those in the list, unless the app has changed this one."""

from __future__ import annotations

import itertools
import unittest
from functools import partial

import django.conf
from django.http import StreamingHttpResponse
from werkzeug.wsgi import ClosingIterator

from sse_threaded import Hub
from sse_threaded.server.transparent_wrappers import bare_stream, passes_through


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


if __name__ == "__main__":
    unittest.main()
