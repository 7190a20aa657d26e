"""The rules for the further requests: resumption, HEAD, and pages of other origins."""

from __future__ import annotations

from collections.abc import Iterator

from ..protocol.event import RESET
from .finding import Finding, clean, span
from .observations import CrossOrigin, Head, Listening, Resumption, Seen

# A server that does not want HEAD may answer so.
_NOT_IMPLEMENTED = 501


def resumption(seen: Seen) -> Iterator[Finding]:
    """Judge the answer to a client that reconnects with an id."""
    if seen.resumption is not None:
        fault = _resume_fault(seen.resumption)
        if fault:
            sent = f"A client that reconnected with Last-Event-ID {clean(seen.resumption.sent_id)}"
            yield Finding("resume", f"{sent} {fault}.")
    unknown = seen.unknown_id
    if unknown is not None and not unknown.is_stream:
        text = f"A request with an unknown Last-Event-ID gets the answer {unknown}."
        yield Finding("unknown-id", f"{text} EventSource stops for good.")


def _resume_fault(resumption: Resumption) -> str:
    """Return the fault of a resumption, as the end of a sentence; ``""`` for no fault."""
    again = resumption.listening
    if again.head is None:
        return "got no answer"
    if not again.is_stream:
        return f"got the answer {again.head}"
    if again.is_unavailable:  # the app is full now
        return ""
    if any(event.event == RESET for event in again.events):
        return "got a reset, although the id was new"
    return _missed(resumption, again)


def _missed(resumption: Resumption, again: Listening) -> str:
    if resumption.stamp:
        is_there = again.find(resumption.stamp) is not None
        return "" if is_there else "did not get the event that was published in between"
    events = again.identified_events
    if events and events[0].last_event_id in resumption.seen_ids:
        return f"got the event {clean(events[0].last_event_id)} again"
    expected = resumption.expected_id
    if expected and all(event.last_event_id != expected for event in events):
        return f"did not get the next event, {clean(expected)}"
    return ""


def head_request(seen: Seen) -> Iterator[Finding]:
    """Judge the answer to HEAD."""
    answer = seen.head_answer
    if answer is None:
        return
    if answer.head is None:
        yield Finding(
            "head", f"A HEAD request got no answer, after {span(answer.seconds)}. Monitors send such requests."
        )
    elif answer.head.status >= 500 and answer.head.status != _NOT_IMPLEMENTED:
        yield Finding("head", f"A HEAD request got the answer {answer.head}. Monitors send such requests.")


def cross_origin(seen: Seen) -> Iterator[Finding]:
    """Judge the rights of pages of other origins."""
    asked = seen.cross_origin
    if asked is None:
        return
    if asked.head is not None:
        fault = _cors_fault(asked, asked.head)
        if fault:
            yield Finding("cors", f"Pages of {clean(asked.origin)} may not read the stream: {fault}.")
        elif asked.head.value("Access-Control-Allow-Origin") != "*" and "origin" not in _listed(
            asked.head, "Vary"
        ):
            text = "The answer depends on the origin of the page, but Vary does not have Origin."
            yield Finding("cors-vary", text)
    if asked.foreign_head is not None and _allows_with_cookies(asked.foreign_head, asked.foreign_origin):
        text = f"Pages of every origin, even of {asked.foreign_origin}, may read with the user's cookies."
        yield Finding("cors-any-origin", f"{text} So any site can read the events of its visitors.")
    if asked.custom_fields and not _is_preflight_right(asked):
        answer = "got no answer" if asked.preflight is None else f"got the answer {asked.preflight}"
        text = f"A page that sends {', '.join(asked.custom_fields)} first asks with OPTIONS. This request {answer}"
        yield Finding("cors-preflight", f"{text}, which does not allow it.")


def _cors_fault(asked: CrossOrigin, head: Head) -> str:
    if not head.is_stream:
        return f"with this origin the answer is {head}"
    allowed = head.values("Access-Control-Allow-Origin")
    if not allowed:
        return "Access-Control-Allow-Origin is missing"
    if len(allowed) > 1 or "," in allowed[0]:
        return "Access-Control-Allow-Origin comes more than once, as if app and proxy both send it"
    if allowed[0] not in ("*", asked.origin):
        return f"Access-Control-Allow-Origin is {clean(allowed[0])!r}"
    return _credentials_fault(allowed[0], head) if asked.has_cookie else ""


def _credentials_fault(allowed: str, head: Head) -> str:
    if allowed == "*":
        return "with a cookie, Access-Control-Allow-Origin must not be *"
    if head.value("Access-Control-Allow-Credentials") != "true":
        return "with a cookie, Access-Control-Allow-Credentials must be true"
    return ""


def _allows_with_cookies(head: Head, origin: str) -> bool:
    is_reflected = head.value("Access-Control-Allow-Origin") == origin
    return is_reflected and head.value("Access-Control-Allow-Credentials") == "true"


def _is_preflight_right(asked: CrossOrigin) -> bool:
    answer = asked.preflight
    if answer is None or not 200 <= answer.status < 300:
        return False
    allowed = _listed(answer, "Access-Control-Allow-Headers")
    # A star does not include Authorization (WHATWG Fetch 4.8).
    is_every_field_allowed = all(
        name in allowed or ("*" in allowed and name != "authorization") for name in asked.custom_fields
    )
    return is_every_field_allowed and answer.value("Access-Control-Allow-Origin") in ("*", asked.origin)


def _listed(head: Head, name: str) -> set[str]:
    return {each.strip().lower() for each in head.value(name).split(",") if each.strip()}
