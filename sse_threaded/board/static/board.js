// The page's hall: state, connection, view and status meet here, and nowhere else.

import { Boards } from "./boards.js";
import { Connection, Gone } from "./connection.js";
import { Messages } from "./messages.js";
import { Away, limited, send } from "./send.js";
import { BoardState, isAfter } from "./state.js";
import { Status } from "./status.js";
import { View } from "./view.js";

const boardUrl = location.pathname.split("/").slice(0, 3).join("/");
const tasksUrl = `${boardUrl}/tasks`;
// How often an absent server is looked for, while a message speaks of it: at first, and at last.
const BACK_MS = 2000;
const BACK_MAX_MS = 30_000;
const RENDER_MS = 10;
// A tab that nobody looks at gives its connection to others soon, and one that nobody has seen yet as soon as it has
// the board: over HTTP/1.1 six tabs have all the connections that there are, and a seventh would not even open.
const HIDDEN_MS = 10_000;

const state = new BoardState();
const view = new View({ add, move, rename, remove, orphaned });
const status = new Status({ tryNow: () => connection.tryNow() });
const messages = new Messages();
new Boards(boardUrl);
const connection = new Connection(`${boardUrl}/events`, {
  load,
  position: () => state.position,
  isAhead: (id) => isAfter(id, state.position),
  event: take,
  advance: (id) => isAfter(id, state.position) && state.advance(id),
  state: (name) => {
    status.connection(name);
    if (name === "live" || name === "polling") messages.back();
  },
  gone,
});

async function load(signal) {
  const response = await fetch(boardUrl, { headers: { Accept: "application/json" }, cache: "no-store", signal });
  if (response.status === 404) throw new Gone("There is no such board.");
  if (!response.ok) throw new Error(`status ${response.status}`);
  state.load(await response.json());
  render();
  if (!seen) looked();
}

function gone(error) {
  status.connection("gone");
  view.gone(error.message);
  status.announce(error.message);
}

let rendering = null;

// A replay brings many events in one breath; they are shown together. A timer, as a window that is out of
// sight has no animation frames.
function renderSoon() {
  rendering ??= setTimeout(render, RENDER_MS);
}

function render() {
  clearTimeout(rendering);
  rendering = null;
  const { id, title, lists } = state;
  view.render({ id, title, lists, tasks: state.tasks(), pending: state.pending() });
}

// One event of the board, by whichever way it came; a second time it changes nothing.
function take(id, data) {
  const event = parsed(data);
  const own = state.isOwn(event);
  const before = state.task(event.taskId ?? event.task?.id);
  if (!state.apply(id, event)) return;
  status.wire(id, data);
  renderSoon();
  if (!own) status.announce(spoken(event, before));
}

// Anybody may publish to the board's channel by hand; what is none of the board's events changes nothing.
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

// Show one's own change, ask the server for it, and keep it until the stream brings it; or put things back
// and throw what a person can act on.
async function change(own, method, url, body) {
  state.begin(own);
  render();
  try {
    const response = await send(method, url, body);
    messages.saved();
    messages.back();
    const until = response.headers.get("Last-Event-ID");
    state.answered(own, until, own.id ?? (await response.json()).id);
    if (until) connection.expect(until);
  } catch (error) {
    state.failed(own);
    throw error;
  } finally {
    render();
  }
}

// A change that failed: what was not done, why, and a way on.
function failed(what, error, offer, unsaved = false) {
  const away = error instanceof Away;
  messages.fail(what, error.message, offer, { unsaved, away });
  if (away) lookForServer();
}

let looking = null;

// The stream may not have noticed that the server was away, so that it does not tell that it is back.
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

// The card of a half-written title is gone.
function orphaned(listId, title) {
  const offer = { label: "Add as a new task", run: () => add(listId, title) };
  messages.fail(`${quoted(title)} was not saved.`, "Somebody has deleted the task.", offer, { unsaved: true });
}

async function remove(id) {
  const task = state.task(id);
  if (!task) return;
  try {
    await change({ kind: "delete", id }, "DELETE", `${tasksUrl}/${id}`);
    // Ids are not given twice: what comes back is a new task of the same title.
    messages.notify(`Deleted ${quoted(task.title)}.`, { label: "Undo", run: () => add(task.listId, task.title, "restored") });
  } catch (error) {
    failed(`${quoted(task.title)} was not deleted.`, error, { label: "Try again", run: () => remove(id) });
  }
}

let hiding = null;
let seen = false;

function looked() {
  clearTimeout(hiding);
  seen ||= !document.hidden;
  if (!document.hidden) connection.resume();
  else if (seen || state.position) hiding = setTimeout(() => connection.pause(), seen ? HIDDEN_MS : 0);
}

// What a message offers may be far from where a keyboard is, and go before it is reached.
function pressed(event) {
  const undo = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "z";
  if (undo && !event.target.closest("input, textarea, dialog") && messages.undo()) event.preventDefault();
}

addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", looked);
addEventListener("pagehide", () => connection.pause());
addEventListener("pageshow", (event) => event.persisted && connection.resume());
addEventListener("online", () => connection.tryNow());
connection.resume();
looked();

// A title as messages have it: they must not grow with it, nor turn round with one that is written from right to left
// (FSI and PDI, U+2068 and U+2069).
function quoted(title) {
  const letters = [...title];
  return `“\u2068${letters.length > 40 ? `${letters.slice(0, 39).join("").trimEnd()}…` : title}\u2069”`;
}
