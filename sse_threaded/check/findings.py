"""From the facts to the findings: the faults of a deployment, in sentences. It does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import answer_rules, request_rules, stream_rules
from .codes import Level
from .finding import Finding
from .observations import Seen

# In the order in which a reader wants to see the findings of one level.
_RULES: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    answer_rules.certificate,
    answer_rules.answer,
    stream_rules.flow,
    stream_rules.silence,
    stream_rules.end,
    answer_rules.fields,
    stream_rules.content,
    request_rules.resumption,
    request_rules.cross_origin,
    request_rules.head_request,
    answer_rules.protocol,
    answer_rules.clock,
)


def findings(seen: Seen) -> list[Finding]:
    """Return the findings, the most serious first, each code once."""
    found: dict[str, Finding] = {}
    for rule in _RULES:
        for finding in rule(seen):
            found.setdefault(finding.code, finding)
    levels = list(Level)
    return sorted(found.values(), key=lambda finding: levels.index(finding.level))
