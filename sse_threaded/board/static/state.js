// The state of the board on this page. It has the server's events in their order, and on top of them the user's own
// changes until the stream brings them. A change that fails is removed, and the state before it shows again. This
// module uses neither the page nor the network.

// Return whether event `id` comes after event `other`. Ids are <epoch>-<sequence>. Ids of two logs cannot be compared;
// then the one that came last counts as newer.
export function isAfter(id, other) {
  const [epoch, sequence] = split(id);
  const [otherEpoch, otherSequence] = split(other);
  return epoch !== otherEpoch || sequence > otherSequence;
}

function sameLog(id, other) {
  return split(id)[0] === split(other)[0];
}

function split(id) {
  const dash = id.lastIndexOf("-");
  return [id.slice(0, dash), Number(id.slice(dash + 1))];
}

export class BoardState {
  id = "";
  title = "";
  lists = [];
  position = null; // the id of the newest event in this state; null before the first snapshot
  #confirmed = new Map(); // id: {id, title, listId}, in the order of the board
  #own = new Set(); // {kind, id, title, listId, until}; until: the id of its event, once answered

  load(snapshot) {
    this.id = snapshot.id;
    this.title = snapshot.title;
    this.lists = snapshot.lists;
    this.#confirmed = new Map(snapshot.tasks.map((task) => [task.id, { ...task }]));
    this.advance(snapshot.lastEventId);
    // The event of a change in another log will never come.
    for (const own of this.#own) if (own.until && !sameLog(own.until, this.position)) this.#own.delete(own);
  }

  // Apply one event. False: the state had it already, and nothing changed.
  apply(id, event) {
    if (!isAfter(id, this.position)) return false;
    change(this.#confirmed, event, this.lists[0]?.id);
    this.advance(id);
    return true;
  }

  // The state has all events up to `id`.
  advance(id) {
    this.position = id;
    for (const own of this.#own) this.#settle(own);
  }

  // Add the user's own change: {kind: "move" | "rename" | "delete", id, listId | title}. It shows at once. A change
  // {kind: "add", title, listId} shows when it has an id.
  begin(own) {
    this.#own.add(own);
    return own;
  }

  // The server made the change. `until`: the id of its event; null if nothing had to change.
  answered(own, until, id = own.id) {
    own.id = id;
    own.until = until;
    this.#settle(own);
  }

  failed(own) {
    this.#own.delete(own);
  }

  // Return whether an event is the result of the user's own change.
  isOwn(event) {
    const kind = { task_created: "add", task_moved: "move", task_renamed: "rename", task_deleted: "delete" }[event.type];
    const id = event.taskId ?? event.task?.id;
    return [...this.#own].some(
      (own) => own.kind === kind && (own.id === id || (kind === "add" && !own.id && own.title === event.task.title)),
    );
  }

  task(id) {
    return this.tasks().find((task) => task.id === id);
  }

  // Return the tasks to show, in order.
  tasks() {
    const shown = new Map([...this.#confirmed].map(([id, task]) => [id, { ...task }]));
    for (const { kind, id, title, listId } of this.#own) {
      if (kind === "add" && id) change(shown, { type: "task_created", task: { id, title, listId } });
      if (kind === "move") change(shown, { type: "task_moved", task: { id, listId } });
      if (kind === "rename") change(shown, { type: "task_renamed", task: { id, title } });
      if (kind === "delete") shown.delete(id);
    }
    return [...shown.values()];
  }

  // Return the user's own tasks that are being saved and have no id yet.
  pending() {
    return [...this.#own].filter(({ kind, id }) => kind === "add" && !id);
  }

  // The stream is past the change, so the events of the server contain it.
  #settle(own) {
    if (own.until === undefined) return;
    if (own.until === null || !isAfter(own.until, this.position)) this.#own.delete(own);
  }
}

// Apply the effect of an event. A task that exists already is not added, and one that does not exist is not changed.
function change(tasks, event, firstList) {
  const { type, task } = event;
  const known = tasks.get(task?.id);
  if (type === "task_created" && !known) {
    tasks.set(task.id, { id: task.id, title: task.title, listId: task.listId ?? firstList });
  } else if (type === "task_moved" && known && known.listId !== task.listId) {
    tasks.delete(task.id); // a moved task is the last of its new list
    tasks.set(task.id, { ...known, listId: task.listId });
  } else if (type === "task_renamed" && known) {
    known.title = task.title;
  } else if (type === "task_deleted") {
    tasks.delete(event.taskId);
  }
}
