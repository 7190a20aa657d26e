"""A linter for plain English: ``python -m tests.quality.prose [--long] [--lower] [PATH ...]``.

It reads Markdown pages, docstrings, comments and messages of Python modules, and comments of JavaScript, Lua,
SQL and configuration files. It finds the phrases of ``prose_rules.txt`` and sentences of more than 25 words. It
prints where they are and what to write instead. ``prose_counts.json`` says how many there may be in places that
are not rewritten yet.
"""

from __future__ import annotations

import argparse
import ast
import functools
import io
import json
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
RULES = HERE / "prose_rules.txt"
COUNTS = HERE / "prose_counts.json"

MOST_WORDS = 25

# Pages that programs under benchmarks/ write: their prose is mended there.
GENERATED = {
    "docs/benchmarks.md",
    "docs/benchmarks-1000.md",
    "docs/benchmarks-redis.md",
    "docs/fan_in.md",
    "docs/faults.md",
    "docs/faults-postgresql.md",
    "docs/measured.md",
    "docs/postgresql-measured.md",
    "docs/presence-measured.md",
    "docs/reload.md",
    "docs/soak.md",
    "docs/transactions.md",
}

# What a comment begins with, by the end of the file's name.
_MARKS = {".js": "//", ".lua": "--", ".sql": "--"}

# Spaces in a string that is a message, at least.
_MESSAGE_SPACES = 3

# Spaces by which a block of code is indented, at least.
_BLOCK_INDENT = 4

# In place of code in a sentence: it counts as one word, and no rule looks into it.
_CODE = "CODE"

