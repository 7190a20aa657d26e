"""The board's page in a real browser, against a live server."""

from __future__ import annotations

import re
import threading
import unittest
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from sse_threaded import Hub
from sse_threaded.board import create_app
from sse_threaded.board.app import BoardApp
from sse_threaded.board.store import open_store
from sse_threaded.testing import GunicornServer, LiveServer, request
from tests.harness.chromium import Windows, before_scripts, prefer, resize, wait_for, windows
from tests.support import ROOT, enter, sqlite_url, temporary_directory, wait_until

try:
    from selenium.webdriver import ActionChains, Keys
except ImportError:  # then there is no browser either, which says so
    ActionChains = Keys = None

ONCE = True  # it says the same under every Python

SECONDS = 60

# The board as a person sees it: its lists, each with the titles and ids of its cards.
SHOWN = """
Object.fromEntries([...document.querySelectorAll('.lane')].map(lane => [lane.dataset.listId,
    [...lane.querySelectorAll('.card')].map(card => card.querySelector('.card-title').textContent)]))
"""
STATE = "document.getElementById('connection').dataset.state"
FOCUSED = "document.activeElement.closest('.card')?.dataset.taskId"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

# From here on, what the page says of its connection, one after the other.
WATCH_STATES = """
window.states = [];
const connection = document.getElementById("connection");
new MutationObserver(() => {
  if (window.states.at(-1) !== connection.dataset.state) window.states.push(connection.dataset.state);
}).observe(connection, { attributeFilter: ["data-state"] });
"""

# Long waits pass at once: messages are taken away after 12 s.
SHORT_MESSAGES = """
const later = window.setTimeout;
window.setTimeout = (run, time, ...rest) => later(run, time === 12000 ? 300 : time, ...rest);
"""

# The shortest of the waits that are drawn at random.
SHORT_WAITS = "Math.random = () => 0;"

# Once the page has asked for its stream, ten seconds pass at once.
TEN_SECONDS = """
const ask = window.fetch;
window.fetch = (url, options) => {
  if (options.headers?.Accept === "text/event-stream") {
    const now = Date.now;
    setTimeout(() => (Date.now = () => now() + 10_000), 500);
    window.fetch = ask;
  }
  return ask(url, options);
};
"""

# What the page says in a state of the connection, with the button that comes after a while.
SHOW_STATE = """
const [state, done] = arguments;
import("/static/status.js").then(({ Status }) => {
  new Status({ tryNow() {} }).connection(state);
  document.getElementById("try-now").hidden = state !== "reconnecting";
  done();
});
"""

# A message of the passing kind, by a second instance of what shows them.
SAY = """
import("/static/messages.js").then(({ Messages }) => {
  new Messages().notify("Passing.");
  window.said = true;
});
"""

# What a screen reader is told of these when they come in one breath: of the connection, and of the board. That
# a connection is lost is not first waited for.
TELL = """
const [news, done] = arguments;
const later = window.setTimeout;
let speak;
window.setTimeout = (run, time, ...rest) => {
  if (time === 300) return (speak = run);
  return later(run, time === 6000 ? 0 : time, ...rest);
};
import("/static/status.js").then(async ({ Status }) => {
  const status = new Status({ tryNow() {} });
  for (const [what, word] of news) {
    status[what](word);
    await new Promise((resolve) => later(resolve, 10));
  }
  speak();
  done(document.getElementById("announcer").textContent);
});
"""

# A tab that was opened behind another, on a slow network.
IN_THE_BACKGROUND = """
Object.defineProperty(document, "hidden", { get: () => !window.inSight });
const ask = window.fetch;
window.fetch = (...all) => new Promise((resolve) => setTimeout(resolve, 700)).then(() => ask(...all));
"""

# A server that takes a change and never answers, and no patience with it, in a browser from before 2024.
NO_ANSWERS = """
delete AbortSignal.any;
delete AbortSignal.timeout;
const later = window.setTimeout;
window.setTimeout = (run, time, ...rest) => later(run, time === 15000 ? 300 : time, ...rest);
const ask = window.fetch;
window.fetch = (url, options) => {
  const never = (_, reject) => options.signal.addEventListener("abort", () => reject(options.signal.reason));
  return options.method === "PATCH" ? new Promise(never) : ask(url, options);
};
"""

Middleware = Callable[[Any], Any]


def setUpModule() -> None:
    """Start one browser for all classes."""
    with ExitStack() as stack:
        PageCase.windows = stack.enter_context(windows())
        PageCase.browser = PageCase.windows.browser
        unittest.addModuleCleanup(stack.pop_all().close)


