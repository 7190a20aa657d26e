"""Fixtures for pytest. Write ``pytest_plugins = ["sse_threaded.testing.pytest_plugin"]`` in ``conftest.py``.

- ``sse_server``: a function that serves a WSGI app in a thread, and returns a :class:`LiveServer`.
- ``sse_client``: a function that opens a URL, and returns an :class:`EventStreamClient`.
- ``sse_stream``: a function that reads a response of a framework's test client, a :class:`StreamedResponse`.
- ``sse_clock``: a function that takes hubs, and returns a :class:`FakeClock`.

All of these end with the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from ..hub import Hub
from .fake_clock import FakeClock
from .live_server import LiveServer
from .stream_client import EventStreamClient
from .streamed_response import StreamedResponse


@pytest.fixture
def _sse_resources() -> Iterator[ExitStack]:
    with ExitStack() as resources:
        yield resources


@pytest.fixture
def sse_server(_sse_resources: ExitStack) -> Callable[..., LiveServer]:
    """See the module."""
    return lambda app, **options: _sse_resources.enter_context(LiveServer(app, **options))


@pytest.fixture
def sse_client(_sse_resources: ExitStack) -> Callable[..., EventStreamClient]:
    """See the module."""
    return lambda url, **options: _sse_resources.enter_context(EventStreamClient(url, **options))


@pytest.fixture
def sse_stream(_sse_resources: ExitStack) -> Callable[..., StreamedResponse]:
    """See the module."""

    def read(response: Any, **options: Any) -> StreamedResponse:
        return _sse_resources.enter_context(StreamedResponse(response, **options))

    return read


@pytest.fixture
def sse_clock(_sse_resources: ExitStack) -> Callable[..., FakeClock]:
    """See the module."""

    def start(*hubs: Hub) -> FakeClock:
        return _sse_resources.enter_context(FakeClock(*hubs))

    return start
