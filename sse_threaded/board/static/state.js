// The board as this page knows it: what the server has told, in the order of its events, and on top of
// that the person's own changes which the stream has not brought back yet. A change that fails is taken
// off again, and what was there before shows. Touches neither the page nor the network.

// Whether event `id` comes after event `other`. Ids are <epoch>-<sequence>; of two logs nothing is known,
// so the newer word counts.
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
  position = null; // the id up to which events are in here; null before the first snapshot
  #told = new Map(); // id: {id, title, listId}, in the order of the board
  #own = new Set(); // {kind, id, title, listId, until}; until: the id of its event, once answered

  load(snapshot) {
    this.id = snapshot.id;
    this.title = snapshot.title;
    this.lists = snapshot.lists;
    this.#told = new Map(snapshot.tasks.map((task) => [task.id, { ...task }]));
    this.advance(snapshot.lastEventId);
    // The event of a change in another log never comes here.
    for (const own of this.#own) if (own.until && !sameLog(own.until, this.position)) this.#own.delete(own);
  }

  // Take over one event. False: it was in here already, and nothing changed.
  apply(id, event) {
    if (!isAfter(id, this.position)) return false;
    change(this.#told, event, this.lists[0]?.id);
    this.advance(id);
    return true;
  }

  // Everything up to `id` is known.
  advance(id) {
    this.position = id;
    for (const own of this.#own) this.#settle(own);
  }

  // One's own change, shown at once: {kind: "move" | "rename" | "delete", id, listId | title}, or
  // {kind: "add", title, listId}, which shows once it has an id.
  begin(own) {
    this.#own.add(own);
    return own;
  }

  // The server made the change; `until` is its event's id, null if there was nothing to change.
  answered(own, until, id = own.id) {
    own.id = id;
    own.until = until;
    this.#settle(own);
  }

  failed(own) {
    this.#own.delete(own);
  }

  // Whether an event is the echo of one's own change.
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

  // What to show, in order.
  tasks() {
    const shown = new Map([...this.#told].map(([id, task]) => [id, { ...task }]));
    for (const { kind, id, title, listId } of this.#own) {
      if (kind === "add" && id) change(shown, { type: "task_created", task: { id, title, listId } });
      if (kind === "move") change(shown, { type: "task_moved", task: { id, listId } });
      if (kind === "rename") change(shown, { type: "task_renamed", task: { id, title } });
      if (kind === "delete") shown.delete(id);
    }
    return [...shown.values()];
  }

  // Own tasks that have no id yet, as they are being saved.
  pending() {
    return [...this.#own].filter(({ kind, id }) => kind === "add" && !id);
  }

  // The stream has come past the change: what the server told says it all.
  #settle(own) {
    if (own.until === undefined) return;
    if (own.until === null || !isAfter(own.until, this.position)) this.#own.delete(own);
  }
}

// An event's effect; what is there already, or is not there, stays as it is.
function change(tasks, event, firstList) {
  const { type, task } = event;
  const known = tasks.get(task?.id);
  if (type === "task_created" && !known) {
    tasks.set(task.id, { id: task.id, title: task.title, listId: task.listId ?? firstList });
  } else if (type === "task_moved" && known && known.listId !== task.listId) {
    tasks.delete(task.id); // a moved task comes last in its new list
    tasks.set(task.id, { ...known, listId: task.listId });
  } else if (type === "task_renamed" && known) {
    known.title = task.title;
  } else if (type === "task_deleted") {
    tasks.delete(event.taskId);
  }
}
