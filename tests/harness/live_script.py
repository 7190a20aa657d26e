"""Makes the files of sse_threaded/browser that are made from ``live.js``.

    python -m tests.harness.live_script

They are ``live.d.ts``, made by tsc from the comments of live.js, and ``live.min.js``, made by esbuild. Both tools
are in tests/browser/clients/package.json.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.support import CHECKOUT, missing

FOLDER = CHECKOUT / "sse_threaded" / "browser"
SOURCE = FOLDER / "live.js"
TYPES = FOLDER / "live.d.ts"
SMALL = FOLDER / "static" / "sse_threaded" / "live.min.js"

MODULES = CHECKOUT / ".test-npm" / "node_modules"
_SECONDS = 120

_HEAD = "// Made from sse_threaded/browser/live.js of sse-threaded, which has comments. BSD-3-Clause.\n"


def _run(script: str, *args: str, cwd: Path | None = None) -> str:
    program = MODULES / script
    if not program.exists():
        missing(f"{program} (bash tests/run installs it)")
    done = subprocess.run(
        ["node", str(program), *args], cwd=cwd, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        raise AssertionError(f"{script} {' '.join(args)}\n{done.stdout}{done.stderr}")
    return done.stdout


def make_small() -> str:
    """The text of ``live.min.js``."""
    return _HEAD + _run("esbuild/bin/esbuild", str(SOURCE), "--minify", "--format=esm", "--target=es2022")


def make_types() -> str:
    """The text of ``live.d.ts``."""
    with tempfile.TemporaryDirectory(prefix="sse_threaded-") as folder:
        how = ["--allowJs", "--checkJs", "--declaration", "--emitDeclarationOnly", "--outDir", folder]
        how += ["--target", "es2022", "--lib", "es2022,dom,dom.iterable"]
        _run("typescript/bin/tsc", *how, str(SOURCE), cwd=Path(folder))
        return Path(folder, "live.d.ts").read_text(encoding="utf-8")


def main() -> None:
    """Write both."""
    SMALL.write_text(make_small(), encoding="utf-8")
    TYPES.write_text(make_types(), encoding="utf-8")


if __name__ == "__main__":
    main()
