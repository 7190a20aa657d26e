// The parts of the page beside the board: the state of the connection, the latest events, and for screen readers the
// changes of other users. All texts are set with textContent.

const STATES = {
  connecting: ["Connecting", ""],
  live: ["Live", "changes show as they happen"],
  polling: ["Polling", "changes are fetched, not streamed"],
  waiting: ["Waiting for a place", "no room on the server for more live pages; trying again"],
  paused: ["Paused", "resumes when you look"],
  reconnecting: ["Reconnecting", "this may be out of date"],
  refused: ["Refused", "load the page again"],
  finished: ["Finished", "this board does not change any more"],
  gone: ["Gone", ""],
};
const LOST = ["reconnecting", "waiting"];
const ANNOUNCE_AFTER_MS = 6000; // an ordinary reconnection takes 5 s; screen readers announce only a longer one
const BREATH_MS = 300;
const WIRE_EVENTS = 20;

const still = matchMedia("(prefers-reduced-motion: reduce)");
const byId = (id) => document.getElementById(id);

export class Status {
  #patience = null;
  #speaking = null;
  #changes = []; // changes of the board, to be announced
  #news = ""; // the state of the connection, to be announced while it is true
  #spokenLoss = false;

  constructor({ tryNow }) {
    byId("wire-curl").textContent = `curl -N ${location.href.split(/[?#]/)[0]}/events`;
    byId("try-now").addEventListener("click", tryNow);
    // On a small screen it would take most of the room below the board.
    byId("wire").open = matchMedia("(min-width: 760px) and (min-height: 600px)").matches;
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
      }, ANNOUNCE_AFTER_MS);
    } else if (this.#spokenLoss && (state === "live" || state === "polling")) {
      this.#news = `Connected again. ${word}: ${why}.`;
      this.#speak();
    }
  }

  // Show one event, unchanged.
  wire(id, data) {
    byId("wire-last").textContent = data;
    const line = document.createElement("li");
    line.append(code(`id: ${id}`), " ", code(`data: ${data}`));
    byId("wire-events").prepend(line);
    while (byId("wire-events").children.length > WIRE_EVENTS) byId("wire-events").lastChild.remove();
    const pulse = document.querySelector("#connection .pulse");
    if (!still.matches) pulse.animate([{ transform: "scale(2)" }, { transform: "scale(1)" }], 500);
  }

  // Announce a text for screen readers. Texts that come together are announced together.
  announce(change) {
    if (!change) return;
    this.#changes.push(change);
    this.#speak();
  }

  #speak() {
    if (this.#speaking) return;
    byId("announcer").textContent = ""; // otherwise the same text would not be announced a second time
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
}

function code(text) {
  const made = document.createElement("code");
  made.textContent = text;
  return made;
}
