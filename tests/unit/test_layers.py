"""The house (docs/design.md): which module may import which. Imports only go down.

:mod:`tests.harness.imports` reads the imports from the sources.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import unittest

from tests.harness.imports import SOURCES, TREES, below, full_name, imports_of, inner_imports

ONCE = True  # it says the same under every Python

# The rooms from the ground up, each a line of patterns of module names below the package. A module may
# import modules of lower rooms; within a room only those of its own subpackage, and never in a circle.
# "." is the package itself. A new module goes into the lowest room above all that it imports.
ROOMS = (
    "errors throttled_log observer metrics_directory",
    "protocol protocol.*",
    "log.interface log.record log.retention log.validation log.event_id log.url log.doorbell log.folder_state "
    "log.startup log.group_commit log.reachability",
    "log.memory log.sqlite log.sqlite.* log.redis log.redis.* log.postgres log.postgres.*",
    "log",
    "access access.*",
    "check check.*",
    "client client.*",
    "browser browser.*",
    "fanout fanout.*",
    "metrics metrics.*",
    "tracing",
    "stream longpoll wsgi_server publisher publisher.* presence presence.* overview overview.*",
    "event_requests",
    "debug debug.*",
    "hub",
    "server server.*",
    "worker gunicorn_hooks",
    "testing testing.*",
    "bench bench.*",
    ".",
    "django django.*",
    "board board.*",
    "top top.*",
    "cli",
)

# Drivers of optional engines, which may not be installed; and the modules that import them. Those are imported by
# others inside a function only.
DRIVERS = {
    "django",
    "itsdangerous",
    "opentelemetry",
    "prometheus_client",
    "psycopg",
    "redis",
    "requests",
    "rich",
    "urllib3",
}
OPTIONAL = {f"log.redis.{name}" for name in ("client", "driver", "errors", "listener", "log")} | {
    "access.tickets",
    "board.metrics_page",
    "board.postgres_store",
    "board.postgres_tables",
    "board.redis_store",
}
OPTIONAL |= {"top.screen", "top.table"}
OPTIONAL |= {"client", "client.command", "client.connection", "client.event_source"}
OPTIONAL |= {"metrics", "metrics.app", "metrics.metrics", "metrics.scrape", "tracing"}
OPTIONAL |= {"django"} | {
    f"django.{name}"
    for name in ("apps", "checks", "hubs", "migrations", "migrations.0001_initial", "operations", "publishing")
}
OPTIONAL |= {f"django.{name}" for name in ("settings", "sqlite", "streams", "url")}
OPTIONAL |= {
    f"log.postgres.{name}"
    for name in ("app_connection", "client", "connector", "driver", "errors", "listener", "log", "pool")
} | {"log.postgres.notifications", "log.postgres.numberer", "log.postgres.transaction", "log.postgres.trimmer"}

# Modules that compute only: what they may not import, themselves or through a module of the package.
_OUTSIDE = {"asyncio", "gunicorn", "logging", "os", "psycopg", "queue", "redis", "select", "selectors", "socket"}
_OUTSIDE |= {"sqlite3", "subprocess", "tempfile", "threading", "time"}
_OUTSIDE_AND_HTTP = _OUTSIDE | {"http", "urllib", "werkzeug"}
PURE = {
    "check.answer_rules": _OUTSIDE,
    "check.codes": _OUTSIDE_AND_HTTP,
    "check.findings": _OUTSIDE,
    "check.observations": _OUTSIDE_AND_HTTP,
    "check.report": _OUTSIDE,
    "check.request_rules": _OUTSIDE_AND_HTTP,
    "check.stream_rules": _OUTSIDE_AND_HTTP,
    "check.target": _OUTSIDE,
    "protocol.batch": _OUTSIDE_AND_HTTP,
    "protocol.decoder": _OUTSIDE_AND_HTTP,
    "protocol.event": _OUTSIDE_AND_HTTP,
    "protocol.problem": _OUTSIDE,
    "protocol.request": _OUTSIDE,
    "protocol.stream_response": _OUTSIDE,
    "log.event_id": _OUTSIDE_AND_HTTP,
    "log.record": _OUTSIDE_AND_HTTP,
    "log.postgres.epochs": _OUTSIDE_AND_HTTP,
    "log.postgres.pages": _OUTSIDE_AND_HTTP,
    "log.postgres.text": _OUTSIDE_AND_HTTP,
    "log.redis.gaps": _OUTSIDE_AND_HTTP,
    "log.redis.pages": _OUTSIDE_AND_HTTP,
    "log.retention": _OUTSIDE_AND_HTTP,
    "log.url": _OUTSIDE_AND_HTTP,
    "presence.blocks": _OUTSIDE_AND_HTTP,
    "presence.directory": _OUTSIDE_AND_HTTP,
    "presence.member": _OUTSIDE_AND_HTTP,
    "presence.messages": _OUTSIDE_AND_HTTP,
    "presence.times": _OUTSIDE_AND_HTTP,
    "log.validation": _OUTSIDE_AND_HTTP,
}

ASYNCHRONOUS = {"asyncio", "anyio", "trio", "gevent", "eventlet"}


def room_of(module: str) -> int | None:
    """The room's number from the ground up; a name given in full wins over a pattern."""
    for number, room in enumerate(ROOMS):
        if module in room.split():
            return number
    for number, room in enumerate(ROOMS):
        if any(fnmatch.fnmatchcase(module, pattern) for pattern in room.split()):
            return number
    return None


