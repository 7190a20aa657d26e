"""Tabs of a real browser with pages of :mod:`tests.harness.live_page`, alike for Chromium and Firefox."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.browser.clients.firefox import Firefox, firefox
from tests.harness.chromium import chromium
from tests.support import wait_until

try:
    import websocket  # selenium needs it, too
    from selenium.common.exceptions import WebDriverException
except ImportError:  # then there is no selenium either, which says so
    websocket = WebDriverException = None

SECONDS = 30

# Keeps the only thread of a page busy for so many milliseconds, from a moment later on.
HANG = "setTimeout((time) => { const end = Date.now() + time; while (Date.now() < end); }, 20, arguments[0])"


class Tabs:
    """The tabs of one browser. Each page has its own process.

    A tab is known by its handle. ``run`` may go to any of them; ``show`` brings one to the front.
    """

    def open(self, url: str) -> str:
        """Open a page in a new tab, in front; returns its handle."""
        raise NotImplementedError

    def load(self, tab: str, url: str) -> None:
        """Open another page in a tab."""
        raise NotImplementedError

    def run(self, tab: str, script: str, *arguments: object) -> Any:
        """Run the body of a function in a tab; returns its value."""
        raise NotImplementedError

    def show(self, tab: str) -> None:
        """Bring a tab to the front."""
        raise NotImplementedError

    def back(self, tab: str) -> None:
        """Go back to the page before."""
        raise NotImplementedError

    def close(self, tab: str) -> None:
        """Close a tab."""
        raise NotImplementedError

    def crash(self, tab: str) -> None:
        """Kill the process of a tab. Nothing can be done with the tab after it."""
        raise NotImplementedError

    @contextmanager
    def stopped(self, tab: str) -> Iterator[None]:
        """Stop a tab in the block, without a word to its page."""
        raise NotImplementedError
        yield

    def value(self, tab: str, expression: str, *arguments: object) -> Any:
        """The value of an expression in a tab."""
        return self.run(tab, f"return ({expression})", *arguments)

    def wait(self, tab: str, expression: str, *arguments: object, timeout: float = SECONDS) -> Any:
        """Wait until an expression is true in a tab; returns its value."""
        value = None

        def is_true() -> bool:
            nonlocal value
            value = self.value(tab, expression, *arguments)
            return bool(value)

        try:
            wait_until(is_true, timeout=timeout, message=expression)
        except AssertionError as error:
            seen = self.value(
                tab, "JSON.stringify([window.live?.state, window.live?.detail, window.got, window.told])"
            )
            raise AssertionError(f"{error}\n{seen}") from None
        return value


class ChromiumTabs(Tabs):
    """In Chromium, through selenium. Crashes and stops go past its driver, which would end with the tab."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self._first = self._current = browser.current_window_handle
        self._address = browser.capabilities["goog:chromeOptions"]["debuggerAddress"]

    def open(self, url: str) -> str:
        self._switch(self._first)
        self.browser.switch_to.new_window("tab")
        self._current = self.browser.current_window_handle
        self.browser.get(url)
        return self._current

    def load(self, tab: str, url: str) -> None:
        self._switch(tab)
        self.browser.get(url)

    def run(self, tab: str, script: str, *arguments: object) -> Any:
        self._switch(tab)
        return self.browser.execute_script(script, *arguments)

    def show(self, tab: str) -> None:
        self._switch(tab)
        self.browser.execute_cdp_cmd("Page.bringToFront", {})

    def back(self, tab: str) -> None:
        self._switch(tab)
        self.browser.back()

    def close(self, tab: str) -> None:
        self._switch(tab)
        self.browser.close()
        self._current = ""

    def crash(self, tab: str) -> None:
        self._switch(self._first)
        self.command(tab, "Page.crash")

    def freeze(self, tab: str, state: str) -> None:
        """Let the browser freeze a page, as it does with hidden ones, or go on with it.

        :param state: ``frozen`` or ``active``.
        """
        self._switch(self._first)
        self.command(tab, "Page.setWebLifecycleState", state=state)

    @contextmanager
    def stopped(self, tab: str) -> Iterator[None]:
        self.run(tab, HANG, 6000)
        self._switch(self._first)
        yield

    def command(self, tab: str, method: str, **parameters: object) -> None:
        """Send a command to a tab; the answer of a tab that crashes never comes."""
        path = f"ws://{self._address}/devtools/page/{tab.removeprefix('CDwindow-')}"
        with contextlib.closing(websocket.create_connection(path, SECONDS, suppress_origin=True)) as connection:
            connection.send(json.dumps({"id": 1, "method": method, "params": parameters}))
            if method != "Page.crash":
                while json.loads(connection.recv()).get("id") != 1:
                    pass
                return
            targets = f"http://{self._address}/json/list"
            with contextlib.suppress(OSError, websocket.WebSocketException):
                connection.settimeout(2)
                while b"crashed" not in connection.recv().encode():
                    pass
            urllib.request.urlopen(targets, timeout=SECONDS).close()  # the browser itself lives

    def _switch(self, tab: str) -> None:
        if tab != self._current:
            self.browser.switch_to.window(tab)
            self._current = tab


