"""Follows docs/tutorial.md in a browser, with the code as it stands there.

    python -m tests.harness.tutorial      makes the pictures of the page again

``tests/browser/test_tutorial.py`` does the same, and looks at what the browser shows.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from werkzeug.wrappers import Response

from sse_threaded.testing import LiveServer
from tests.harness.chromium import chromium, resize, wait_for
from tests.harness.server_program import ServerProgram, answers_http
from tests.live.steps import apply
from tests.support import CHECKOUT, free_port

PAGE = (CHECKOUT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PICTURES = CHECKOUT / "docs" / "pictures"

# Where the page says that the app is.
ADDRESS = "127.0.0.1:8000"

_SECONDS = 60
_WIDTH, _HEIGHT = 760, 340

# Two windows, drawn as frames, so that one picture shows both.
_WINDOWS = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; padding: 16px; display: flex; gap: 16px; background: #e7eaee; font: 13px system-ui; }}
section {{ flex: 1; background: #fff; border: 1px solid #aab2bd; border-radius: 8px; overflow: hidden; }}
header {{ padding: 5px 10px; background: #f4f6f8; border-bottom: 1px solid #d5dae0; color: #57606a; }}
iframe {{ border: 0; width: 100%; height: {height}px; display: block; }}
</style>{sections}"""


