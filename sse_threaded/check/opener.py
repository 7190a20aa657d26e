"""Opens streams as ``EventSource`` does: it follows redirects, and takes compressed answers."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Mapping

from .errors import CannotCheck
from .exchange import Exchange
from .stream_reader import StreamReader
from .target import Target

# Called with words for the present step, the seconds that it has taken, and those that it takes at most.
Progress = Callable[[str, float, float], None]

# Seconds between two renewals of the progress.
PROGRESS_SECONDS = 0.2

# As many redirects as browsers follow (WHATWG Fetch 4.4).
_MOST_REDIRECTS = 20
_REDIRECTS = (301, 302, 303, 307, 308)


class Opener:
    """Opens streams of one URL.

    :param target: the URL.
    :param private: the names of header fields that go only to the origin of the URL.
    :param context: verifies certificates.
    :param progress: called several times a second while the opener waits.
    """

    def __init__(
        self, target: Target, private: Collection[str], context: ssl.SSLContext, progress: Progress
    ) -> None:
        self._target = target
        self._private = private
        self._context = context
        self._progress = progress

    def open(self, fields: Mapping[str, str], patience: float) -> StreamReader:
        """Send the request and wait for the head of the answer.

        If the answer has a content coding that the check cannot undo, the stream is requested without a coding.

        :param fields: the header fields of the request.
        :param patience: seconds until the head of the last answer must have come.
        """
        reader = self._follow(fields, patience)
        if not reader.is_stream or reader.is_decoded:
            return reader
        plain = self._follow({**fields, "Accept-Encoding": "identity"}, patience)
        if not plain.is_stream or not plain.is_decoded:
            plain.close()
            return reader
        reader.close()
        plain.coding = reader.coding
        return plain

    def _follow(self, fields: Mapping[str, str], patience: float) -> StreamReader:
        target, redirects = self._target, list[str]()
        deadline = time.monotonic() + patience
        while True:
            reader = self._ask(target, fields, deadline, patience)
            reader.redirects = tuple(redirects)
            next_target = _next_target(target, reader)
            if next_target is None:
                return reader
            reader.redirects = (*redirects, str(next_target))
            if len(redirects) == _MOST_REDIRECTS:
                reader.loops = True
                return reader
            reader.close()
            redirects.append(str(next_target))
            if next_target.origin != target.origin:
                # They may be secrets of the first server.
                fields = {name: value for name, value in fields.items() if name not in self._private}
            target = next_target

    def _ask(self, target: Target, fields: Mapping[str, str], deadline: float, patience: float) -> StreamReader:
        reader = StreamReader(Exchange("GET", target, fields, context=self._context))
        while reader.head is None and not reader.is_over:
            now = time.monotonic()
            if now >= deadline:
                break
            self._progress("waiting for the answer", patience - (deadline - now), patience)
            reader.step(min(PROGRESS_SECONDS, deadline - now))
        return reader


def _next_target(target: Target, reader: StreamReader) -> Target | None:
    if reader.head is None or reader.head.status not in _REDIRECTS:
        return None
    location = reader.head.value("Location")
    try:
        return target.redirected(location) if location else None
    except (CannotCheck, ValueError):
        return None  # the redirect is the last answer