class Page:
    """One window of the browser on a board.

    :param script: JavaScript that runs before the page's own.
    :param still: whether nothing shall move, which is drawn without a graphics card.
    """

    def __init__(self, windows: Windows, url: str, script: str = "", *, still: bool = False) -> None:
        self._browser = windows.browser
        self._windows = windows
        self._window = windows.take()
        self.url = url
        if script:
            before_scripts(self._browser, script)
        if still:
            prefer(self._browser, reduced_motion="reduce")
        self._browser.get(url)

    @property
    def browser(self) -> Any:
        """The browser, with this window in front."""
        self._windows.bring_to_front(self._window)
        return self._browser

    def script(self, expression: str, *arguments: object) -> Any:
        return self.browser.execute_script(f"return ({expression})", *arguments)

    def wait(self, expression: str, *arguments: object) -> Any:
        return wait_for(self.browser, expression, *arguments)

    def wait_shown(self, list_id: str, titles: list[str]) -> None:
        script = f"JSON.stringify({SHOWN}[arguments[0]]) === JSON.stringify(arguments[1])"
        self.wait(script, list_id, titles)

    def shown(self) -> dict[str, list[str]]:
        shown: dict[str, list[str]] = self.script(SHOWN)
        return shown

    def wait_state(self, state: str) -> None:
        self.wait(f"{STATE} === arguments[0]", state)

    def text(self, selector: str) -> str:
        """The text there, also while it fades in, when WebDriver would call it invisible."""
        return str(self.find(selector).get_property("innerText"))

    def title(self, task_id: str) -> str:
        """The title on a card."""
        return self.text(f'[data-task-id="{task_id}"] .card-title')

    def plain(self, selector: str) -> str:
        """The text there without the characters that keep a title's direction to itself."""
        return self.text(selector).replace("\u2068", "").replace("\u2069", "")

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def card(self, task_id: str, part: str = "") -> Any:
        return self.find(f'[data-task-id="{task_id}"] {part}')

    def act(self, task_id: str, action: str) -> None:
        button = self.card(task_id, f"[data-action={action}]")
        self.browser.execute_script("arguments[0].click()", button)

    def add(self, list_id: str, title: str) -> None:
        self.find(f"#{list_id} .add input").send_keys(title, Keys.ENTER)

    def press(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def close(self) -> None:
        self._windows.give_back(self._window)


class Streams:
    """A middleware with an answer of its own to requests for events.

    :param polls: to long polls too, not only to streams.
    :ivar on: whether it is at work.
    """

    def __init__(self, answer: Middleware, *, polls: bool = False, on: bool = True) -> None:
        self.answer = answer
        self.polls = polls
        self.on = on

    def __call__(self, app: Any) -> Any:
        def wrapped(environ: Any, start_response: Any) -> Any:
            streams = environ.get("HTTP_ACCEPT") == "text/event-stream"
            mine = environ["PATH_INFO"].endswith("/events") and (streams or self.polls)
            return self.answer(start_response) if self.on and mine else app(environ, start_response)

        return wrapped


def bad_gateway(start_response: Any) -> Iterable[bytes]:
    start_response("502 Bad Gateway", [("Content-Type", "text/plain")])
    return [b"bad gateway"]


class Failing:
    """A middleware that answers 502 to requests below a path, but for streams and polls.

    :ivar on: whether it is at work.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.on = False

    def __call__(self, app: Any) -> Any:
        def wrapped(environ: Any, start_response: Any) -> Any:
            mine = environ["PATH_INFO"].endswith(self.path) or f"{self.path}/" in environ["PATH_INFO"]
            changes = environ["REQUEST_METHOD"] != "GET" or self.path == "/boards"
            stream = environ["PATH_INFO"].endswith("/events")
            down = self.on and not stream and ((mine and changes) or environ["REQUEST_METHOD"] == "HEAD")
            return bad_gateway(start_response) if down else app(environ, start_response)

        return wrapped


class Holding:
    """What a proxy does that waits for its buffer to fill: a head, and then nothing until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return self.body()

    def body(self) -> Iterator[bytes]:
        yield b""
        self.let_go.wait(SECONDS)


class Opening(Holding):
    """A stream that begins with these bytes and has nothing else.

    :ivar count: how many were asked for.
    """

    def __init__(self, first: bytes) -> None:
        super().__init__()
        self.first = first
        self.count = 0

    def body(self) -> Iterator[bytes]:
        self.count += 1
        yield self.first
        self.let_go.wait(SECONDS)


class PageCase(unittest.TestCase):
    browser: Any
    windows: Windows
    still = False

    def setUp(self) -> None:
        self.browser.get_log("browser")  # what others left

    def make_server(self, middleware: Middleware | None = None, **settings: Any) -> str:
        """Serve a board with a log of its own; returns the board's URL.

        ``self.app`` may be replaced while the server runs.
        """
        directory = temporary_directory(self)
        self.log_url = sqlite_url(directory) + "?synchronous=normal"
        hubs: list[Hub] = []
        self.hubs = hubs
        self.addCleanup(lambda: [hub.close() for hub in hubs])
        self.app = self.make_app(**settings)

        def current(environ: Any, start_response: Any) -> Any:
            return self.app(environ, start_response)

        server = LiveServer(middleware(current) if middleware else current)
        self.enterContext(server)
        return server.url + "/boards/board-1"

    def make_app(self, log_url: str | None = None, **settings: Any) -> BoardApp:
        app = create_app(log_url or self.log_url, **{"retry": 200, **settings})
        self.hubs.append(app.hub)
        return app

    @property
    def store(self) -> Any:
        """The app's boards."""
        return open_store(self.app.hub.log)

    def execute(self, statement: str) -> None:
        """Change the board's rows without an event."""
        with self.app.hub.log.transaction() as transaction:
            transaction.connection.execute(statement)

    def restore(self, statement: str) -> None:
        """Let clients find a log with ids of another epoch and a board that is not theirs, as of a backup."""
        old = self.app.hub
        self.app = self.make_app(self.log_url.replace("log.db", "backup.db"))
        self.execute(statement)
        old.close()  # ends all streams

    def enterContext(self, context: Any) -> Any:  # unittest has it from 3.11 on
        entered = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return entered

    def make_page(self, url: str, state: str = "live", *, script: str = "") -> Page:
        page = Page(self.windows, url, script, still=self.still)
        self.addCleanup(page.close)
        page.wait_state(state)
        return page

    def make_pages(self, **settings: Any) -> tuple[Page, Page]:
        url = self.make_server(**settings)
        return self.make_page(url), self.make_page(url)

    def change(self, method: str, url: str, **body: str) -> None:
        self.assertLess(request(method, url, json=body or None).status, 300)

    def assert_silent_console(self) -> None:
        # Refusals by the Content-Security-Policy are told there too.
        self.assertEqual([entry["message"] for entry in self.browser.get_log("browser")], [])


class TogetherTest(PageCase):
    def test_what_one_page_does_the_other_shows(self) -> None:
        one, other = self.make_pages()
        todo = one.shown()["list-todo"]
        one.add("list-todo", "Water the plants")
        other.wait_shown("list-todo", [*todo, "Water the plants"])
        one.wait_shown("list-todo", [*todo, "Water the plants"])

        one.card("task-5", ".card-title").click()
        one.press(Keys.CONTROL, "a")
        one.press("Water the ferns", Keys.ENTER)
        other.wait_shown("list-todo", [*todo, "Water the ferns"])

        one.wait(f"{FOCUSED} === 'task-5'")
        one.press(Keys.SHIFT, Keys.ARROW_RIGHT)
        doing = one.shown()["list-doing"]
        self.assertEqual(doing[-1], "Water the ferns")
        other.wait_shown("list-doing", doing)
        self.assertEqual(one.script(FOCUSED), "task-5")

        one.press(Keys.DELETE)
        other.wait_shown("list-doing", doing[:-1])
        one.wait_shown("list-doing", doing[:-1])
        self.assertEqual(one.script(FOCUSED), "task-3")  # its neighbour
        self.assert_silent_console()

    def test_what_others_do_is_told(self) -> None:
        one, other = self.make_pages()
        one.add("list-doing", "Said aloud")
        said = "“\u2068Said aloud\u2069” was added to Doing."
        other.wait("document.getElementById('announcer').textContent === arguments[0]", said)
        other.wait("document.getElementById('wire-last').textContent.includes('Said aloud')")

    def test_buttons_and_undo(self) -> None:
        one, other = self.make_pages()
        one.act("task-1", "move-right")
        other.wait_shown("list-doing", [*one.shown()["list-doing"]])
        one.act("task-1", "move-left")
        other.wait("document.querySelector('#list-todo [data-task-id=task-1]')")
        title = one.title("task-1")
        one.act("task-1", "delete")
        other.wait("!document.querySelector('[data-task-id=task-1]')")
        one.wait("document.querySelector('#notice .message button')").click()
        other.wait("document.querySelector('#list-todo [data-task-id=task-5]')")
        self.assertEqual(other.title("task-5"), title)
        # By keys, from where the focus is.
        one.card("task-5", ".card-title").send_keys(Keys.DELETE)
        one.wait("document.querySelector('#notice .message')")
        one.press(Keys.CONTROL, "z")
        other.wait("document.querySelector('#list-todo [data-task-id=task-6]')")
        self.assertEqual(one.script("document.querySelectorAll('#notice .message').length"), 0)

    def test_drag_and_drop(self) -> None:
        one, other = self.make_pages()
        lane = one.find("#list-done")
        ActionChains(one.browser).drag_and_drop(one.card("task-1"), lane).perform()
        other.wait("document.querySelector('#list-done [data-task-id=task-1]')")
        self.assertEqual(one.script("document.querySelectorAll('textarea, .dragged, .slot').length"), 0)

    def test_a_drag_in_a_small_window(self) -> None:
        page = self.make_page(self.make_server())
        resize(page.browser, 640, 400)
        done = "document.querySelector('#list-done').getBoundingClientRect()"
        self.assertGreater(page.script(f"{done}.top"), 400)
        card = page.card("task-1")
        hand = ActionChains(page.browser, duration=0)
        hand.move_to_element(card).click_and_hold().move_by_offset(20, 20).perform()
        # At the edge of the window the page moves along: until the list is in sight, however late that is seen.
        page.browser.execute_script(
            "const move = scrollBy; scrollBy = (...all) => {" + f" if ({done}.bottom >= 400) move(...all); }}"
        )
        hand.move_by_offset(0, 390 - card.rect["y"] - card.rect["height"] // 2 - 20).perform()
        page.wait(f"{done}.bottom < 400")
        hand.move_to_element(page.card("task-4")).release().perform()
        page.wait("document.querySelector('#list-done [data-task-id=task-1]')")
        self.assertEqual(page.script("document.querySelectorAll('.dragged, .slot, .dragging, .lifted').length"), 0)

    def test_a_title_being_written_survives_what_others_do(self) -> None:
        one, other = self.make_pages()
        one.card("task-1", ".card-title").click()
        one.press(Keys.CONTROL, "a")
        one.press("Half a")
        other.act("task-1", "move-right")
        one.wait("document.querySelector('#list-doing [data-task-id=task-1] textarea')")
        one.press(" title", Keys.ENTER)
        other.wait_shown("list-doing", [*other.shown()["list-doing"][:-1], "Half a title"])

    def test_a_title_left_as_it_was_takes_nothing_back(self) -> None:
        page = self.make_page(self.make_server())
        page.card("task-1", ".card-title").click()
        self.change("PATCH", page.url + "/tasks/task-1", title="Another's")
        page.wait("document.querySelector('[data-task-id=task-1] .card-title').textContent === \"Another's\"")
        page.press(Keys.TAB)
        page.wait("!document.querySelector('textarea')")
        page.add("list-done", "Later")
        page.wait("document.querySelector('[data-task-id=task-5]')")
        self.assertEqual(len(self.app.hub.log.read(0, channels=["board-1"])), 2)
        self.assertEqual(page.shown()["list-todo"][0], "Another's")

    def test_a_task_of_no_named_list_is_in_the_first(self) -> None:
        url = self.make_server()
        page = self.make_page(url)
        self.change("POST", url + "/tasks", title="From a script")
        page.wait("document.querySelector('#list-todo [data-task-id=task-5]')")

    def test_markup_stays_text(self) -> None:
        url = self.make_server()
        page = self.make_page(url)
        title = "<img src=x onerror=\"document.body.textContent='broken in'\"><b>bold</b>"
        self.change("POST", url + "/tasks", title=title)
        page.wait("document.querySelector('[data-task-id=task-5]')")
        page.act("task-5", "move-right")  # its title is in labels and messages too
        # The page shows the move at once. A delete that overtook it would make its request a 404.
        wait_until(lambda: len(self.app.hub.log.read(0, channels=["board-1"])) == 2, message="the move")
        page.act("task-5", "delete")
        page.wait("document.querySelector('#notice .message')")
        self.assertIn(title[:30], page.text("#notice"))
        self.assertEqual(page.script("document.querySelectorAll('main img, #messages img, b').length"), 0)
        self.assert_silent_console()

    def test_a_title_keeps_its_direction_to_itself(self) -> None:
        url = self.make_server()
        self.change("POST", url + "/tasks", title="שלום עולם!")
        self.change("POST", url + "/tasks", title="turned \u202e round")
        page = self.make_page(url)
        direction = "getComputedStyle(arguments[0]).direction"
        self.assertEqual(page.script(direction, page.card("task-5", ".card-title")), "rtl")
        self.assertEqual(page.script(direction, page.card("task-6", ".card-title")), "ltr")
        page.act("task-6", "delete")
        page.wait("document.querySelector('#notice .message')")
        told = page.script("document.querySelector('#notice p').textContent")
        self.assertEqual(told, "Deleted “\u2068turned \u202e round\u2069”.")

    def test_foreign_events_change_nothing(self) -> None:
        page = self.make_page(self.make_server())
        before = page.shown()
        for data in ("hello", "null", "[]", {"type": "task_moved"}, {"type": "other", "task": {"id": "task-1"}}):
            self.app.hub.publish("board-1", data)
        self.app.hub.publish("board-1", {"type": "task_deleted", "taskId": "task-4"})
        page.wait("!document.querySelector('[data-task-id=task-4]')")
        self.assertEqual(page.shown(), {**before, "list-done": before["list-done"][:-1]})
        self.assert_silent_console()


class KeysTest(PageCase):
    def test_keys_and_clicks_do_no_more_than_was_meant(self) -> None:
        page = self.make_page(self.make_server())
        self.addCleanup(prefer, page.browser)
        prefer(page.browser, reduced_motion="reduce")  # a card that slides is missed
        for task in ("task-5", "task-6", "task-7"):
            page.add("list-todo", task)
            page.wait("document.querySelector(`[data-task-id=${arguments[0]}]`)", task)
        todo = page.shown()["list-todo"]

        # Delete is held down: the keyboard repeats it, and the focus has gone to the next card.
        page.card("task-1", ".card-title").send_keys(Keys.NULL)
        held = {"type": "rawKeyDown", "key": "Delete", "code": "Delete", "windowsVirtualKeyCode": 46}
        for repeat in (False, True, True):
            page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", {**held, "autoRepeat": repeat})
        page.wait_shown("list-todo", todo[1:])
        self.assertEqual(page.script(FOCUSED), "task-2")

        # A double click on a card's button, under which the next card has moved by the second click.
        for action in ("move-right", "delete"):
            first = page.script("document.querySelector('#list-todo .card').dataset.taskId")
            page.browser.execute_script("arguments[0].scrollIntoView()", page.card(first))
            before = len(page.shown()["list-todo"])
            place = page.card(first, f"[data-action={action}]").rect
            mouse = {"x": place["x"] + 5, "y": place["y"] + 5, "button": "left"}
            for count in (1, 2):
                for kind in ("mousePressed", "mouseReleased"):
                    page.browser.execute_cdp_cmd(
                        "Input.dispatchMouseEvent", {**mouse, "type": kind, "clickCount": count}
                    )
                page.wait("!document.querySelector(`#list-todo [data-task-id=${arguments[0]}]`)", first)
            with self.subTest(action=action):
                self.assertEqual(len(page.shown()["list-todo"]), before - 1)
        self.assert_silent_console()

    def test_the_focus_stays_where_the_person_was(self) -> None:
        page = self.make_page(self.make_server())
        # The only card of a list goes: its list's heading is next, and Tab goes on to its field.
        page.card("task-3", ".card-title").send_keys(Keys.DELETE)
        page.wait("document.activeElement.closest('#list-doing')")
        self.assertEqual(page.script("document.activeElement.tagName"), "H2")
        page.press(Keys.TAB)
        self.assertEqual(page.script("document.activeElement.getAttribute('aria-label')"), "New task in Doing")
        # An empty list does not keep the arrows from the one behind it.
        page.browser.execute_script("arguments[0].focus()", page.card("task-2", ".card-title"))
        page.press(Keys.ARROW_RIGHT)
        self.assertEqual(page.script(FOCUSED), "task-4")
        page.press(Keys.ARROW_LEFT)
        self.assertEqual(page.script(FOCUSED), "task-1")

    def test_what_has_the_focus_is_not_under_the_head(self) -> None:
        url = self.make_server()
        for number in range(9):
            self.change("POST", url + "/tasks", title=f"Task {number}")
        page = self.make_page(url)
        resize(page.browser, 640, 400)
        page.browser.execute_script("document.querySelector('#list-todo .card:last-child .card-title').focus()")
        hidden = """(() => {
            const {top} = document.activeElement.getBoundingClientRect();
            return top < document.querySelector('.top').getBoundingClientRect().bottom;
        })()"""
        for _ in range(10):
            page.press(Keys.ARROW_UP)
            self.assertFalse(page.script(hidden), page.script(FOCUSED))
        self.assertEqual(page.script(FOCUSED), "task-1")
        self.assertTrue(page.script("document.getElementById('keys').getClientRects().length"))


class StateTest(PageCase):
    """state.js by itself: each script makes a state of its own, so one page does for all."""

    page: Page

    @classmethod
    def setUpClass(cls) -> None:
        with ExitStack() as stack:
            app = create_app("memory://")
            stack.callback(app.hub.close)
            server = stack.enter_context(LiveServer(app))
            cls.page = Page(cls.windows, server.url + "/boards/board-1", still=True)
            stack.callback(cls.page.close)
            cls.addClassCleanup(stack.pop_all().close)

    def run_state(self, script: str) -> Any:
        answer = self.page.browser.execute_async_script(
            "const done = arguments[0]; import('/static/state.js').then(({BoardState, isAfter}) => {"
            "const state = new BoardState();"
            "const show = () => state.tasks().map(task => `${task.id}@${task.listId}:${task.title}`);"
            "const lists = [{id: 'a', title: 'A'}, {id: 'b', title: 'B'}];"
            "const tasks = [{id: 'task-1', title: 'one', listId: 'a'}, {id: 'task-2', title: 'two', listId: 'b'}];"
            "state.load({id: 'board-1', title: 'T', lists, tasks, lastEventId: 'x-10'});"
            "const say = (n, type, task) => state.apply(`x-${n}`, {type, ...task});"
            f"{script} }}).catch(error => done(String(error)))"
        )
        return answer

    def test_an_event_is_applied_once(self) -> None:
        answer = self.run_state("""
            const made = {task: {id: 'task-3', title: 'three'}};
            const news = [say(11, 'task_created', made), say(11, 'task_created', made),
                          say(9, 'task_deleted', {taskId: 'task-1'}),
                          say(12, 'task_moved', {task: {id: 'task-1', listId: 'b'}}),
                          say(12, 'task_moved', {task: {id: 'task-1', listId: 'a'}})];
            done([news, show(), state.position]);
        """)
        shown = ["task-2@b:two", "task-3@a:three", "task-1@b:one"]
        self.assertEqual(answer, [[True, False, False, True, False], shown, "x-12"])

    def test_ids_are_compared_as_numbers_within_an_epoch(self) -> None:
        pairs = [["x-9", "x-10"], ["x-10", "x-9"], ["x-9", "x-9"], ["y-1", "x-9"]]
        answer = self.run_state(f"done({pairs}.map(([one, other]) => isAfter(one, other)))")
        self.assertEqual(answer, [False, True, False, True])

    def test_ones_own_change_shows_until_its_event_comes(self) -> None:
        answer = self.run_state("""
            const own = state.begin({kind: 'move', id: 'task-1', listId: 'b'});
            const seen = [show()];
            say(11, 'task_renamed', {task: {id: 'task-1', title: 'uno'}});
            state.answered(own, 'x-13');
            seen.push(show());
            say(12, 'task_deleted', {taskId: 'task-2'});
            say(13, 'task_moved', {task: {id: 'task-1', listId: 'b'}});
            say(14, 'task_moved', {task: {id: 'task-1', listId: 'a'}});
            seen.push(show());
            done(seen);
        """)
        self.assertEqual(
            answer, [["task-2@b:two", "task-1@b:one"], ["task-2@b:two", "task-1@b:uno"], ["task-1@a:uno"]]
        )

    def test_a_task_of_ones_own_shows_once_whatever_comes_first(self) -> None:
        made = "{task: {id: 'task-3', title: 'three', listId: 'b'}}"
        begin = "const own = state.begin({kind: 'add', title: 'three', listId: 'b'});"
        begin += "const seen = [show().length];"
        both = ["state.answered(own, 'x-11', 'task-3')", f"say(11, 'task_created', {made})"]
        for steps in (both, both[::-1]):
            with self.subTest(first=steps[0]):
                calls = "".join(f"{step}; seen.push(show().length);" for step in steps)
                self.assertEqual(self.run_state(f"{begin} {calls} done(seen);"), [2, 3, 3])

    def test_a_deleted_task_is_not_brought_back_by_a_late_answer(self) -> None:
        answer = self.run_state("""
            const own = state.begin({kind: 'add', title: 'three', listId: 'b'});
            say(11, 'task_created', {task: {id: 'task-3', title: 'three', listId: 'b'}});
            say(12, 'task_deleted', {taskId: 'task-3'});
            state.answered(own, 'x-11', 'task-3');
            done(show().length);
        """)
        self.assertEqual(answer, 2)

    def test_a_change_that_is_in_the_board_anew_is_not_kept_on_top_of_it(self) -> None:
        answer = self.run_state("""
            const own = state.begin({kind: 'move', id: 'task-1', listId: 'b'});
            state.answered(own, 'x-11');
            state.load({id: 'board-1', title: 'T', lists, tasks, lastEventId: 'y-1'});
            state.apply('y-2', {type: 'task_renamed', task: {id: 'task-1', title: 'uno'}});
            done(show());
        """)
        self.assertEqual(answer, ["task-1@a:uno", "task-2@b:two"])

    def test_a_failed_change_is_taken_back(self) -> None:
        answer = self.run_state("""
            const before = show();
            const own = ['move', 'rename', 'delete'].map(
              kind => state.begin({kind, id: 'task-1', title: 'x', listId: 'b'}));
            const during = show();
            own.forEach(one => state.failed(one));
            done([during.length, JSON.stringify(before) === JSON.stringify(show())]);
        """)
        self.assertEqual(answer, [1, True])


class ConnectionTest(PageCase):
    still = True  # while a page waits for a connection, its mark moves all the time

    def test_a_reset_fetches_the_board_anew(self) -> None:
        page = self.make_page(self.make_server())
        # No event tells of this change.
        self.restore("UPDATE board_tasks SET title = 'Restored' WHERE number = 1")
        page.wait_shown("list-todo", ["Restored", *page.shown()["list-todo"][1:]])
        page.wait_state("live")
        page.add("list-todo", "After it")
        page.wait("document.querySelector('[data-task-id=task-5]')")

    def test_a_refused_stream_is_tried_again(self) -> None:
        gateway = Streams(bad_gateway, polls=True, on=False)
        url = self.make_server(gateway, lease=1.0)
        page = self.make_page(url)
        gateway.on = True
        page.wait_state("reconnecting")  # at the end of the lease it met the 502
        self.change("POST", url + "/tasks", title="Meanwhile")
        gateway.on = False
        page.wait_state("live")
        page.wait("document.querySelector('[data-task-id=task-5]')")

    def test_where_only_streams_are_refused_it_polls(self) -> None:
        url = self.make_server(Streams(bad_gateway))
        page = self.make_page(url, "polling", script=SHORT_WAITS)
        self.change("POST", url + "/tasks", title="Polled")
        page.wait("document.querySelector('[data-task-id=task-5]')")

    def test_where_streams_come_through_again_it_goes_back_to_them(self) -> None:
        gateway = Streams(bad_gateway)
        url = self.make_server(gateway)
        page = self.make_page(url, "polling", script=SHORT_WAITS)
        gateway.on = False
        page.browser.execute_script("const now = Date.now; Date.now = () => now() + 200_000")
        self.change("POST", url + "/tasks", title="Polled")
        page.wait_state("live")
        self.change("POST", url + "/tasks", title="Streamed")
        page.wait("document.querySelector('[data-task-id=task-6]')")

    def test_where_streams_are_held_back_it_polls(self) -> None:
        holding = Holding()
        self.addCleanup(holding.let_go.set)
        url = self.make_server(Streams(holding))
        page = self.make_page(url, "polling", script=TEN_SECONDS)
        page.add("list-doing", "Polled")
        page.wait("document.querySelector('[data-task-id=task-5]')")
        self.change("PATCH", url + "/tasks/task-5", listId="list-done")
        page.wait("document.querySelector('#list-done [data-task-id=task-5]')")

    def test_a_stream_of_which_only_the_first_line_comes_is_not_taken_for_a_held_one(self) -> None:
        opening = Opening(b"retry: 200\n\n")
        self.addCleanup(opening.let_go.set)
        page = self.make_page(self.make_server(Streams(opening)))
        page.browser.execute_script(WATCH_STATES)
        self.change("PATCH", page.url + "/tasks/task-1", listId="list-done")  # which this stream does not bring
        self.assertEqual(page.script(STATE), "live")
        self.assertEqual(page.script("window.states"), [])
        self.assertEqual(opening.count, 1)

    def test_a_stream_that_falls_silent_is_opened_again(self) -> None:
        page = self.make_page(self.make_server())
        page.browser.execute_script(WATCH_STATES)
        page.browser.execute_script("const now = Date.now; Date.now = () => now() + 40_000")
        page.wait("window.states.join() === 'reconnecting,live'")
        self.change("POST", page.url + "/tasks", title="After it")
        page.wait("document.querySelector('[data-task-id=task-5]')")

    def test_a_full_server_is_waited_for_and_asked_in_between(self) -> None:
        url = self.make_server(max_streams=0)
        page = self.make_page(url, "waiting")
        self.assertIn("Waiting for a place", page.text("#connection"))
        page.browser.execute_script(WATCH_STATES)
        for title, task in (("In between", "task-5"), ("And again", "task-6")):
            self.change("POST", url + "/tasks", title=title)
            page.wait("document.querySelector(`[data-task-id=${arguments[0]}]`)", task)
        self.assertEqual(page.script("window.states"), [])
        self.app = self.make_app()  # one that has room, on the same log
        page.wait_state("live")
        self.assertEqual(page.script("window.states"), ["live"])

    def test_a_page_out_of_sight_is_paused(self) -> None:
        page = self.make_page(self.make_server(heartbeat=0.1))
        page.browser.execute_script("dispatchEvent(new Event('pagehide'))")
        page.wait_state("paused")
        self.assertIn("resumes when you look", page.text("#connection"))
        wait_until(lambda: self.app.hub.streams == 0, timeout=SECONDS, message="the stream to end")
        page.browser.execute_script("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_state("live")

    def test_a_page_that_nobody_has_seen_keeps_no_connection(self) -> None:
        page = self.make_page(self.make_server(heartbeat=0.1), "paused", script=IN_THE_BACKGROUND)
        page.wait_shown("list-done", ["Start the server"])  # and yet it has the board
        wait_until(lambda: self.app.hub.streams == 0, timeout=SECONDS, message="the stream to end")
        page.browser.execute_script("window.inSight = true; document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_state("live")

    def test_a_page_that_is_left_lets_go_of_its_stream(self) -> None:
        page = self.make_page(self.make_server(heartbeat=0.1))
        self.assertEqual(self.app.hub.streams, 1)
        page.browser.get("about:blank")
        wait_until(lambda: self.app.hub.streams == 0, timeout=SECONDS, message="the stream to end")
        self.app.hub.publish("board-1", {"type": "task_deleted", "taskId": "task-1"})
        page.browser.back()
        page.wait_state("live")

    def test_a_server_that_is_away(self) -> None:
        app = create_app("memory://", retry=200)
        self.addCleanup(app.hub.close)
        with LiveServer(app) as server:
            page = self.make_page(server.url + "/boards/board-1")
            before = page.shown()
        page.wait_state("reconnecting")
        page.act("task-1", "move-right")
        page.wait("document.querySelector('#alert .message')")
        self.assertIn("was not moved. The server cannot be reached.", page.text("#alert"))
        self.assertEqual(page.shown(), before)
        page.add("list-done", "Not lost")
        page.wait("document.querySelector('#list-done .add input').value === 'Not lost'")
        page.wait("!document.getElementById('try-now').hidden")

    def test_a_board_that_is_not_there(self) -> None:
        url = self.make_server()
        page = self.make_page(url)
        # The page itself would be a 404; so it finds out while it is open.
        self.restore("DELETE FROM board_boards")
        page.wait_state("gone")
        self.assertIn("This board is not there any more.", page.text("main"))
        page.wait("document.getElementById('announcer').textContent === 'This board is not there any more.'")

    def test_of_the_connection_only_what_is_true_is_spoken(self) -> None:
        page = self.make_page(self.make_server())
        lost, live, over = ("connection", "reconnecting"), ("connection", "live"), ("connection", "gone")
        changes = [("announce", f"Change {number}.") for number in range(1, 6)]
        loss = "Connection lost, trying again. What you see may be out of date."
        for news, spoken in (
            ([lost], loss),
            ([lost, changes[0]], f"Change 1. {loss}"),
            ([lost, over, ("announce", "It is gone.")], "It is gone."),
            ([lost, live, changes[0]], "Change 1."),
            ([*changes, lost], f"5 changes on the board. {loss}"),
        ):
            with self.subTest(spoken=spoken):
                self.assertEqual(page.browser.execute_async_script(TELL, news), spoken)


class SharedTest(PageCase):
    """All tabs of the browser share a connection, and each first shows the board as the server has rendered it."""

    def test_tabs_of_several_boards_have_one_stream(self) -> None:
        url = self.make_server()
        self.store.create_board("Second")
        pages = [self.make_page(url), self.make_page(url), self.make_page(url.replace("board-1", "board-2"))]
        self.assertEqual(self.app.hub.streams, 1)
        pages[2].add("list-todo", "On the second board")
        pages[2].wait("document.querySelector('[data-task-id=task-5]')")
        pages[0].add("list-done", "On the first board")
        pages[1].wait("document.querySelector('#list-done [data-task-id=task-6]')")
        self.assertEqual(pages[2].shown()["list-done"], [])
        self.assertEqual(self.app.hub.streams, 1)
        self.assert_silent_console()

    def test_a_board_that_is_gone_takes_no_other_with_it(self) -> None:
        url = self.make_server()
        self.store.create_board("Second")
        first, second = self.make_page(url), self.make_page(url.replace("board-1", "board-2"))
        self.execute("DELETE FROM board_boards WHERE number = 2")
        self.app.hub.disconnect(channel="board-2")
        second.wait_state("gone")
        first.wait_state("live")
        self.change("POST", url + "/tasks", title="Still here")
        first.wait("document.querySelector('[data-task-id=task-5]')")

    def test_the_tasks_are_there_before_any_script_runs(self) -> None:
        url = self.make_server()
        self.change("POST", url + "/tasks", title="<b>not bold</b> {title}", listId="list-doing")
        page = self.make_page(url)
        scripted = page.script("document.getElementById('board').innerHTML.replace(/\\s+/g, ' ')")
        shown = page.shown()
        self.assertEqual(shown["list-doing"][-1], "<b>not bold</b> {title}")
        self.addCleanup(page.browser.execute_cdp_cmd, "Emulation.setScriptExecutionDisabled", {"value": False})
        page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        page.browser.get(page.url)
        self.assertEqual(page.shown(), shown)
        self.assertEqual(page.text("#title"), "Live task board")
        # Scripts add labels to buttons, and nothing else.
        rendered = page.script("document.getElementById('board').innerHTML.replace(/\\s+/g, ' ')")
        for added in (r' aria-label="[^"]*"', r' title="[^"]*"', r' disabled=""', r"<noscript>.*?</noscript>"):
            scripted, rendered = re.sub(added, "", scripted), re.sub(added, "", rendered)
        self.assertEqual(rendered, scripted)

    def test_what_happens_while_the_page_loads_is_shown(self) -> None:
        url = self.make_server(lambda app: self.late(app, "/events"))
        page = self.make_page(url)
        page.wait("document.querySelector('[data-task-id=task-5]')")
        self.assertEqual(page.script("document.querySelectorAll('[data-task-id=task-5]').length"), 1)

    def late(self, app: Any, path: str) -> Any:
        """Make a task after the page was sent, and before its first request for events is answered."""

        def wrapped(environ: Any, start_response: Any) -> Any:
            if environ["PATH_INFO"] == path and not self.app.hub.log.last_sequence():
                self.store.create_task("board-1", "In between")
            return app(environ, start_response)

        return wrapped


class BoardsTest(PageCase):
    """Making and choosing a board, in the page."""

    LISTED = "[...document.querySelectorAll('#boards-list a')].map(one => one.getAttribute('href'))"

    def open_list(self, page: Page) -> None:
        page.find("#boards-open").click()
        page.wait("document.querySelector('#boards-list a')")

    def test_a_board_is_made_and_shown(self) -> None:
        page = self.make_page(self.make_server())
        self.open_list(page)
        page.find("#boards-new input").send_keys(" Garten <b> & ✓ ", Keys.ENTER)
        page.wait("location.pathname === '/boards/board-2'")
        page.wait_state("live")
        self.assertEqual(page.text("#title"), "Garten <b> & ✓")
        page.add("list-todo", "Water the plants")
        page.wait("document.querySelector('[data-task-id=task-5]')")
        self.assert_silent_console()

    def test_a_board_is_chosen_by_keyboard_alone(self) -> None:
        page = self.make_page(self.make_server())
        self.store.create_board("Second")
        page.find("#boards-open").send_keys(Keys.ENTER)
        page.wait(f"JSON.stringify({self.LISTED}) === JSON.stringify(['/boards/board-2', '/boards/board-1'])")
        self.assertEqual(
            page.script("document.querySelector('#boards-list [aria-current]').textContent"), "Live task board"
        )
        page.wait("document.getElementById('boards').contains(document.activeElement)")
        for _ in range(4):  # whatever else can be focused stands before the first board
            page.press(Keys.TAB)
            if page.script("document.activeElement.matches('#boards-list a')"):
                break
        self.assertEqual(page.script("document.activeElement.getAttribute('href')"), "/boards/board-2")
        page.press(Keys.ENTER)
        page.wait("location.pathname === '/boards/board-2'")
        page.wait_state("live")
        # Escape closes the list, and the focus is where it was.
        page.find("#boards-open").send_keys(Keys.ENTER)
        page.wait("document.querySelector('#boards-list a')")
        page.press(Keys.ESCAPE)
        page.wait("!document.getElementById('boards').open")
        self.assertEqual(page.script("document.activeElement.id"), "boards-open")

    def test_the_list_is_fresh_each_time_it_is_opened(self) -> None:
        page = self.make_page(self.make_server())
        self.open_list(page)
        self.assertIn("open this list again", page.text("#boards"))
        page.press(Keys.ESCAPE)
        self.store.create_board("By somebody else")
        page.find("#boards-open").click()
        page.wait(f"{self.LISTED}.length === 2")
        page.wait("document.querySelector('#boards-list a').textContent === 'By somebody else'")

    def test_of_many_boards_some_are_shown_and_the_others_are_asked_for(self) -> None:
        page = self.make_page(self.make_server())
        for number in range(2, 251):
            self.store.create_board(f"Board {number}")
        self.open_list(page)
        self.assertEqual(page.script(f"{self.LISTED}.length"), 100)
        for shown in (200, 250):
            page.find("#boards-more").click()
            page.wait(f"{self.LISTED}.length === arguments[0]", shown)
            # A keyboard goes on where the new ones begin.
            page.wait("document.activeElement.matches('#boards-list li:nth-child(n+101) a')")
        self.assertFalse(page.find("#boards-more").is_displayed())
        self.assertEqual(page.script(f"new Set({self.LISTED}).size"), 250)

    def test_what_goes_wrong_is_said_in_the_list_and_nothing_is_lost(self) -> None:
        refusing = Failing("/boards")
        page = self.make_page(self.make_server(refusing))
        refusing.on = True
        page.find("#boards-open").click()
        page.wait("document.getElementById('boards-error').textContent")
        page.find("#boards-new input").send_keys("Not lost", Keys.ENTER)
        page.wait("document.getElementById('boards-error').textContent.includes('was not made')")
        self.assertEqual(page.script("document.querySelector('#boards-new input').value"), "Not lost")
        refusing.on = False
        page.find("#boards-more").click()
        page.wait(f"{self.LISTED}.length === 1")
        self.assertEqual(page.text("#boards-error"), "")
        page.find("#boards-new input").send_keys(Keys.ENTER)
        page.wait("location.pathname === '/boards/board-2'")

    def test_a_click_beside_the_list_closes_it_and_one_on_its_edge_does_not(self) -> None:
        page = self.make_page(self.make_server())
        resize(page.browser, 1280, 800)
        self.open_list(page)
        box = page.find("#boards").rect
        hand = ActionChains(page.browser, duration=0)
        hand.w3c_actions.pointer_action.move_to_location(int(box["x"]) + 6, int(box["y"]) + 6).click()
        hand.perform()
        self.assertTrue(page.script("document.getElementById('boards').open"))
        hand = ActionChains(page.browser, duration=0)
        hand.w3c_actions.pointer_action.move_to_location(int(box["x"]) - 20, int(box["y"]) + 6).click()
        hand.perform()
        page.wait("!document.getElementById('boards').open")
        self.assertEqual(page.script("location.pathname"), "/boards/board-1")

    def test_two_clicks_make_one_board(self) -> None:
        slow = threading.Event()
        self.addCleanup(slow.set)

        def waiting(app: Any) -> Any:
            def wrapped(environ: Any, start_response: Any) -> Any:
                if environ["REQUEST_METHOD"] == "POST":
                    slow.wait(SECONDS)
                return app(environ, start_response)

            return wrapped

        page = self.make_page(self.make_server(waiting))
        self.open_list(page)
        page.find("#boards-new input").send_keys("Once", Keys.ENTER, Keys.ENTER)
        page.find("#boards-new button").click()
        slow.set()
        page.wait("location.pathname === '/boards/board-2'")
        self.assertEqual(len(self.store.boards()[0]), 2)

    def test_titles_are_text_and_stick_out_nowhere(self) -> None:
        url = self.make_server()
        for title in ("<img src=x onerror=alert(1)>", "W" * 200, "שלום עולם!"):
            self.store.create_board(title)
        page = self.make_page(url)
        for width, height, phone in ((1280, 800, False), (390, 844, True), (320, 480, True)):
            resize(page.browser, width, height, phone=phone)
            self.open_list(page)
            box = page.script("document.getElementById('boards').getBoundingClientRect().toJSON()")
            with self.subTest(width=width):
                self.assertGreaterEqual(box["left"], 0)
                self.assertLessEqual(box["right"], width)
                self.assertLessEqual(box["bottom"], height)
                self.assertEqual(page.script(OVERFLOW), 0)
                self.assertEqual(page.script("document.querySelectorAll('#boards img').length"), 0)
                box = page.find("#boards")
                self.assertEqual(page.script("arguments[0].scrollWidth - arguments[0].clientWidth", box), 0)
            if phone:
                small = page.script("""
                    [...document.querySelectorAll('#boards button, #boards input, #boards a')]
                      .filter(one => one.getClientRects().length && one.getBoundingClientRect().height < 44)
                      .map(one => one.outerHTML)
                """)
                self.assertEqual(small, [])
            page.find("#boards-close").click()
        self.assert_silent_console()


class MessagesTest(PageCase):
    """When messages go, and where they are."""

    def make_failing(self, path: str = "/tasks") -> tuple[Failing, Page]:
        failing = Failing(path)
        page = self.make_page(self.make_server(failing))
        return failing, page

    def test_that_the_server_is_away_is_not_said_any_more_when_it_is_back(self) -> None:
        directory = temporary_directory(self)
        env = {"SSE_THREADED_URL": sqlite_url(directory), "SSE_THREADED_RETRY": "500"}
        config = ROOT / "deploy" / "gunicorn.conf.py"
        server = enter(self, GunicornServer(config=config, args=["-w", "1"], env=env, cwd=directory))
        page = self.make_page(server.url + "/boards/board-1")
        server.kill()
        page.wait_state("reconnecting")
        page.add("list-done", "Kept in the field")
        page.wait("document.querySelector('#alert').textContent.includes('The server cannot be reached.')")
        page.act("task-1", "move-right")
        page.wait("document.querySelector('#alert').textContent.includes('was not moved')")
        # A title that is nowhere but in the message.
        page.act("task-2", "rename")
        page.press(Keys.CONTROL, "a")
        page.press("Nowhere else", Keys.ENTER)
        page.wait("document.querySelector('#alert').textContent.includes('was not renamed. The server')")
        server.restart()
        page.wait_state("live")
        page.wait("document.querySelectorAll('#alert .message').length === 1")
        self.assertNotIn("cannot be reached", page.text("#alert"))
        self.assertIn("” was not renamed.", page.plain("#alert"))
        self.assertEqual(page.script("document.querySelector('#list-done .add input').value"), "Kept in the field")
        page.find("#alert .message button").click()
        page.wait("document.querySelector('.card textarea').value === 'Nowhere else'")

    def test_nor_where_the_stream_never_broke(self) -> None:
        failing, page = self.make_failing()
        failing.on = True
        page.add("list-done", "Kept in the field")
        page.wait("document.querySelector('#alert .message')")
        self.assertEqual(page.script(STATE), "live")
        failing.on = False
        page.wait("!document.querySelector('#alert .message')")
        self.assertEqual(page.script("document.querySelector('#list-done .add input').value"), "Kept in the field")

    def test_a_message_does_not_cover_what_has_the_focus(self) -> None:
        failing, page = self.make_failing()
        for number in range(12):
            self.change("POST", page.url + "/tasks", title=f"Task {number}", listId="list-done")
        page.wait("document.querySelectorAll('#list-done .card').length === 13")
        failing.on = True
        clear = """(() => {
            const {left, right, top, bottom} = document.activeElement.getBoundingClientRect();
            const over = [...document.querySelectorAll('.message')].map(one => one.getBoundingClientRect())
              .filter(box => box.left < right && box.right > left && box.top < bottom && box.bottom > top);
            const stack = document.getElementById('messages-stack').getBoundingClientRect();
            // Of many messages, the part that is to be seen.
            const hides = over.filter(box => box.bottom > stack.top && box.top < stack.bottom).length
              && stack.top < bottom && stack.bottom > top;
            return !hides && top >= 0 && bottom <= innerHeight && stack.top >= 0 && stack.bottom <= innerHeight
              && stack.left >= 0 && stack.right <= innerWidth && stack.height > 40;
        })()"""
        fields = [f"#{name} .add input" for name in ("list-todo", "list-doing", "list-done")]
        cards = [f"[data-task-id=task-{number}] .card-title" for number in (1, 3, 4, 10, 16)]
        sizes = ((1280, 800, False), (800, 600, False), (640, 400, False), (390, 844, True), (320, 568, True))
        for width, height, phone in sizes:
            resize(page.browser, width, height, phone=phone)
            page.browser.execute_script(
                "document.querySelectorAll('.message button:last-child').forEach(b => b.click())"
            )
            for at, field in enumerate(fields):
                page.browser.execute_script("arguments[0].focus()", page.find(field))
                page.browser.execute_script("arguments[0].value = ''", page.find(field))
                page.press(f"Refused {at}", Keys.ENTER)
                page.wait("document.querySelectorAll('#alert .message').length === arguments[0]", at + 1)
                with self.subTest(width=width, field=field):
                    page.wait(clear)
            for selector in (*cards, *fields):
                page.browser.execute_script("arguments[0].focus()", page.find(selector))
                with self.subTest(width=width, focus=selector):
                    page.wait(clear)
        # Also one that grows while it is written in.
        page.act("task-16", "rename")
        page.press("many words and more of them " * 6)
        page.wait("document.activeElement.matches('textarea')")
        page.wait(clear)

    def test_a_message_is_not_behind_a_phones_keyboard(self) -> None:
        failing, page = self.make_failing()
        resize(page.browser, 390, 844, phone=True)
        keyboard = "{value: {offsetTop: 0, height: 480}, configurable: true}"
        page.browser.execute_script(f"Object.defineProperty(window, 'visualViewport', {keyboard})")
        failing.on = True
        page.add("list-todo", "Refused")
        page.wait("document.querySelector('#alert .message')?.getBoundingClientRect().bottom < 480")

    def test_many_messages_leave_room_for_the_board(self) -> None:
        failing, page = self.make_failing()
        failing.on = True
        for number in range(15):
            page.browser.execute_script("document.querySelector('#list-done .add input').value = ''")
            page.add("list-done", f"Refused {number}")
            page.wait("document.querySelectorAll('#alert .message').length === arguments[0]", number + 1)
        for width, height, phone in ((1280, 800, False), (390, 844, True)):
            resize(page.browser, width, height, phone=phone)
            with self.subTest(width=width):
                tall = page.script("document.getElementById('messages-stack').getBoundingClientRect().height")
                self.assertLessEqual(tall, 0.3 * height + 1)


class WireTest(PageCase):
    """The events as they came."""

    LINES = (
        "[...document.querySelectorAll('#wire-events li')].map(one => one.innerText.replace(/\\s+/g, ' ').trim())"
    )

    def test_the_newest_twenty_events_are_there_with_their_ids(self) -> None:
        page = self.make_page(self.make_server())
        self.assertTrue(page.find("#wire-events").is_displayed())
        for number in range(1, 26):
            self.change("POST", page.url + "/tasks", title=f"Task {number}")
        page.wait("document.getElementById('wire-events').textContent.includes('Task 25')")
        lines = page.script(self.LINES)
        log = self.app.hub.log
        ids = [log.event_id(record.sequence) for record in log.read(0, channels=["board-1"])]
        self.assertEqual(len(lines), 20)
        for line, number in zip(lines, range(25, 5, -1), strict=True):
            data = f'{{"type":"task_created","task":{{"id":"task-{number + 4}","title":"Task {number}"}}}}'
            self.assertEqual(line, f"id: {ids[number - 1]} data: {data}")

    def test_nothing_moves_when_events_come(self) -> None:
        page = self.make_page(self.make_server())
        what = "footer, #wire, #wire-events, #keys, main, #wire p"
        places = f"""JSON.stringify([...document.querySelectorAll('{what}')]
          .map(one => one.getBoundingClientRect()).map(({{x, y, width, height}}) => [x, y, width, height]))"""
        before = page.script(places)
        self.app.hub.publish("board-1", {"type": "task_renamed", "task": {"id": "task-1", "title": "x" * 200}})
        for number in range(25):
            self.app.hub.publish("board-1", {"type": "note", "task": {"id": f"n{number}"}})
        page.wait("document.getElementById('wire-events').textContent.includes('n24')")
        self.assertEqual(page.script(places), before)

    def test_who_has_scrolled_to_an_older_event_keeps_it_before_their_eyes(self) -> None:
        page = self.make_page(self.make_server())
        for number in range(10):
            self.app.hub.publish("board-1", {"type": "note", "task": {"id": f"n{number}"}})
        page.wait("document.getElementById('wire-events').textContent.includes('n9')")
        page.browser.execute_script("""
            const list = document.getElementById('wire-events');
            list.scrollTop = 60;
            window.read = [...list.children].find(one => one.textContent.includes('n5'));
        """)
        page.wait("document.getElementById('wire-events').scrollTop > 30")
        before = page.script("window.read.getBoundingClientRect().top")
        for number in range(3):
            self.app.hub.publish("board-1", {"type": "note", "task": {"id": f"later{number}"}})
        page.wait("document.getElementById('wire-events').textContent.includes('later2')")
        page.wait("Math.abs(window.read.getBoundingClientRect().top - arguments[0]) < 2", before)

    def test_a_screen_reader_can_read_them_and_is_not_told_of_each(self) -> None:
        page = self.make_page(self.make_server())
        live = """[...document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')]
          .filter(one => one.closest('#wire') || one.contains(document.getElementById('wire'))).length"""
        self.assertEqual(page.script(live), 0)
        self.assertEqual(page.find("#wire-events").aria_role, "list")
        self.assertTrue(page.find("#wire-events").accessible_name.startswith("The latest events"))
        page.browser.execute_script("document.getElementById('wire-events').focus()")
        self.assertEqual(page.script("document.activeElement.id"), "wire-events")  # to be scrolled by keys


class RefusalTest(PageCase):
    def test_a_title_that_is_too_long_is_given_back(self) -> None:
        page = self.make_page(self.make_server())
        before = page.shown()
        long = "x" * 201
        unbound = "document.querySelectorAll('input').forEach(input => input.removeAttribute('maxlength'))"
        page.browser.execute_script(unbound)
        page.add("list-todo", long)
        page.wait("document.querySelector('#alert .message')")
        self.assertIn("201 characters; shorten it to 200.", page.text("#alert"))
        self.assertEqual(page.script("document.querySelector('#list-todo .add input').value"), long)
        self.assertEqual(page.shown(), before)

    def test_a_long_title_neither_fits_into_the_field_nor_fills_the_screen(self) -> None:
        page = self.make_page(self.make_server())
        page.add("list-todo", "y" * 300)
        page.wait("document.querySelector('[data-task-id=task-5]')")
        self.assertEqual(page.shown()["list-todo"][-1], "y" * 200)
        page.act("task-5", "delete")
        page.wait("document.querySelector('#notice .message')")
        self.assertLess(len(page.text("#notice p")), 60)

    def test_a_message_of_an_unsaved_title_stays_until_something_is_saved(self) -> None:
        page = self.make_page(self.make_server(), script=SHORT_MESSAGES)
        # What no keyboard writes, so that the server refuses it.
        page.browser.execute_script("document.querySelector('#list-todo .add input').value = 'bell \\u0007'")
        page.find("#list-todo .add input").send_keys(Keys.ENTER)
        page.wait("document.querySelector('#alert .message')")
        page.act("task-2", "delete")
        page.wait("!document.querySelector('#alert .message')")  # something was saved
        page.wait("!document.querySelector('#notice .message')")  # time took it
        page.find("#list-todo .add input").send_keys(Keys.ENTER)
        page.wait("document.querySelector('#alert .message')")
        # Another message comes and goes; this one is older and still there.
        page.browser.execute_script(SAY)
        page.wait("window.said && !document.querySelector('#notice .message')")
        self.assertEqual(page.script("document.querySelectorAll('#alert .message').length"), 1)

    def test_what_is_taken_back_is_said_to_be_restored(self) -> None:
        page = self.make_page(self.make_server())
        title = page.title("task-1")
        page.act("task-1", "delete")
        page.wait("document.querySelector('#notice .message button')").click()
        page.wait("document.getElementById('announcer').textContent.includes('Restored “')")
        self.assertNotIn("Added", page.script("document.getElementById('announcer').textContent"))
        self.assertIn(title[:30], page.script("document.getElementById('announcer').textContent"))

    def test_a_task_that_another_has_deleted(self) -> None:
        page = self.make_page(self.make_server())
        # Without an event, so that this page still shows it.
        self.execute("DELETE FROM board_tasks WHERE number = 1")
        page.act("task-1", "move-right")
        page.wait("document.querySelector('#alert .message')")
        self.assertIn("There is no such task on this board", page.text("#alert"))

    def test_a_title_being_written_outlives_its_card(self) -> None:
        page = self.make_page(self.make_server())
        page.card("task-1", ".card-title").click()
        page.press(Keys.CONTROL, "a")
        page.press("Half a title")
        self.change("DELETE", page.url + "/tasks/task-1")
        page.wait("document.querySelector('#alert .message')")
        self.assertIn("“Half a title” was not saved. Somebody has deleted the task.", page.plain("#alert"))
        page.script("document.querySelector('#alert .message button').click()")
        page.wait("document.querySelector('#list-todo [data-task-id=task-5]')")
        self.assertEqual(page.title("task-5"), "Half a title")
        # One that was not changed needs no saving.
        page.card("task-2", ".card-title").click()
        self.change("DELETE", page.url + "/tasks/task-2")
        page.wait("!document.querySelector('[data-task-id=task-2]')")
        self.assertEqual(page.script("document.querySelectorAll('#alert .message').length"), 0)

    def test_what_is_being_saved_is_shown_and_no_refusal_hides_another(self) -> None:
        slow = threading.Event()
        self.addCleanup(slow.set)

        def failing(app: Any) -> Any:
            def wrapped(environ: Any, start_response: Any) -> Any:
                if environ["REQUEST_METHOD"] != "POST":
                    return app(environ, start_response)
                slow.wait(SECONDS)
                return bad_gateway(start_response)

            return wrapped

        page = self.make_page(self.make_server(failing))
        before = page.shown()
        titles = ["First", "Second", "Third"]
        for title in titles:
            page.add("list-done", title)
        pending = "[...document.querySelectorAll('#list-done .pending')].map(one => one.textContent)"
        self.assertEqual(page.script(pending), titles)
        slow.set()
        page.wait("document.querySelectorAll('#alert .message').length === 3")
        self.assertEqual(page.script(pending), [])
        self.assertEqual(page.shown(), before)
        kept = page.plain("#alert") + page.script("document.querySelector('#list-done .add input').value")
        for title in titles:
            self.assertIn(title, kept)
        page.browser.execute_script("document.querySelectorAll('#alert button').forEach(one => one.click())")

    def test_a_late_answer_is_told_from_none(self) -> None:
        page = self.make_page(self.make_server(), script=NO_ANSWERS)
        page.act("task-1", "move-right")
        page.wait("document.querySelector('#alert .message')")
        self.assertIn("No answer came; see whether it was saved.", page.plain("#alert"))


class LookTest(PageCase):
    def test_nothing_sticks_out_sideways(self) -> None:
        url = self.make_server()
        for title in ("W" * 200, "long words and many of them " * 7, "short"):
            for list_id in ("list-todo", "list-done"):
                self.change("POST", url + "/tasks", title=title.strip(), listId=list_id)
        page = self.make_page(url)
        page.browser.execute_script("document.getElementById('wire').open = true")
        self.addCleanup(prefer, page.browser)
        sizes = ((1280, 800, False), (800, 600, False), (390, 844, True), (320, 640, True))
        for scheme in ("light", "dark"):
            prefer(page.browser, color_scheme=scheme)
            for width, height, phone in sizes:
                resize(page.browser, width, height, phone=phone)
                with self.subTest(scheme=scheme, width=width):
                    self.assertEqual(page.script("innerWidth"), width)
                    self.assertEqual(page.script(OVERFLOW), 0)
        self.assert_silent_console()

    def test_the_head_moves_nothing_whatever_the_connection_is(self) -> None:
        page = self.make_page(self.make_server())
        shown = "[...document.querySelectorAll('h1, #shares a, .lane, .card')]"
        places = f"JSON.stringify({shown}.map(one => one.getBoundingClientRect()).map(({{x, y}}) => [x, y]))"
        for width, height, phone in ((1280, 800, False), (800, 600, False), (390, 844, True), (320, 640, True)):
            resize(page.browser, width, height, phone=phone)
            seen = []
            for state in ("live", "connecting", "polling", "waiting", "paused", "reconnecting"):
                page.browser.execute_async_script(SHOW_STATE, state)
                seen.append(page.script(places))
            with self.subTest(width=width):
                self.assertEqual(len(set(seen)), 1, seen)
                self.assertEqual(page.script(OVERFLOW), 0)
                button = page.script("document.getElementById('try-now').getBoundingClientRect().right")
                self.assertLessEqual(button, width)

    def test_a_message_covers_neither_the_events_nor_the_keys(self) -> None:
        page = self.make_page(self.make_server())
        page.act("task-2", "delete")
        page.wait("document.querySelector('#notice .message')")
        edges = """(() => {
            const message = document.querySelector('#notice .message').getBoundingClientRect();
            const buttons = [...document.querySelectorAll('#notice button, #notice p')]
              .map(one => one.getBoundingClientRect());
            return {bottom: message.bottom, foot: document.querySelector('footer').getBoundingClientRect().top,
              inside: message.left >= 0 && message.right <= innerWidth && message.bottom <= innerHeight,
              row: Math.max(...buttons.map(box => box.top)) < Math.min(...buttons.map(box => box.bottom))};
        })()"""
        for width, height, phone in ((1280, 800, False), (390, 844, True)):
            resize(page.browser, width, height, phone=phone)
            for opened in (False, True):
                page.browser.execute_script("document.getElementById('wire').open = arguments[0]", opened)
                with self.subTest(width=width, opened=opened):
                    seen = page.script(edges)
                    self.assertLessEqual(seen["bottom"], seen["foot"])
                    self.assertTrue(seen["inside"] and seen["row"], seen)

    def test_dark_is_dark(self) -> None:
        page = self.make_page(self.make_server())
        self.addCleanup(prefer, page.browser)
        colour = "getComputedStyle(document.documentElement).backgroundColor"
        brightness = f"{colour}.match(/\\d+/g).slice(0, 3).map(Number)"
        for scheme, dark in (("light", False), ("dark", True)):
            prefer(page.browser, color_scheme=scheme)
            with self.subTest(scheme=scheme):
                self.assertEqual(sum(page.script(brightness)) < 3 * 128, dark)

    def test_without_scripts_it_says_so_and_nothing_else(self) -> None:
        page = self.make_page(self.make_server())
        self.addCleanup(page.browser.execute_cdp_cmd, "Emulation.setScriptExecutionDisabled", {"value": False})
        page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        page.browser.get(page.url)
        shown = page.script("document.body.innerText")
        self.assertIn("This page needs JavaScript.", shown)
        for other in ("Fetching", "Connecting", "Arrow keys"):
            self.assertNotIn(other, shown)

    def test_a_finger_finds_its_buttons(self) -> None:
        page = self.make_page(self.make_server())
        resize(page.browser, 360, 740, phone=True)
        small = page.script("""
            [...document.querySelectorAll('main button, main input')].filter(one => !one.disabled)
              .map(one => [one.getAttribute('aria-label') ?? one.textContent, one.getBoundingClientRect()])
              .filter(([, {width, height}]) => width < 44 || height < 24).map(([name]) => name)
        """)
        self.assertEqual(small, [])

    def test_everything_has_a_name(self) -> None:
        page = self.make_page(self.make_server())
        nameless = page.script("""
            [...document.querySelectorAll('button, input, section, nav')]
              .filter(one => !one.hidden && !(one.getAttribute('aria-label') || one.getAttribute('aria-labelledby')
                || one.textContent.trim())).map(one => one.outerHTML)
        """)
        self.assertEqual(nameless, [])
        self.assertEqual(page.script("document.querySelectorAll('h1').length"), 1)
        self.assertEqual(page.script("document.querySelectorAll('main h2').length"), 3)


if __name__ == "__main__":
    unittest.main()