def blocks(section: int, language: str) -> list[str]:
    """The blocks of a section of the page in a language."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)[section]
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Tutorial:
    """The app of the page, step by step, in a folder.

    :param folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", str(CHECKOUT))])
        self.env = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        commands = folder / ".venv" / "bin"
        commands.mkdir(parents=True)
        for name, module in (("flask", "flask"), ("gunicorn", "gunicorn"), ("sse-threaded", "sse_threaded.cli")):
            command = commands / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            command.chmod(0o755)
        (folder / "templates").mkdir()
        self.app, self.template = folder / "app.py", folder / "templates" / "list.html"

    def begin(self) -> None:
        """Write the files of the first section."""
        (app,) = blocks(1, "python")
        (template,) = blocks(1, "html+jinja")
        self.app.write_text(app, encoding="utf-8")
        self.template.write_text(template, encoding="utf-8")

    def change(self, section: int) -> None:
        """Make the changes of a section: first those of the app, then those of the template."""
        for path, diff in zip((self.app, self.template), blocks(section, "diff"), strict=True):
            path.write_text(apply(diff, path.read_text(encoding="utf-8")), encoding="utf-8")

    def command(self, section: int, sign: str) -> str:
        """The command of a section with this text in it, with the address of this app."""
        (found,) = [each for each in blocks(section, "sh") if sign in each]
        return (
            found.strip().replace(ADDRESS, f"127.0.0.1:{self.port}").replace("--port 8000", f"--port {self.port}")
        )

    def server(self, section: int, sign: str) -> ServerProgram:
        """The server that a command starts, not started."""
        command = ["sh", "-c", f"exec {self.command(section, sign)}"]
        return ServerProgram("the app", command, self.folder, answers_http(self.url), env=self.env)

    def run(self, command: str) -> str:
        """Run another command; returns what it prints."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


class Windows:
    """Open windows of a browser, side by side.

    :param browser: selenium's driver.
    :param url: the page that all of them show.
    :param count: how many there are.
    :param resources: its end ends the server of the page with the windows.
    """

    def __init__(self, browser: Any, url: str, count: int, resources: ExitStack) -> None:
        self.browser = browser
        sections = ""
        for number in range(count):
            title = ("Window", "Another window")[number]
            sections += f'<section><header>{title}</header><iframe src="{url}"></iframe></section>'
        whole = _WINDOWS.format(height=_HEIGHT - 64, sections=sections)
        resize(browser, _WIDTH if count > 1 else _WIDTH // 2, _HEIGHT)
        # A page from anywhere but this machine may not show pages of this machine.
        server = LiveServer(Response(whole, mimetype="text/html"))
        browser.get(resources.enter_context(server).url)

    @contextmanager
    def inside(self, number: int) -> Iterator[Any]:
        """Send commands to one of the windows."""
        self.browser.switch_to.frame(number)
        try:
            yield self.browser
        finally:
            self.browser.switch_to.default_content()

    def reload(self) -> None:
        """Load all pages again."""
        self.browser.refresh()

    def add(self, number: int, item: str) -> None:
        """Add an item by the form of a window."""
        with self.inside(number) as browser:
            wait_for(browser, "document.querySelector('button')")
            browser.execute_script(
                "document.querySelector('input').value = arguments[0]; document.querySelector('button').click()",
                item,
            )
            wait_for(browser, f"{_ITEMS}.includes(arguments[0])", item)

    def wait(self, number: int, items: list[str], state: str | None = None) -> None:
        """Wait until a window shows these items, and this state if one is given."""
        with self.inside(number) as browser:
            expected = ",".join(items)
            wait_for(
                browser,
                f"document.querySelector('ul') && {_ITEMS}.join() === arguments[0]",
                expected,
                timeout=_SECONDS,
            )
            if state is not None:
                found = "document.getElementById('state').textContent === arguments[0]"
                wait_for(browser, found, state, timeout=_SECONDS)


_ITEMS = "[...document.querySelectorAll('li')].map((each) => each.textContent)"

# Gets the browser, and the number of the picture that it shows.
Camera = Callable[[Any, int], None]


def follow(tutorial: Tutorial, browser: Any, camera: Camera) -> None:
    """Do what the page says, and wait each time until the windows show it.

    :raises AssertionError: a window does not show what the page promises.
    """
    with ExitStack() as resources:
        _follow(tutorial, partial(Windows, browser, tutorial.url, resources=resources), partial(camera, browser))


def _follow(
    tutorial: Tutorial, open_windows: Callable[[int], Windows], take_picture: Callable[[int], None]
) -> None:
    tutorial.begin()
    with tutorial.server(1, "flask --app"):
        windows = open_windows(2)
        windows.wait(0, [])
        windows.add(0, "bread")
        windows.reload()
        windows.wait(1, ["bread"])
        windows.add(1, "tea")
        windows.wait(0, ["bread"])
        take_picture(1)
    tutorial.change(2)
    with tutorial.server(1, "flask --app"):
        windows = open_windows(2)
        for number in (0, 1):
            windows.wait(number, [], "live")
        windows.add(1, "milk")
        for number in (0, 1):
            windows.wait(number, ["milk"], "live")
        take_picture(2)
    server = tutorial.server(3, "gunicorn")
    with server:
        windows = open_windows(1)
        windows.wait(0, [], "live")
        windows.add(0, "eggs")
        windows.wait(0, ["eggs"], "live")
        server.signal(signal.SIGINT)
        server.wait()
        windows.wait(0, ["eggs"], "reconnecting …")
        take_picture(3)
        tutorial.run(tutorial.command(4, "sse-threaded publish"))
        server.start()
        windows.wait(0, ["eggs", "coffee"], "live")
        take_picture(4)
        windows.reload()
        windows.wait(0, [])
    tutorial.change(5)
    with tutorial.server(5, "-w 2"):
        windows = open_windows(2)
        for number in (0, 1):
            windows.wait(number, [], "live")
        windows.add(0, "rice")
        windows.wait(1, ["rice"], "live")
        windows.reload()
        for number in (0, 1):
            windows.wait(number, ["rice"], "live")


def main() -> int:
    """Make the pictures."""
    PICTURES.mkdir(exist_ok=True)

    def camera(browser: Any, number: int) -> None:
        (PICTURES / f"tutorial-{number}.png").write_bytes(browser.get_screenshot_as_png())

    with (
        tempfile.TemporaryDirectory() as folder,
        chromium(_WIDTH, _HEIGHT, "--force-color-profile=srgb") as browser,
    ):
        follow(Tutorial(Path(folder)), browser, camera)
    return 0


if __name__ == "__main__":
    sys.exit(main())
