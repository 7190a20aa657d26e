"""URLs of SQLite files.

A URL that may open another file than its author means is refused, and the error says how to write it.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, quote, unquote

from ...errors import LogUnusable
from ..url import without_secret

_SCHEME = "sqlite:///"
_FORMS = "write sqlite:///relative/path.db, or sqlite:////absolute/path.db"
_OPTIONS = "the only option is ?synchronous=full (the default) or ?synchronous=normal"

_IN_MEMORY = (
    "only one connection can see a database in SQLite's memory; write memory://, or name a file as in "
    "sqlite:///file.db"
)
_DJANGO = "in Django's tests DATABASES['default']['TEST'] = {'NAME': BASE_DIR / 'test.sqlite3'} names one"

# The paths of URLs that are refused: the pattern of such a path, and how to write it instead.
_REFUSED = (
    (re.compile(r"[^/]*:[^/]*@"), f"a file has no user; in a path write : as %3A and @ as %40, else {_FORMS}"),
    (re.compile(r"[^#]*#"), "in a path write # as %23 and ? as %3F"),
    (re.compile(r".*%(?![0-9A-Fa-f]{2})", re.DOTALL), "in a path write % as %25"),
    (
        re.compile(r"\s|.*(?:\s\Z|[\x00-\x1f\x7f])", re.DOTALL),
        "in a path write control characters, and a space at its start or end, as %-escapes (a space: %20)",
    ),
    (re.compile(r"/?[A-Za-z]:[\\/]|\\\\"), f"that is a Windows path, and Windows is not supported; {_FORMS}"),
    (re.compile(r"~[^/]*/"), "~ is not expanded in a URL; write the folder, or give Path(...).expanduser()"),
)


def url_of(path: str | os.PathLike[str]) -> str:
    """Return the URL of a file, with the ``%`` escapes that it needs.

    :param path: relative to the working directory, or absolute.
    """
    return _SCHEME + quote(os.fsencode(path), safe="/~+,=")


def parse_url(url: str) -> tuple[str, str]:
    """Return the file's absolute path and its ``synchronous`` setting.

    :param url: as :class:`~.log.SQLiteLog` takes it.
    :raises LogUnusable: it is not such a URL, or it may mean another file.
    """
    shown = without_secret(url)
    if url in ("sqlite://", "sqlite://:memory:"):
        raise LogUnusable(shown, _IN_MEMORY)
    if not url.startswith(_SCHEME):
        raise LogUnusable(shown, f"a SQLite URL has three slashes, or four, and no host; {_FORMS}")
    raw, mark, query = url.removeprefix(_SCHEME).partition("?")
    if unquote(raw) == ":memory:" or unquote(raw).startswith("file:"):
        raise LogUnusable(shown, f"{_IN_MEMORY}; {_DJANGO}" if "memorydb" in raw else _IN_MEMORY)
    if reason := next((reason for form, reason in _REFUSED if form.match(raw)), None):
        raise LogUnusable(shown, reason)
    synchronous = _synchronous(shown, query) if mark else "full"
    path = unquote(raw, errors="surrogateescape")  # any bytes can be a file's name
    if "\0" in path or not _is_encodable(path):
        raise LogUnusable(shown, "no file can have this name")
    if path.rpartition("/")[2] in ("", ".", ".."):
        raise LogUnusable(shown, f"it must end with a file name; {_FORMS}")
    return os.path.abspath(path), synchronous


def _synchronous(shown: str, query: str) -> str:
    options = parse_qsl(query, keep_blank_values=True)
    if ("mode", "memory") in options:
        raise LogUnusable(shown, _IN_MEMORY)
    if len(options) != 1 or options[0][0] != "synchronous" or options[0][1].lower() not in ("full", "normal"):
        # The message does not repeat the option: it may be a password, or a part of the path.
        raise LogUnusable(shown, f"{_OPTIONS}; in a path write ? as %3F")
    return options[0][1].lower()


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
