"""The gaps in a log's numbers."""

from __future__ import annotations


class Gaps:
    """The gaps in a log's numbers. At each of them a server may have lost events that it had acknowledged.

    :param text: as the scripts return them; default none.
    """

    def __init__(self, text: bytes = b"") -> None:
        # The last number before each gap, and the last number in it.
        self._bounds: dict[int, int] = {}
        for gap in text.split(b",") if text else ():
            before, _, last = gap.partition(b":")
            self._bounds[int(before)] = int(last)

    def hold(self, sequence: int) -> bool:
        """Whether this number is in a gap, so that its event is lost."""
        return any(before < sequence < last for before, last in self._bounds.items())

    def follows(self, sequence: int, before: int) -> bool:
        """Whether no event can be missing between the number ``before`` and ``sequence``."""
        while sequence != before + 1 and before in self._bounds:
            before = self._bounds[before]
        return sequence == before + 1