class FirefoxTabs(Tabs):
    """In Firefox, through Marionette."""

    def __init__(self, browser: Firefox) -> None:
        self.browser = browser
        self._first = self._current = browser.command("WebDriver:GetWindowHandle", {})["value"]

    def open(self, url: str) -> str:
        self._switch(self._first)
        handle: str = self.browser.command("WebDriver:NewWindow", {"type": "tab", "focus": True})["handle"]
        self._switch(handle)
        self.browser.get(url)
        return handle

    def load(self, tab: str, url: str) -> None:
        self._switch(tab)
        self.browser.get(url)

    def run(self, tab: str, script: str, *arguments: object) -> Any:
        self._switch(tab)
        parameters = {"script": script, "args": list(arguments)}
        return self.browser.command("WebDriver:ExecuteScript", parameters)["value"]

    def show(self, tab: str) -> None:
        self.browser.command("WebDriver:SwitchToWindow", {"handle": tab, "focus": True})
        self._current = tab

    def back(self, tab: str) -> None:
        self._switch(tab)
        self.browser.command("WebDriver:Back", {})

    def close(self, tab: str) -> None:
        self._switch(tab)
        self.browser.command("WebDriver:CloseWindow", {})
        self._current = ""

    def crash(self, tab: str) -> None:
        pid = self.pid(tab)
        self._switch(self._first)
        os.kill(pid, signal.SIGKILL)

    @contextmanager
    def stopped(self, tab: str) -> Iterator[None]:
        pid = self.pid(tab)
        self._switch(self._first)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def pid(self, tab: str) -> int:
        """The process of a tab's page."""
        self.show(tab)
        self.browser.command("Marionette:SetContext", {"value": "chrome"})
        try:
            script = "return gBrowser.selectedBrowser.frameLoader.remoteTab.osPid"
            found: int = self.browser.command("WebDriver:ExecuteScript", {"script": script, "args": []})["value"]
        finally:
            self.browser.command("Marionette:SetContext", {"value": "content"})
        return found

    def _switch(self, tab: str) -> None:
        if tab != self._current:
            self.browser.command("WebDriver:SwitchToWindow", {"handle": tab, "focus": False})
            self._current = tab


@contextmanager
def chromium_tabs() -> Iterator[ChromiumTabs]:
    """The tabs of a new Chromium, which ends with the block."""
    with chromium(1280, 800, apart=True) as browser:
        yield ChromiumTabs(browser)


@contextmanager
def firefox_tabs() -> Iterator[FirefoxTabs]:
    """The tabs of a new Firefox, which ends with the block."""
    # A process for each page of a site, instead of four for all.
    with firefox({"dom.ipc.processCount.webIsolated": 12, "dom.ipc.processCount": 12}) as browser:
        yield FirefoxTabs(browser)


class Published:
    """Publishes to channels, in a thread of its own, until the block ends; remembers the ids.

    :param publish: publishes to a channel; returns the id.
    :param channels: to publish to, one after the other.
    """

    def __init__(self, publish: Callable[[str], str], *channels: str) -> None:
        self._publish = publish
        self._channels = channels
        self.ids: dict[str, list[str]] = {channel: [] for channel in channels}

    def once(self) -> str:
        """Publish to each channel; returns the last id."""
        for channel in self._channels:
            self.ids[channel].append(self._publish(channel))
        return self.ids[self._channels[-1]][-1]

    def many(self, number: int, pause: float = 0.02) -> None:
        """Publish so often."""
        for _ in range(number):
            self.once()
            time.sleep(pause)


def close_all(tabs: Tabs, opened: list[str]) -> None:
    """Close these tabs, if they still exist."""
    with ExitStack() as stack:
        for tab in opened:
            stack.callback(_close, tabs, tab)


def _close(tabs: Tabs, tab: str) -> None:
    errors = (AssertionError, WebDriverException) if WebDriverException else AssertionError
    with contextlib.suppress(errors):
        tabs.close(tab)