class RoomsTest(unittest.TestCase):
    def test_every_module_has_a_room(self) -> None:
        for module in SOURCES:
            self.assertIsNotNone(
                room_of(module),
                f"{full_name(module)} is in no room: place it in ROOMS of tests/unit/test_layers.py, in the "
                "lowest room above all that it imports, and in docs/design.md",
            )

    def test_imports_only_go_down(self) -> None:
        for module in SOURCES:
            here = room_of(module)
            for target, imported in inner_imports(module):
                there = room_of(target)
                if here is None or there is None:
                    continue  # the other test says so
                same_package = module.partition(".")[0] == target.partition(".")[0]
                with self.subTest(module=module, imports=target):
                    if here == there:
                        self.assertTrue(
                            same_package,
                            f"{imported.place}: {module}, {target} are in one room and may not import each other",
                        )
                    self.assertLessEqual(
                        there, here, f"{imported.place}: {module} imports {target}, which is in a room above it"
                    )

    def test_no_circle(self) -> None:
        targets = {module: {target for target, _ in inner_imports(module)} for module in SOURCES}
        left = dict(targets)
        while left:
            free = [module for module, uses in left.items() if not uses & left.keys()]
            self.assertTrue(free, f"among these is a circle of imports: {sorted(left)}")
            for module in free:
                del left[module]

    def test_no_room_is_empty(self) -> None:
        for pattern in " ".join(ROOMS).split():
            self.assertTrue(fnmatch.filter(SOURCES, pattern), f"no module fits {pattern}: take it out of ROOMS")


class ImportsTest(unittest.TestCase):
    def test_no_import_inside_a_function(self) -> None:
        for module in SOURCES:
            for imported in imports_of(module):
                if imported.in_function and below(imported.name) not in OPTIONAL:
                    with self.subTest(module=module, imports=imported.name):
                        self.fail(f"{imported.place}: import {imported.name} at the top of the file")

    def test_what_may_be_missing_is_not_needed(self) -> None:
        for module in SOURCES.keys() - OPTIONAL:
            for imported in imports_of(module):
                missing = imported.name.partition(".")[0] in DRIVERS or below(imported.name) in OPTIONAL
                name = re.escape(imported.name.rpartition(".")[2])
                own = rf"    from \.(?:\w+\.)*{name} "
                typing = re.compile(rf"^if TYPE_CHECKING:\n(?:    from .*\n|\n)*{own}", re.MULTILINE)
                if missing and not imported.in_function and not typing.search(SOURCES[module].read_text()):
                    with self.subTest(module=module, imports=imported.name):
                        self.fail(f"{imported.place}: import {imported.name} inside a function")

    def test_imports_stand_before_other_code(self) -> None:
        for module, tree in TREES.items():
            code = (ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.For, ast.While, ast.With)
            first = min((node.lineno for node in tree.body if isinstance(node, code)), default=None)
            for node in tree.body:
                if isinstance(node, (ast.Import, ast.ImportFrom)) and first is not None:
                    with self.subTest(module=module):
                        self.assertLess(node.lineno, first, f"{SOURCES[module]}:{node.lineno}: move it to the top")

    def test_nothing_asynchronous(self) -> None:
        for module, tree in TREES.items():
            with self.subTest(module=module):
                names = {imported.name.partition(".")[0] for imported in imports_of(module)}
                self.assertEqual(names & ASYNCHRONOUS, set())
                awaiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
                self.assertEqual([node.lineno for node in ast.walk(tree) if isinstance(node, awaiting)], [])

    def test_pure_modules_stay_pure(self) -> None:
        for module, forbidden in PURE.items():
            seen: set[str] = set()
            to_read = {module}
            while to_read:
                current = to_read.pop()
                seen.add(current)
                names = {imported.name.partition(".")[0] for imported in imports_of(current)}
                with self.subTest(module=module, through=current):
                    self.assertEqual(names & forbidden, set())
                to_read |= {target for target, _ in inner_imports(current)} - seen


if __name__ == "__main__":
    unittest.main()
