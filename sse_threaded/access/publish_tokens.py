"""Tokens of publishers: which channels each of them may publish to (bearer tokens: RFC 6750).

Only the SHA-256 of a token is kept, and a configuration may give it in place of the token.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import InvalidEvent
from ..log.validation import validate_channel

# Before a hash in a configuration. No token can begin so, as it has no colon.
HASHED = "sha256:"

# RFC 6750, section 2.1. A token of 16 random characters cannot be guessed over a network.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_SHORTEST = 16
_HASH = re.compile(r"[0-9a-fA-F]{64}")

# At the end of a name: all names that begin with the text before it.
_WILDCARD = "*"


class Publisher(NamedTuple):
    """A token's holder.

    :ivar digest: the SHA-256 of the token.
    :ivar names: channels that it may publish to.
    :ivar prefixes: it may publish to all channels whose names begin with one of these.
    """

    digest: bytes
    names: frozenset[str]
    prefixes: tuple[str, ...]

    def may_publish_to(self, channel: str) -> bool:
        """Whether it may publish to a channel."""
        return channel in self.names or channel.startswith(self.prefixes)


class PublishTokens:
    """The tokens that may publish.

    :param tokens: maps each token to a channel or a list of channels. In place of a token there may be
        ``"sha256:"`` and the 64 hexadecimal digits of its SHA-256. A name that ends with ``*`` means all channels
        that begin with the text before it.
    :raises ValueError: a token or a channel is invalid. The message does not show the token.
    """

    def __init__(self, tokens: Mapping[str, str | Iterable[str]]) -> None:
        if not isinstance(tokens, Mapping) or not tokens:
            raise ValueError('tokens must map at least one token to channels: {"the token": ["job-*"]}')
        self._publishers = [
            _publisher(f"token {number} of {len(tokens)}", token, channels)
            for number, (token, channels) in enumerate(tokens.items(), 1)
        ]

    def __repr__(self) -> str:
        return f"<PublishTokens {len(self._publishers)}>"

    def find(self, authorization: str | None) -> Publisher | None:
        """Return the holder of the token in a request; ``None`` if there is no known token.

        :param authorization: the header field ``Authorization``, as WSGI has it; ``None`` if it is missing.
        """
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for publisher in self._publishers:  # all of them, so that the time does not depend on which one fits
            if hmac.compare_digest(publisher.digest, digest):
                found = publisher
        return found if scheme.lower() == "bearer" else None


def check_token(token: object) -> str:
    """Return why a text cannot be a token, for the end of a sentence; ``""`` if it can."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return "must be letters, digits and -._~+/ (RFC 6750), such as secrets.token_urlsafe() makes"
    if len(token) < _SHORTEST:
        return f"must have at least {_SHORTEST} characters, so that it cannot be guessed"
    return ""


def _publisher(what: str, token: object, channels: object) -> Publisher:
    if isinstance(token, str) and token.startswith(HASHED):
        if not _HASH.fullmatch(token[len(HASHED) :]):
            raise ValueError(f"{what}: after {HASHED!r} must come the 64 hexadecimal digits of its SHA-256")
        digest = bytes.fromhex(token[len(HASHED) :])
    else:
        fault = check_token(token)
        if fault:
            raise ValueError(f"{what} {fault}")
        digest = hashlib.sha256(str(token).encode()).digest()
    listed = [channels] if isinstance(channels, str) else channels
    if not isinstance(listed, Iterable):
        raise ValueError(f"{what}: give it a list of channels, not {type(channels).__name__}")
    names, prefixes = set(), []
    for name in listed:
        try:
            validate_channel(name)
        except InvalidEvent as error:
            raise ValueError(f"{what}: channel {error.reason}") from None
        before, wildcard, after = name.partition(_WILDCARD)
        if after:
            raise ValueError(f"{what}: in {name!r} the * must be the last character; it means any end of a name")
        if wildcard:
            prefixes.append(before)
        else:
            names.add(name)
    if not names and not prefixes:
        raise ValueError(f"{what}: give it at least one channel")
    return Publisher(digest, frozenset(names), tuple(prefixes))
