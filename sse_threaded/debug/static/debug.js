// The debug page asks for new events once in a second, and for the streams less often. So it works where streams do
// not, and takes no thread of the server. A hidden page asks for nothing.

const EVENTS_MS = 1000;
const STREAMS_MS = 3000;
const AGAIN_MS = 3000; // after a failure
const KEPT = 500; // rows of events

const find = (id) => document.getElementById(id);
const show = {
  events: find("events"),
  rows: find("rows"),
  state: find("state"),
};

let channel = "";
let position = null; // the id after which the next events are
let paused = false;
let turn = 0; // another filter begins another turn, and late answers of the last one do not count

function say(state, word, why = "") {
  show.state.dataset.state = state;
  find("state-word").textContent = word;
  find("state-why").textContent = why;
}

async function ask(address, options = {}) {
  const response = await fetch(address, {
    cache: "no-store",
    headers: { Accept: "application/json" },
    signal: AbortSignal.timeout(15_000),
    ...options,
  });
  const kind = response.headers.get("Content-Type") ?? "";
  const answer = kind.includes("json") ? await response.json() : {};
  if (response.ok && kind.startsWith("application/json")) return answer;
  throw new Error(answer.detail ?? (response.redirected ? "you are no longer logged in" : `status ${response.status}`));
}

// Events.

function readable(data) {
  try {
    return JSON.stringify(JSON.parse(data), null, 1).replace(/\n\s*/g, " ");
  } catch {
    return data;
  }
}

function addEvent({ id, channel: name, event, data, characters }, isFresh) {
  const row = find("event-template").content.firstElementChild.cloneNode(true);
  row.querySelector(".id").textContent = id;
  row.querySelector(".channel").textContent = name;
  row.querySelector(".channel").title = `Only ${name}`;
  row.querySelector(".type").textContent = event ?? "message";
  const rest = characters - data.length;
  row.querySelector(".data").textContent = readable(data) + (rest > 0 ? ` … and ${rest.toLocaleString()} more` : "");
  if (isFresh) row.classList.add("fresh");
  show.events.prepend(row);
  const names = find("channels");
  if (names.children.length < 200 && ![...names.children].some((each) => each.value === name)) {
    names.append(new Option(name, name));
  }
}

async function readEvents(mine) {
  const query = new URLSearchParams();
  if (channel) query.set("channel", channel);
  if (position) query.set("after", position);
  const isFirst = position === null;
  const answer = await ask(`events?${query}`);
  if (mine !== turn || (paused && !isFirst)) return;
  if (answer.reset) show.events.replaceChildren();
  position = answer.lastEventId;
  for (const event of answer.events) addEvent(event, !isFirst);
  while (show.events.children.length > KEPT) show.events.lastElementChild.remove();
  find("no-events").hidden = show.events.children.length > 0;
}

function choose(name) {
  channel = name;
  find("channel").value = name;
  const address = new URL(location.href);
  if (name) address.searchParams.set("channel", name);
  else address.searchParams.delete("channel");
  history.replaceState(null, "", address);
  position = null;
  turn += 1;
  show.events.replaceChildren();
  find("no-events").hidden = false;
  find("no-events").textContent = name ? `The log has no event of ${name}.` : "No event yet.";
  wake();
}

// Streams.

const UNITS = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
];

function duration(seconds) {
  for (const [unit, size] of UNITS) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.floor(seconds)} s`;
}

function size(bytes) {
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return bytes >= 1e3 ? `${(bytes / 1e3).toFixed(1)} kB` : `${bytes} B`;
}

function cell(text, ...classes) {
  const made = document.createElement("td");
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}

function counted(count, one, many) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

async function readStreams() {
  const { processes } = await ask("streams");
  const rows = processes.flatMap((process) => process.rows.map((row) => ({ ...row, process })));
  rows.sort((one, other) => other.waiting - one.waiting || other.age - one.age);
  const total = processes.reduce((sum, process) => sum + process.streams, 0);
  const told = rows.length < total ? `, the first ${rows.length}` : "";
  const where = counted(processes.length, "process", "processes");
  find("processes").textContent = `${total.toLocaleString()} in ${where}${told}`;
  show.rows.replaceChildren(
    ...rows.map((row) => {
      const line = document.createElement("tr");
      const more = row.channel_count - row.channels.length;
      const host = processes.some((each) => each.host !== row.process.host) ? `${row.process.host} ` : "";
      line.append(
        cell(row.channels.join(", ") + (more > 0 ? ` and ${more} more` : "")),
        cell(row.user ?? "–"),
        cell(row.address ?? "–", "mono"),
        cell(duration(row.age), "number"),
        cell(row.last_event_id, "id"),
        cell(row.waiting.toLocaleString(), "number", ...(row.waiting ? ["warn"] : [])),
        cell(size(row.sent), "number"),
        cell(`${host}${row.process.pid} ${row.kind}`, "mono"),
      );
      return line;
    }),
  );
  find("no-streams").hidden = rows.length > 0;
}

async function readState() {
  const state = await ask("state");
  find("publish").hidden = !state.publishes;
  const facts = { log: state.log.url, "newest event": state.log.lastEventId };
  find("facts").replaceChildren(
    ...Object.entries(facts).map(([name, value]) => {
      const fact = document.createElement("div");
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      fact.append(term, text);
      return fact;
    }),
  );
}

// One loop asks for everything.

let wake = () => {};
let streamsDue = 0;

async function loop() {
  for (;;) {
    let wait = EVENTS_MS;
    if (!document.hidden) {
      try {
        if (!paused || position === null) await readEvents(turn);
        if (Date.now() >= streamsDue) {
          await Promise.all([readStreams(), readState()]);
          streamsDue = Date.now() + STREAMS_MS;
        }
        if (paused) say("paused", "Paused", "new events wait");
        else say("live", "Live");
      } catch (error) {
        say("lost", "No answer", `${error.message}; the page tries again`);
        wait = AGAIN_MS;
      }
    }
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, wait);
    });
  }
}

async function publish(body) {
  const told = find("published");
  try {
    const { id } = await ask("publish", {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    told.classList.remove("wrong");
    told.textContent = `Published as ${id}`;
    wake();
  } catch (error) {
    told.classList.add("wrong");
    told.textContent = `Not published: ${error.message}`;
  }
}

find("publish-form").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const fields = new FormData(submitted.target);
  const body = { channel: fields.get("channel"), data: fields.get("data") };
  if (fields.get("event")) body.event = fields.get("event");
  publish(body);
});

find("finish").addEventListener("click", () => {
  const form = find("publish-form");
  if (form.reportValidity()) publish({ channel: new FormData(form).get("channel"), finish: true });
});

find("filter").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  choose(find("channel").value);
});
find("channel").addEventListener("change", () => choose(find("channel").value));

show.events.addEventListener("click", (clicked) => {
  const chosen = clicked.target.closest(".channel");
  if (chosen) choose(chosen.textContent);
});

find("pause").addEventListener("click", () => {
  paused = !paused;
  find("pause").setAttribute("aria-pressed", String(paused));
  find("pause").textContent = paused ? "Go on" : "Pause";
  wake();
});

document.addEventListener("visibilitychange", () => wake());

choose(new URLSearchParams(location.search).get("channel") ?? "");
loop();
