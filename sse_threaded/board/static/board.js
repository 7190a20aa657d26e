// The main module: only it connects state, live.js, view, status and messages.

import { Boards } from "./boards.js";
import { Messages } from "./messages.js";
import { People } from "./people.js";
import { Away, limited, send } from "./send.js";
import { BoardState } from "./state.js";
import { Status } from "./status.js";
import { View } from "./view.js";

// The name of live.js has its hash, which only the page knows.
const { Live } = await import(document.getElementById("live-script").href);

const boardUrl = location.pathname.split("/").slice(0, 3).join("/");
const tasksUrl = `${boardUrl}/tasks`;
// While a message says that the server cannot be reached: milliseconds between two checks, the first and the longest.
const BACK_MS = 2000;
const BACK_MAX_MS = 30_000;
const RENDER_MS = 10;
// All tabs of the browser share a connection. While none of them is visible, it is soon closed.
const HIDDEN_MS = 10_000;

let rendering = null; // a timer
let reloading = false;
let looking = null; // a timer

const state = new BoardState();
const view = new View({ add, move, rename, remove, orphaned });
const status = new Status({ tryNow: () => live.retry() });
const messages = new Messages();
new Boards(boardUrl);

state.load(JSON.parse(document.getElementById("snapshot").textContent));
render();

const people = new People({ rename: () => connect() });
let live = null;
let shown = "";
connect();

// All tabs of the browser share a connection. Another name is another URL, so it is another connection.
function connect() {
  if (shown === "gone") return;
  const before = live;
  live = null; // so that its end is not shown
  before?.close();
  const query = people.name ? `?name=${encodeURIComponent(people.name)}` : "";
  const mine = new Live(`/events${query}`, { lastEventId: state.position, times: { hidden: HIDDEN_MS } });
  live = mine;
  const told = () => {
    if (live !== mine || live.state === shown || shown === "gone") return;
    shown = live.state;
    status.connection(shown);
    if (shown === "live" || shown === "polling") messages.back();
  };
  mine.addEventListener("state", told);
  mine.addEventListener("reset", () => reload());
  // The only reason to refuse a board is that it does not exist.
  mine.addEventListener("refused", ({ detail }) => detail.channels.length && gone("This board is not there any more."));
  mine.addEventListener("people", ({ detail }) => detail.channel === state.id && people.show(detail));
  mine.subscribe(state.id, ({ type, id, data }) => type === "message" && take(id, data));
  told();
}

// Events are missing: fetch the whole board. Events that come during this time are in it, or come after it.
async function reload(wait = BACK_MS) {
  if (reloading) return;
  reloading = true;
  try {
    const headers = { Accept: "application/json" };
    const response = await fetch(boardUrl, { headers, cache: "no-store", signal: limited(null, 15_000) });
    if (response.status === 404) gone("There is no such board.");
    else if (response.ok) state.load(await response.json());
    else throw new Error(`status ${response.status}`);
    if (response.ok) render();
  } catch {
    setTimeout(reload, wait, Math.min(2 * wait, BACK_MAX_MS));
  } finally {
    reloading = false;
  }
}

function gone(text) {
  shown = "gone";
  live.close();
  status.connection("gone");
  view.gone(text);
  status.announce(text);
}

// A replay brings many events at once; they are shown together. It uses a timer, because a hidden window has no
// animation frames.
function renderSoon() {
  rendering ??= setTimeout(render, RENDER_MS);
}

function render() {
  clearTimeout(rendering);
  rendering = null;
  const { id, title, lists } = state;
  view.render({ id, title, lists, tasks: state.tasks(), pending: state.pending() });
}

// One event of the board, from the stream or a long poll. If it comes twice, the second time changes nothing.
function take(id, data) {
  const event = parsed(data);
  const own = state.isOwn(event);
  const before = state.task(event.taskId ?? event.task?.id);
  if (!state.apply(id, event)) return;
  status.wire(id, data);
  renderSoon();
  if (!own) status.announce(spoken(event, before));
}

// Other programs may publish to the channel of the board. An event of unknown form changes nothing.
function parsed(data) {
  try {
    const event = JSON.parse(data);
    return typeof (event.taskId ?? event.task.id) === "string" ? event : {};
  } catch {
    return {};
  }
}

