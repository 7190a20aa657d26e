"""What users of the library see: names, docstrings, version, and what an installation holds."""

from __future__ import annotations

import importlib.metadata
import inspect
import pydoc
import types
import unittest
from pathlib import Path

import sse_threaded
import sse_threaded.browser
import sse_threaded.client
import sse_threaded.metrics
import sse_threaded.observer
import sse_threaded.protocol.decoder
import sse_threaded.testing
import sse_threaded.tracing
from tests.support import CHECKOUT, missing

PUBLIC_MODULES: list[types.ModuleType] = [
    sse_threaded,
    sse_threaded.browser,
    sse_threaded.client,
    sse_threaded.metrics,
    sse_threaded.observer,
    sse_threaded.protocol.decoder,
    sse_threaded.testing,
    sse_threaded.tracing,
]


def offered(module: types.ModuleType) -> set[str]:
    """The names a module offers: no underscore, no submodule, no import from elsewhere."""
    names = {name for name in vars(module) if not name.startswith("_")}
    return {
        name
        for name in names
        if not isinstance(vars(module)[name], types.ModuleType)
        and getattr(vars(module)[name], "__module__", "sse_threaded").startswith("sse_threaded")
    }


def public_members(owner: type) -> dict[str, object]:
    """The methods and properties that the class itself, or one of its bases here, defines for users."""
    members: dict[str, object] = {}
    for base in owner.__mro__:
        if base.__module__.startswith("sse_threaded"):
            for name, value in vars(base).items():
                if not name.startswith("_") and isinstance(
                    value, (types.FunctionType, property, classmethod, staticmethod)
                ):
                    members.setdefault(name, value)
    return members


class NamesTest(unittest.TestCase):
    def test_all_is_what_the_package_offers(self) -> None:
        listed = list(sse_threaded.__all__)
        self.assertEqual(len(listed), len(set(listed)), "a name is in __all__ twice")
        public = {name for name in listed if not name.startswith("_")}
        self.assertEqual(public, offered(sse_threaded))

    def test_all_of_testing_is_what_it_offers(self) -> None:
        self.assertEqual(set(sse_threaded.testing.__all__), offered(sse_threaded.testing))

    def test_the_names_that_other_programs_rely_on_are_there(self) -> None:
        contract = {"Hub", "ServerSentEvent", "SSEError", "InvalidEvent", "LogError", "LogUnavailable"}
        contract |= {"LogUnusable", "HubClosed", "Retention", "open_log"}
        self.assertEqual(contract - set(sse_threaded.__all__), set())


class DocstringTest(unittest.TestCase):
    def test_every_public_name_has_one(self) -> None:
        for module in PUBLIC_MODULES:
            self.assertTrue(inspect.getdoc(module), module.__name__)
            for name in sorted(module.__all__):
                value = getattr(module, name)
                if not (inspect.isclass(value) or inspect.isroutine(value)):
                    continue  # a constant, such as __version__
                with self.subTest(module=module.__name__, name=name):
                    # Of its own: a dataclass has one made of its fields, a subclass its parent's.
                    self.assertTrue(vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__)
                    self.assertFalse((value.__doc__ or "").startswith(f"{name}("), "made by dataclass")

    def test_every_public_method_has_one(self) -> None:
        for module in PUBLIC_MODULES:
            for name in sorted(module.__all__):
                value = getattr(module, name)
                if inspect.isclass(value):
                    for member, function in public_members(value).items():
                        with self.subTest(module=module.__name__, name=f"{name}.{member}"):
                            self.assertTrue(inspect.getdoc(function))


class HelpTest(unittest.TestCase):
    def test_help_of_the_hub_leads_to_its_log(self) -> None:
        text = pydoc.plain(pydoc.render_doc(sse_threaded.Hub))
        for words in ("hub.log.transaction()", "hub.log.snapshot()", "hub.log.append(", "hub.log.read("):
            with self.subTest(words):
                self.assertIn(words, text)

    def test_help_of_the_log_has_what_the_readme_uses(self) -> None:
        text = pydoc.plain(pydoc.render_doc(sse_threaded.EventLog))
        for word in ("append", "connection", "run", "look", "ring", "snapshot", "transaction"):
            with self.subTest(word):
                self.assertRegex(text, rf"\b{word}\b")


class InstallationTest(unittest.TestCase):
    def test_the_version_is_that_of_the_metadata(self) -> None:
        try:
            installed = importlib.metadata.version("sse-threaded")
        except importlib.metadata.PackageNotFoundError:
            missing("an installed sse-threaded (pip install .)")
        self.assertEqual(sse_threaded.__version__, installed)

    def test_the_types_are_shipped(self) -> None:
        self.assertTrue(Path(sse_threaded.__file__).with_name("py.typed").is_file())

    def test_every_file_of_the_checkout_is_installed(self) -> None:
        def files(root: Path) -> set[str]:
            found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
            return {path.relative_to(root).as_posix() for path in found}

        # A page or a picture that setup.cfg's package_data does not name works in the checkout only.
        self.assertEqual(files(CHECKOUT / "sse_threaded"), files(Path(sse_threaded.__file__).parent))


if __name__ == "__main__":
    unittest.main()
