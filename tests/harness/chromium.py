"""A headless Chromium for tests, through selenium and the chromedriver that comes with it.

with chromium() as browser:
    browser.get(server.url)
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.wrappers import Response

from sse_threaded.testing import LiveServer
from tests.support import missing, wait_until

try:
    from selenium import webdriver
    from selenium.common.exceptions import WebDriverException
except ImportError:
    webdriver = None  # type: ignore[assignment]

# No sandbox: tests run as root in containers. The rest keeps the browser from talking to anybody else.
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A desktop has a mouse, which a headless browser denies: hover and a fine pointer.
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)

# All pages of a host share one process, whatever the port. The start of a process takes a quarter of a second.
_TOGETHER = "--process-per-site"

# Seconds; a page that loads or a script that answers takes milliseconds.
_PAGE_TIMEOUT = 30

# Evaluates an expression in the page every 20 ms until it is true, for a quarter of a second. A command costs much
# more than an evaluation.
_LOOK = """
const done = arguments[arguments.length - 1];
const end = performance.now() + 250;
const look = () => {{
  try {{
    const value = ({expression});
    if (value || performance.now() > end) done(value);
    else setTimeout(look, 20);
  }} catch (error) {{
    done(null);
  }}
}};
look();
"""


@contextmanager
def chromium(width: int = 1280, height: int = 800, *flags: str, apart: bool = False) -> Iterator[Any]:
    """A browser with an empty profile, as selenium's driver; ends with the block.

    :param width: of the window, in CSS pixels; default 1280. See :func:`resize` for phones.
    :param height: of the window, in CSS pixels; default 800.
    :param flags: further arguments of Chromium's.
    :param apart: whether each page has its own process, so that one can crash alone; default ``False``.

    Where selenium, Chromium or its driver is missing, the test is skipped (in CI: fails).
    """
    if webdriver is None:
        missing("selenium (pip install selenium)")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        missing("Chromium and its driver (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # With the profile in a directory of its own, two browsers do not meet.
    directory = tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True)
    with directory as profile:
        together = () if apart else (_TOGETHER,)
        for flag in (*_FLAGS, *together, *flags, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
        try:
            browser.set_page_load_timeout(_PAGE_TIMEOUT)
            browser.set_script_timeout(_PAGE_TIMEOUT)
            yield browser
        finally:
            browser.quit()


# The scripts of before_scripts() by window, which give_back() takes back.
_scripts: dict[str, list[str]] = {}

# The windows that were a phone's. Their pointer stays a finger, so no other test can have them.
_phones: set[str] = set()


class Windows:
    """The windows of one browser, which tests use one after the other: to make a new one takes a second.

    :func:`windows` makes it. All windows should show pages of ``127.0.0.1``. Then one process of Chromium shows
    all of them, and no test waits for the start of another.

    :param browser: selenium's driver. Its first window always shows the empty page.
    :param empty: the URL of an empty page. Windows that are not in use show it.
    """

    def __init__(self, browser: Any, empty: str) -> None:
        self.browser = browser
        browser.get(empty)
        self._empty = empty
        self._first: str = browser.current_window_handle
        self._front = self._first
        self._free: list[str] = []

    def take(self) -> str:
        """The handle of an empty window, in front."""
        if self._free:
            self.bring_to_front(self._free[-1])
            return self._free.pop()
        self.browser.switch_to.new_window("window")
        self._front = self.browser.current_window_handle
        return self._front

    def bring_to_front(self, handle: str) -> None:
        """Send the commands that follow to this window."""
        if self._front != handle:
            self.browser.switch_to.window(handle)
            self._front = handle

    def give_back(self, handle: str) -> None:
        """Close the page in a window, and keep the window for another test."""
        self.bring_to_front(handle)
        scripts = _scripts.pop(handle, [])
        if handle in _phones:
            _phones.discard(handle)
            self.browser.close()
            self.browser.switch_to.window(self._first)
            self._front = self._first
            return
        for script in scripts:
            self.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})
        self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        prefer(self.browser)
        self.browser.get(self._empty)
        self.browser.execute_cdp_cmd("Page.resetNavigationHistory", {})
        self._free.append(handle)


@contextmanager
def windows(*flags: str) -> Iterator[Windows]:
    """The windows of a new browser, which ends with the block.

    :param flags: further arguments of Chromium's.
    """
    empty = Response("<!doctype html><title>empty</title>", mimetype="text/html")
    with chromium(1280, 800, *flags) as browser, LiveServer(empty) as server:
        yield Windows(browser, server.url)


def resize(browser: Any, width: int, height: int, *, phone: bool = False) -> None:
    """Give the open page a viewport of exactly this size, smaller than any window if need be.

    :param width: in CSS pixels.
    :param height: in CSS pixels.
    :param phone: with a finger for a pointer, until the page is closed, and a phone's way to lay out.
    """
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    if phone:  # not to be taken back, as taking it back leaves no pointer at all
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
        _phones.add(browser.current_window_handle)


def prefer(browser: Any, **features: str) -> None:
    """Emulate media features: ``prefer(browser, color_scheme="dark", reduced_motion="reduce")``."""
    wanted = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": wanted})


def before_scripts(browser: Any, source: str) -> None:
    """Run JavaScript in each page that is opened from now on, before the page's own."""
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    _scripts.setdefault(browser.current_window_handle, []).append(added["identifier"])


def wait_for(browser: Any, script: str, *arguments: object, timeout: float = 20.0) -> Any:
    """Wait until a JavaScript expression is true in the page; returns its value.

    :param script: an expression; ``arguments[0]`` and so on are what follows.
    :param timeout: seconds; default 20.
    :raises AssertionError: when it does not become true in time; shows the page's text and its console.
    """
    value = None

    def true() -> bool:
        nonlocal value
        try:
            value = browser.execute_async_script(_LOOK.format(expression=script), *arguments)
        except WebDriverException:  # while a page loads there may be none to ask
            return False
        return bool(value)

    try:
        wait_until(true, timeout=timeout, message=script)
    except AssertionError as error:
        text = browser.execute_script("return document.body?.innerText")
        raise AssertionError(f"{error}\npage: {text}\nconsole: {browser.get_log('browser')}") from None
    return value