function spoken({ type, task }, before) {
  const list = ({ listId }) => state.lists.find(({ id }) => id === listId)?.title ?? "";
  if (type === "task_created") return `${quoted(task.title)} was added to ${list(state.task(task.id) ?? {})}.`;
  if (!before) return "";
  if (type === "task_moved") return `${quoted(before.title)} was moved to ${list(task)}.`;
  if (type === "task_renamed") return `${quoted(before.title)} was renamed to ${quoted(task.title)}.`;
  if (type === "task_deleted") return `${quoted(before.title)} was deleted.`;
  return "";
}

// Show the user's own change, send it to the server, and keep it until the stream brings its event. If that fails,
// undo it and throw an error that a person can act on.
async function change(own, method, url, body) {
  state.begin(own);
  render();
  try {
    const response = await send(method, url, body);
    messages.saved();
    messages.back();
    const until = response.headers.get("Last-Event-ID");
    state.answered(own, until, own.id ?? (await response.json()).id);
  } catch (error) {
    state.failed(own);
    throw error;
  } finally {
    render();
  }
}

// Show which change failed and why, and offer the user a remedy.
function failed(what, error, offer, unsaved = false) {
  const away = error instanceof Away;
  messages.fail(what, error.message, offer, { unsaved, away });
  if (away) lookForServer();
}

// The stream may not have noticed that the server could not be reached. Then it does not report the server's return.
function lookForServer(wait = BACK_MS) {
  looking ??= setTimeout(async () => {
    const headers = { Accept: "application/json" };
    const asked = fetch(boardUrl, { method: "HEAD", headers, cache: "no-store", signal: limited(null, 10_000) });
    const back = await asked.then(({ status }) => status < 500, () => false);
    looking = null;
    if (back) messages.back();
    if (messages.sayAway) lookForServer(Math.min(2 * wait, BACK_MAX_MS));
  }, wait);
}

async function add(listId, title, word = "added") {
  try {
    const own = { kind: "add", listId, title };
    await change(own, "POST", tasksUrl, { title, listId });
    view.reveal(own.id);
    status.announce(`${word[0].toUpperCase()}${word.slice(1)} ${quoted(title)}.`);
  } catch (error) {
    const again = { label: "Try again", run: () => add(listId, title, word) };
    const offer = view.returnTitle(listId, title) ? null : again;
    failed(`${quoted(title)} was not ${word}.`, error, offer, true);
  }
}

async function move(id, listId) {
  const task = state.task(id);
  if (!task || task.listId === listId) return;
  const list = state.lists.find((one) => one.id === listId);
  status.announce(`Moved to ${list.title}.`);
  try {
    await change({ kind: "move", id, listId }, "PATCH", `${tasksUrl}/${id}`, { listId });
  } catch (error) {
    failed(`${quoted(task.title)} was not moved.`, error, { label: "Try again", run: () => move(id, listId) });
  }
}

async function rename(id, title) {
  const task = state.task(id);
  if (!task) return;
  try {
    await change({ kind: "rename", id, title }, "PATCH", `${tasksUrl}/${id}`, { title });
  } catch (error) {
    const offer = { label: "Edit again", run: () => view.edit(id, title) };
    failed(`${quoted(task.title)} was not renamed.`, error, offer, true);
  }
}

// The card was deleted while the user was writing its title.
function orphaned(listId, title) {
  const offer = { label: "Add as a new task", run: () => add(listId, title) };
  messages.fail(`${quoted(title)} was not saved.`, "Somebody has deleted the task.", offer, { unsaved: true });
}

async function remove(id) {
  const task = state.task(id);
  if (!task) return;
  try {
    await change({ kind: "delete", id }, "DELETE", `${tasksUrl}/${id}`);
    // An id is never given twice: undo creates a new task with the same title.
    messages.notify(`Deleted ${quoted(task.title)}.`, { label: "Undo", run: () => add(task.listId, task.title, "restored") });
  } catch (error) {
    failed(`${quoted(task.title)} was not deleted.`, error, { label: "Try again", run: () => remove(id) });
  }
}

// The button of a message may be far from the focus, and disappear before a keyboard user reaches it.
function pressed(event) {
  const undo = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "z";
  if (undo && !event.target.closest("input, textarea, dialog") && messages.undo()) event.preventDefault();
}

addEventListener("keydown", pressed);

// A title for messages. It is shortened, and isolated with FSI and PDI (U+2068 and U+2069). So a title written from
// right to left does not turn the message round.
function quoted(title) {
  const letters = [...title];
  return `“\u2068${letters.length > 40 ? `${letters.slice(0, 39).join("").trimEnd()}…` : title}\u2069”`;
}
