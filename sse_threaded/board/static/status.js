// What the page says beside the board itself: the connection's state, the events as they came, what failed
// or can be undone, and what a screen reader is told of others' doings. All texts go in by textContent.

const STATES = {
  connecting: ["Connecting", ""],
  live: ["Live", "changes show as they happen"],
  polling: ["Polling", "changes are fetched, not streamed"],
  waiting: ["Waiting for a place", "no room on the server for more live pages; trying again"],
  paused: ["Paused", "resumes when you look"],
  reconnecting: ["Reconnecting", "this may be out of date"],
  gone: ["Gone", ""],
};
const LOST = ["reconnecting", "waiting"];
const PATIENCE_MS = 6000; // a stream's ordinary reconnection takes 5 s; only what takes longer is spoken of
const BREATH_MS = 300;
const MESSAGE_MS = 12_000;
const WIRE_EVENTS = 40;

const still = matchMedia("(prefers-reduced-motion: reduce)");
const byId = (id) => document.getElementById(id);

export class Status {
  #patience = null;
  #speaking = null;
  #changes = []; // what is to be said of the board
  #news = ""; // and of the connection, while it is true
  #spokenLoss = false;
  #untrue = []; // each takes away a message that a success makes untrue
  #passing = new Map(); // region: takes away its message that time would take

  constructor({ tryNow }) {
    byId("wire-curl").textContent = `curl -N ${location.href.split(/[?#]/)[0]}/events`;
    byId("try-now").addEventListener("click", tryNow);
  }

  connection(state) {
    const [word, why] = STATES[state];
    byId("connection").dataset.state = state;
    byId("connection-word").textContent = word;
    byId("connection-why").textContent = why;
    if (byId("try-now") === document.activeElement) byId("board").focus({ preventScroll: true });
    byId("try-now").hidden = true;
    clearTimeout(this.#patience);
    this.#news = "";
    if (LOST.includes(state)) {
      const lost = "Connection lost, trying again. What you see may be out of date.";
      this.#patience = setTimeout(() => {
        byId("try-now").hidden = state === "waiting";
        this.#news = state === "waiting" ? `${word}: ${why}.` : lost;
        this.#speak();
      }, PATIENCE_MS);
    } else if (this.#spokenLoss && (state === "live" || state === "polling")) {
      this.#news = `Connected again. ${word}: ${why}.`;
      this.#speak();
    }
  }

  // One event, as it came.
  wire(id, data) {
    byId("wire-last").textContent = data;
    const line = document.createElement("li");
    const text = document.createElement("code");
    text.textContent = `id: ${id}\ndata: ${data}`;
    line.append(text);
    byId("wire-events").prepend(line);
    while (byId("wire-events").children.length > WIRE_EVENTS) byId("wire-events").lastChild.remove();
    const pulse = document.querySelector("#connection .pulse");
    if (!still.matches) pulse.animate([{ transform: "scale(2)" }, { transform: "scale(1)" }], 500);
  }

  // For screen readers; several in one breath are said together.
  announce(change) {
    if (!change) return;
    this.#changes.push(change);
    this.#speak();
  }

  #speak() {
    if (this.#speaking) return;
    byId("announcer").textContent = ""; // or the same words a second time would be no news
    this.#speaking = setTimeout(() => {
      const { length } = this.#changes;
      const changes = length > 4 ? `${length} changes on the board.` : this.#changes.join(" ");
      byId("announcer").textContent = `${changes} ${this.#news}`.trim();
      if (this.#news) this.#spokenLoss = LOST.includes(byId("connection").dataset.state);
      this.#changes = [];
      this.#news = "";
      this.#speaking = null;
    }, BREATH_MS);
  }

  // `offer`: {label, run}, a way on. With `unsaved`, the person's text is nowhere but here or in a field, and
  // the message stays until it is dismissed, or (when nothing is offered) until something is saved.
  fail(text, offer, { unsaved = false } = {}) {
    const gone = this.#message(byId("alert"), text, offer, unsaved);
    if (unsaved && !offer) this.#untrue.push(gone);
  }

  saved() {
    for (const gone of this.#untrue.splice(0)) gone();
  }

  notify(text, offer) {
    this.#message(byId("notice"), text, offer, false);
  }

  // Takes the offer of the notice that is shown, if there is one.
  undo() {
    const notice = byId("notice").querySelector(".message");
    notice?.querySelector("button").click();
    return Boolean(notice);
  }

  #message(region, text, offer, stays) {
    const box = document.createElement("div");
    box.className = "message";
    const words = document.createElement("p");
    words.textContent = text;
    box.append(words);
    const gone = () => {
      if (box.contains(document.activeElement)) byId("board").focus({ preventScroll: true });
      box.remove();
    };
    if (offer) box.append(button(offer.label, () => [gone(), offer.run()]));
    box.append(button("Dismiss", gone));
    this.#passing.get(region)?.();
    this.#passing.delete(region);
    for (const old of [...region.children]) if (old.firstChild.textContent === text) old.remove();
    region.append(box);
    const expire = () => (box.matches(":hover, :focus-within") ? setTimeout(expire, 1000) : gone());
    if (!stays) {
      setTimeout(expire, MESSAGE_MS);
      this.#passing.set(region, gone);
    }
    return gone;
  }
}

function button(label, run) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", run);
  return made;
}
