"""Request bodies, checked: what is returned may be stored, anything else is an HTTP error with a reason."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnprocessableEntity, UnsupportedMediaType
from werkzeug.wrappers import Request

# Sixty times the longest title in the longest escapes: no honest request comes near it.
MAX_BODY_BYTES = 64 * 1024

# A card's title, not its description; eight lines on a phone.
MAX_TITLE_CHARACTERS = 200

# Unicode's categories of what has no place in one line of text: control characters, lone surrogates, and
# the separators of lines and paragraphs.
_REFUSED = ("Cc", "Cs", "Zl", "Zp")


class BoardRequest(Request):
    """A request whose body Werkzeug bounds while it is read, so that a chunked one is bounded too."""

    # One more than is allowed: of a body without a length Werkzeug reads this much and leaves the rest
    # without a word, so only by the one byte too many does it show.
    max_content_length = MAX_BODY_BYTES + 1


def read_object(
    request: BoardRequest, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, str]:
    """The body's JSON object, each of whose members is text.

    :param required: members that must be there.
    :param optional: members that may be there.
    :raises UnsupportedMediaType: the body is not declared as JSON (which a form of another site cannot do).
    :raises RequestEntityTooLarge: it is longer than 64 KiB.
    :raises BadRequest: it is not JSON (RFC 8259), or not complete.
    :raises UnprocessableEntity: it is not an object, or a member is missing, unknown or not text.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with the header Content-Type: application/json.")
    wanted = _wanted(required, optional)
    body = _read_json(request)
    if not isinstance(body, dict):
        raise UnprocessableEntity(f"The body is {_kind(body)}; send a JSON object with {wanted}.")
    for name, value in body.items():
        if name not in (*required, *optional):
            raise UnprocessableEntity(f"There is no member {_quoted(name)} here; send {wanted}.")
        if not isinstance(value, str):
            raise UnprocessableEntity(f'"{name}" is {_kind(value)}; send it as a string.')
    for name in required:
        if name not in body:
            raise UnprocessableEntity(f'"{name}" is missing; send {wanted}.')
    if not body:
        raise UnprocessableEntity(f"The object is empty; send {wanted}.")
    return body


def _read_json(request: BoardRequest) -> object:
    too_large = RequestEntityTooLarge(f"The body is over {MAX_BODY_BYTES // 1024} KiB; send a shorter one.")
    try:
        data = request.get_data()
    except RequestEntityTooLarge:
        raise too_large from None
    if len(data) > MAX_BODY_BYTES:
        raise too_large
    if len(data) < (request.content_length or 0):
        # gunicorn hands out what came before the client was gone (RFC 9112, section 8: an error).
        raise BadRequest("The body is shorter than its Content-Length; send all of it.")
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8; encode it as UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"The body is not JSON ({error.msg}, {where}); mend it there.") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; brackets nested as deep
        raise BadRequest("The body's JSON is too deep or its numbers too long; send a plain object.") from None


def checked_title(title: str) -> str:
    """``title`` without the white space around it.

    :raises UnprocessableEntity: it has no visible character, over 200 characters, or one that is no text.
    """
    title = title.strip()
    kinds = [unicodedata.category(character) for character in title]
    for character, kind in zip(title, kinds, strict=True):
        if kind in _REFUSED:
            code = f"U+{ord(character):04X}"
            raise UnprocessableEntity(f'"title" holds the control character {code}; write one line of plain text.')
    if all(kind[0] in "CZ" for kind in kinds):
        raise UnprocessableEntity('"title" is empty; write at least one visible character.')
    if len(title) > MAX_TITLE_CHARACTERS:
        raise UnprocessableEntity(f'"title" has {len(title)} characters; shorten it to {MAX_TITLE_CHARACTERS}.')
    return title


def _wanted(required: Collection[str], optional: Collection[str]) -> str:
    if not required:
        return " or ".join(f'"{name}"' for name in optional) + " or both"
    return " and ".join([f'"{name}"' for name in required] + [f'"{name}" if you like' for name in optional])


def _quoted(name: str) -> str:
    # A stranger's text in our sentence: short, and in a form that can be sent.
    return json.dumps(name if len(name) <= 40 else name[:40] + "…", ensure_ascii=True)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
