"""Reads from a request of ``live.js`` which channels it asks for, and refuses those that it may not read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from werkzeug.wrappers import Response

from ..errors import InvalidEvent
from ..log.validation import RESERVED_PREFIX, validate_channel
from ..protocol.problem import problem
from ..protocol.request import HasEnviron


class AskedChannels(NamedTuple):
    """The channels of a request.

    :ivar channels: their names, each once, in the order of the URL.
    :ivar refusal: the answer if the client may not read one of them, or names no channel; ``None`` if it may read
        all.
    """

    channels: list[str]
    refusal: Response | None


def asked_channels(
    request: HasEnviron | dict[str, Any], may_read: Callable[[str], bool], status: int = 403
) -> AskedChannels:
    """Return the channels that a client asks for with ``?channel=``, and an answer if it may not read all of them.

    The answer is ``application/problem+json`` with a list ``channels`` of the names that the client may not read.
    ``live.js`` then asks again without these channels, and tells the page by the event ``refused``. Names that no
    channel can have are refused in the same way.

    :param request: Werkzeug's, Flask's or Django's request, or the WSGI environ.
    :param may_read: whether the client may read the channel of this name. It is called once for each name.
    :param status: the status of the refusal, default 403.
    """
    environ = request if isinstance(request, dict) else request.environ
    # WSGI gives the bytes of a URL as Latin-1 (PEP 3333); those of a query are ASCII with escapes.
    fields = parse_qsl(environ.get("QUERY_STRING", ""))
    names = list(dict.fromkeys(value for name, value in fields if name == "channel"))
    if not names:
        return AskedChannels([], problem(400, "Name at least one channel: ?channel=... in the URL."))
    refused = [name for name in names if not (_can_be_name(name) and may_read(name))]
    if not refused:
        return AskedChannels(names, None)
    detail = f"This client may not read {'this channel' if len(refused) == 1 else 'these channels'}."
    return AskedChannels(names, problem(status, detail, members={"channels": refused}))


def _can_be_name(name: str) -> bool:
    try:
        validate_channel(name)
    except InvalidEvent:
        return False
    return not name.startswith(RESERVED_PREFIX)
