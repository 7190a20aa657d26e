"""How a program tells what its client has handed to the app: one line of JSON on standard output."""

from __future__ import annotations

import json
import sys


def report(name: str, data: str, *, message: str | None = "message") -> None:
    """Report an event; the data of every event must be JSON, also of those that the app ignores.

    :param name: its type, as the client names it.
    :param data: its data.
    :param message: the type that the client gives to an event without a name.
    """
    parsed = json.loads(data)
    if name == "stream-start":
        _say({"start": True})
    elif name == message:
        _say({"n": parsed.get("n")})


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
