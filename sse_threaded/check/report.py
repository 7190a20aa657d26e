"""The findings as text for people and as JSON for programs."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .codes import Level
from .finding import Finding
from .observations import Seen

_WIDTH = 100


def text(seen: Seen, found: Sequence[Finding]) -> str:
    """Return the findings for a person to read.

    :param seen: the facts.
    :param found: the findings, in the order in which they are shown.
    """
    paragraphs = [f"{seen.url}: {_summary(found)}"]
    for finding in found:
        lines = [
            f"{finding.level.value}: {finding.code}",
            *_wrapped(finding.text),
            *_wrapped(f"-> {finding.remedy}"),
        ]
        paragraphs.append("\n".join(lines))
    facts = _facts(seen)
    if facts:
        paragraphs.append("\n".join(_wrapped(f"Measured: {', '.join(facts)}.", indent="")))
    shown = "\n\n".join(paragraphs)
    # The server chose some of the words. A terminal would obey control characters.
    return "".join(character for character in shown if character.isprintable() or character == "\n")


def _summary(found: Sequence[Finding]) -> str:
    counts = Counter(finding.level for finding in found)
    parts = [f"{counts[level]} {level.value}{'s' * (counts[level] > 1)}" for level in Level if counts[level]]
    return ", ".join(parts) or "nothing is wrong"


def _wrapped(paragraph: str, indent: str = "    ") -> list[str]:
    return textwrap.wrap(
        paragraph,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _facts(seen: Seen) -> list[str]:
    figures = measured(seen)
    if figures["head_ms"] is None:
        return []
    facts = [f"head after {figures['head_ms']} ms"]
    if figures["first_byte_ms"] is not None:
        facts.append(f"first byte after {figures['first_byte_ms']} ms")
    if figures["delivery_ms"] is not None:
        facts.append(f"delivery in {figures['delivery_ms']} ms")
    if figures["heartbeat_s"] is not None:
        facts.append(f"heartbeat every {figures['heartbeat_s']} s")
    facts.append(f"events {figures['events']}")
    facts.append(f"listened for {figures['seconds']} s")
    return facts


def measured(seen: Seen) -> dict[str, Any]:
    """Return the figures; ``None`` for a figure that could not be measured."""
    first, gaps = seen.first, seen.first.heartbeat_gaps
    delivery = None if seen.delivery is None else seen.delivery.seconds
    return {
        "http2": None if seen.tls is None else seen.tls.alpn == "h2",
        "status": first.head.status if first.head is not None else None,
        "head_ms": round(first.head_at * 1000) if first.head is not None else None,
        "first_byte_ms": round(first.arrivals[0].at * 1000) if first.arrivals else None,
        "delivery_ms": None if delivery is None else round(delivery * 1000),
        "events": len(first.events),
        "comments": first.comments,
        "heartbeat_s": round(max(gaps), 1) if gaps else None,
        "retry_ms": first.retries[-1] if first.retries else None,
        "end": first.end.value,
        "seconds": round(first.seconds, 1),
    }


def as_json(seen: Seen, found: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings and the figures as values for JSON."""
    return {
        "url": seen.url,
        "faults": sum(finding.level is Level.FAULT for finding in found),
        "warnings": sum(finding.level is Level.WARNING for finding in found),
        "findings": [
            {
                "code": finding.code,
                "level": finding.level.value,
                "text": finding.text,
                "remedy": finding.remedy,
            }
            for finding in found
        ],
        "measured": measured(seen),
    }
