"""The site of the documentation: ``python -m sphinx -W -n docs build/site``. It needs the extra ``docs``.

The pages are the Markdown files of this folder. A link to another file of the repository works on the site, too:
the front page and two others are files of the repository's root, and every other file is offered as a download.
``tests/quality/test_docs_site.py`` builds the site.
"""

from __future__ import annotations

import builtins
import re
import sys
from pathlib import Path

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import sse_threaded  # noqa: E402 (needs the path above)

project = "sse_threaded"
author = copyright = "the authors of sse_threaded"
version = release = sse_threaded.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build"]
highlight_language = "default"

myst_heading_anchors = 4

html_theme = "furo"
html_title = f"sse_threaded {version}"
html_favicon = "../sse_threaded/board/static/favicon.svg"
html_theme_options: dict[str, object] = {"top_of_page_buttons": []}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
# A prompt is not a part of the command.
copybutton_prompt_text = "$ "

# Signatures: each parameter in its own line, with its type.
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 72
add_module_names = False
toc_object_entries_show_parents = "hide"

# Every other name in the docstrings must lead somewhere (sphinx -n).
nitpick_ignore_regex = [
    ("py:.*", r"(django|gunicorn|opentelemetry|prometheus_client|requests|werkzeug)\..*"),
    ("py:class", r"Arbiter|Headers|Response|Worker|StartResponse|WSGIApplication|WSGIEnvironment"),
]

# Files of the repository's root that are pages of the site.
_WHOLE = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
_PAGES = {"README.md": "index.md", **{name: f"{page}.md" for page, name in _WHOLE.items()}}

# Where the front page takes over from the README, which lists the pages there.
_END_OF_FRONT = "\n## Documentation\n"

_MANUAL = "https://docs.python.org/3/library"


def setup(app: Sphinx) -> None:
    """Connect the functions below; called by Sphinx."""
    app.connect("source-read", _read_page)
    app.connect("doctree-read", _unlink_attributes)
    app.connect("missing-reference", _find_elsewhere)
    app.add_lexer("haproxy", TextLexer)


def _read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Put files of the repository's root into their pages, and lead links to them there."""
    if page in _WHOLE:
        source[0] = _from_root((ROOT / _WHOLE[page]).read_text(encoding="utf-8"))
    elif page == "index":
        front, end, _ = (ROOT / "README.md").read_text(encoding="utf-8").partition(_END_OF_FRONT)
        if not end:
            raise ValueError("README.md has no heading Documentation, at which the front page of the site ends")
        source[0] = _from_root(front) + source[0].replace("# Documentation\n", "\n## Documentation\n", 1)
    source[0] = re.sub(r"\]\(\.\./([\w./-]+\.md)", _to_page, source[0])
    source[0] = re.sub(r"\[([\w-]+\.md)\]\((?=\1[#)])", _with_title, source[0])


def _from_root(text: str) -> str:
    """Make the links of a file in the root relative to this folder."""
    text = re.sub(r"\]\((?!https?:|#|docs/)", "](../", text)
    return text.replace("](docs/", "](")


def _to_page(link: re.Match[str]) -> str:
    return f"]({_PAGES[link[1]]}" if link[1] in _PAGES else f"](path:../{link[1]}"


def _with_title(link: re.Match[str]) -> str:
    """Show the title of a page where a link shows the name of its file."""
    text = Path(__file__).with_name(link[1]).read_text(encoding="utf-8")
    return f"[{text.partition(chr(10))[0].removeprefix('# ')}]("


def _unlink_attributes(app: Sphinx, page: nodes.document) -> None:
    """Take the links from the names of ``:ivar:``: Sphinx would look for any object of that name."""
    for reference in list(page.findall(addnodes.pending_xref)):
        if (reference["refdomain"], reference["reftype"]) == ("py", "obj"):
            reference.replace_self(reference.children)


def _find_elsewhere(
    app: Sphinx, env: BuildEnvironment, reference: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Find a name by its end, as docstrings write ``EventLog.append``; lead others to Python's manual."""
    if reference.get("refdomain") != "py":
        return None
    target = reference["reftarget"].lstrip(".")
    objects = env.domains["py"].objects
    ours = {entry[:2]: name for name, entry in objects.items() if name.endswith(f".{target}")}  # without aliases
    if len(ours) == 1:
        ((page, place), name) = ours.popitem()
        return make_refnode(app.builder, reference["refdoc"], page, place, text, name)
    manual = _page_of_the_manual(target)
    if manual is None:
        return None
    return nodes.reference("", "", text, internal=False, refuri=f"{_MANUAL}/{manual}.html#{target}")


def _page_of_the_manual(target: str) -> str | None:
    """Name the page of Python's manual that has a name of the standard library; ``None`` for other names."""
    module = target.rpartition(".")[0]
    if not module and hasattr(builtins, target):
        value = getattr(builtins, target)
        if isinstance(value, type) and issubclass(value, BaseException):
            return "exceptions"
        if target in ("None", "True", "False"):
            return "constants"
        return "stdtypes" if target in ("str", "bytes", "dict", "list", "tuple", "set") else "functions"
    if target.partition(".")[0] not in sys.stdlib_module_names:
        return None
    while module not in sys.modules and "." in module:  # a method's class is no module
        module = module.rpartition(".")[0]
    return module or None
