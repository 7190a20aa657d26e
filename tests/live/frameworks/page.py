"""The code of docs/frameworks.md, so that the page and its tests cannot differ."""

from __future__ import annotations

from pathlib import Path

from tests.quality.test_examples import blocks


def page_block(sign: str) -> str:
    """The only Python block of the page that has this text in it."""
    (found,) = [each.text for each in blocks() if each.path.name == "frameworks.md" and sign in each.text]
    return found


def write_app(folder: Path, sign: str, *, before: str = "", after: str = "") -> None:
    """Write the block as the module ``example`` into a folder.

    :param sign: a text that only this block has.
    :param before: lines before it.
    :param after: lines after it.
    """
    (folder / "example.py").write_text(f"{before}\n{page_block(sign)}\n{after}", encoding="utf-8")