_INLINE_CODE = re.compile(r":\w+:`[^`]*`|(`+).+?\1")
_LINK = re.compile(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])")
_URL = re.compile(r"<?https?://[^\s>)]+>?")
_MARKUP = re.compile(r"\*\*|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf)\.$")
_ITEM = re.compile(r"\s*([-*]|\d+\.)\s")
_FIELD = re.compile(r"\s*:(param|ivar|cvar|raises|return|returns)\b([^:]*):")
_TABLE_RULE = re.compile(r"\|[\s:|-]+\|?\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_WORD = re.compile(r"\w[\w'’.,%/:=+-]*")


class Rule(NamedTuple):
    """A phrase, and what to write instead."""

    pattern: re.Pattern[str]
    advice: str


class Line(NamedTuple):
    """A line of prose, and its number in the file."""

    number: int
    text: str


class Sentence(NamedTuple):
    """One sentence, with its code left out."""

    line: int
    text: str

    @property
    def words(self) -> int:
        """How many words it has; a piece of code is one."""
        return len(_WORD.findall(self.text))


class Finding(NamedTuple):
    """A sentence that is not plain."""

    path: str
    line: int
    found: str
    advice: str
    is_long: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}: {self.advice}"


@functools.cache
def rules() -> tuple[Rule, ...]:
    """The rules of ``prose_rules.txt``."""
    found = []
    for line in RULES.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern, _, advice = line.partition(" => ")
            found.append(Rule(re.compile(pattern.strip(), re.IGNORECASE), advice.strip()))
    return tuple(found)


def _plain(text: str) -> str:
    text = _INLINE_CODE.sub(_CODE, text)
    text = _LINK.sub(r"\1", text)
    return _MARKUP.sub("", _URL.sub(_CODE, text))


def _sentences(paragraph: list[Line]) -> Iterator[Sentence]:
    # Code and links may go over a line's end, so lines are joined first; marks keep the numbers.
    joined = _plain("".join(f"{line.text.strip()} \x00{line.number}\x01" for line in paragraph))
    bare = re.sub(r"\x00\d+\x01", _blank, joined).rstrip()
    start = 0
    number = paragraph[0].number
    ends = [match.end() for match in _SENTENCE_END.finditer(bare)]
    for end in [*ends, len(joined)]:
        piece = joined[start:end]
        text = re.sub(r"\s+", " ", re.sub(r"\x00\d+\x01", " ", piece)).strip()
        if _ABBREVIATION.search(text) and end != len(joined):
            continue
        if text:
            yield Sentence(number, text)
        passed = [int(mark) + 1 for mark in re.findall(r"\x00(\d+)\x01", piece)]
        number = passed[-1] if passed else number
        start = end


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _paragraphs(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Split at empty lines, list items and fields; leave out code and doctests."""
    current: list[Line] = []
    code_indent: int | None = None  # of the text before a block of code
    text_indent = 0
    for line in lines:
        text = line.text
        indent = len(text) - len(text.lstrip())
        if code_indent is not None and (not text.strip() or indent > code_indent):
            continue
        code_indent = None
        if not current and text.strip() and indent >= text_indent + _BLOCK_INDENT and not _ITEM.match(text):
            code_indent = text_indent  # an indented block after an empty line
            continue
        if not text.strip() or text.lstrip().startswith((">>> ", "... ")):
            if current:
                yield current
            current = []
            continue
        field = _FIELD.match(text)
        item = _ITEM.match(text)
        if (field or item) and current:
            yield current
            current = []
        if field:
            text = text[field.end() :]
        elif item:
            text = text[item.end() :]
        if text.rstrip().endswith("::"):
            code_indent = indent
        if text.strip():
            if not current and not field and not item:
                text_indent = indent
            current.append(Line(line.number, text))
    if current:
        yield current


def _markdown(text: str) -> Iterator[list[Line]]:
    prose: list[Line] = []
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if mark and (fence is None or mark[1] == fence):
            fence = mark[1] if fence is None else None
            prose.append(Line(number, ""))
        elif fence is not None or _TABLE_RULE.match(line):
            continue
        elif line.startswith("|"):
            # Each cell is a paragraph of its own.
            for cell in re.split(r"(?<!\\)\|", line.strip().strip("|")):
                prose += [Line(number, cell), Line(number, "")]
        elif line.startswith("#"):  # a heading is no sentence
            prose.append(Line(number, ""))
        else:
            # A continuation line of an item is indented, which must not look like code.
            prose.append(Line(number, line.lstrip() if not _ITEM.match(line) else line))
    return _paragraphs(prose)


def _docstrings(tree: ast.Module) -> Iterator[list[Line]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text is not None:
                first = node.body[0].lineno
                yield from _paragraphs(Line(first + offset, line) for offset, line in enumerate(text.split("\n")))


def _messages(tree: ast.Module) -> Iterator[list[Line]]:
    """Texts of errors, log lines and help: strings of several words."""
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                seen.add(id(first.value))  # a docstring
        if isinstance(node, ast.JoinedStr):
            seen.update(id(part) for part in ast.walk(node) if part is not node)
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else _CODE
                for part in node.values
                if isinstance(part, (ast.Constant, ast.FormattedValue))
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if id(node) not in seen and text.count(" ") >= _MESSAGE_SPACES:
            yield [Line(node.lineno, " ".join(text.split()))]


def _comments(found: Iterable[Line]) -> Iterator[list[Line]]:
    """Join comments of neighbouring lines."""
    block: list[Line] = []
    for line in found:
        if block and line.number != block[-1].number + 1:
            yield from _paragraphs(block)
            block = []
        block.append(line)
    yield from _paragraphs(block)


def _python(text: str) -> Iterator[list[Line]]:
    tree = ast.parse(text)
    yield from _docstrings(tree)
    yield from _messages(tree)
    comments: list[Line] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            said = token.string.lstrip("#! ")
            # "noqa: PLW0603  # the reason": the reason only.
            said = re.sub(r"^(noqa|type:|pragma|fmt:)\b[^#]*#?\s*", "", said)
            line = Line(token.start[0], said)
            if token.line[: token.start[1]].strip():  # behind code: not joined with the next line's
                yield from _comments([line])
            else:
                comments.append(line)
    yield from _comments(comments)


def _marked(text: str, mark: str) -> Iterator[list[Line]]:
    # A line such as "#NAME=value" is a setting that is switched off.
    alone: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        before, found, said = line.partition(f"{mark} ")
        if not found:
            continue
        if not before.strip():
            alone.append(Line(number, said))
        elif mark != "#" and before.endswith(" "):  # behind code
            yield from _comments([Line(number, said)])
    yield from _comments(alone)


def sentences(path: Path) -> Iterator[Sentence]:
    """All sentences of prose in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        paragraphs = _markdown(text)
    elif path.suffix == ".py":
        paragraphs = _python(text)
    else:
        paragraphs = _marked(text, _MARKS.get(path.suffix, "#"))
    for paragraph in paragraphs:
        yield from _sentences(paragraph)


def findings(path: Path, root: Path) -> Iterator[Finding]:
    """All sentences of a file that are not plain."""
    name = path.relative_to(root).as_posix()
    for sentence in sentences(path):
        for rule in rules():
            match = rule.pattern.search(sentence.text)
            if match:
                yield Finding(name, sentence.line, match[0], rule.advice, False)
        if sentence.words > MOST_WORDS:
            start = " ".join(sentence.text.split()[:8])
            advice = f"{sentence.words} words, {MOST_WORDS} at most; make two sentences of it"
            yield Finding(name, sentence.line, f"{start} ...", advice, True)


def pages(root: Path) -> list[Path]:
    """The pages and the commented configuration files that must have no finding."""
    found = [root / "README.md", root / "CHANGELOG.md", root / "CONTRIBUTING.md"]
    found += sorted((root / "docs").glob("*.md"))
    found += sorted(path for path in (root / "deploy").iterdir() if path.is_file())
    return found


def modules(root: Path) -> list[Path]:
    """The modules of the package."""
    return sorted(path for path in (root / "sse_threaded").rglob("*") if path.suffix in (".py", *_MARKS))


def place(finding: Finding) -> str:
    """The page, or the room of the module, under which a finding counts."""
    parts = finding.path.split("/")
    return "/".join(parts[: min(2, len(parts) - 1)]) if parts[0] == "sse_threaded" else finding.path


def limited(root: Path) -> Iterator[Finding]:
    """The findings that ``prose_counts.json`` counts: phrases in the package, everything in generated pages."""
    for path in modules(root):
        yield from (found for found in findings(path, root) if not found.is_long)
    for name in sorted(GENERATED):
        if (root / name).exists():
            yield from findings(root / name, root)


def allowed() -> dict[str, int]:
    """How many findings each place may have."""
    counts: dict[str, int] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return counts


def lower(root: Path) -> None:
    """Write the counts of today where they are below the allowed ones."""
    counts = Counter(place(found) for found in limited(root))
    before = allowed() if COUNTS.exists() else dict(counts)
    after = {name: min(most, counts[name]) for name, most in sorted(before.items())}
    COUNTS.write_text(json.dumps({name: most for name, most in after.items() if most}, indent=2) + "\n")


def main() -> int:
    """Print findings; returns 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality.prose", description=__doc__)
    parser.add_argument("--long", action="store_true", help="print long sentences of the package, too")
    parser.add_argument("--lower", action="store_true", help="lower the counts of prose_counts.json to today's")
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders; default: all")
    options = parser.parse_args()
    root = HERE.parent.parent
    if options.lower:
        lower(root)
        return 0
    found = 0
    everything = [*pages(root), *modules(root)]
    asked = [path.resolve() for path in options.paths]
    below = [path for path in everything if any(folder in path.parents for folder in asked)]
    for path in [*filter(Path.is_file, asked), *below] if asked else everything:
        for finding in findings(path, root):
            if options.long or not finding.is_long or path.suffix == ".md":
                sys.stdout.write(f"{finding}\n")
                found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
