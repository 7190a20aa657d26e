// Server-Sent Events for all tabs of a browser, over one connection: EventSource, and more. docs/live.md explains it.
//
//   const live = new Live("/events", { lastEventId });
//   live.subscribe("orders", ({ data }) => show(JSON.parse(data)));
//   live.addEventListener("reset", () => location.reload());
//
// The tab that leads has the connection. It sends spans to the other tabs. A span has all events of some channels
// between two ids. Each subscription has its own position. It takes from a span the events after its position. If a
// span begins later than that, the tab first asks the server for the events between. So no event is lost or doubled,
// whichever tab leads.

// Milliseconds. An app can change each of them.
const TIMES = {
  silence: 32_000, // a stream without a byte is dead: two heartbeats of 15 seconds, and a little more
  opening: 8_000, // until the first byte of a stream; after that a proxy may be holding it back
  again: 120_000, // while it polls, until the next attempt to stream
  longest: 30_000, // between two attempts
  hidden: 60_000, // without a visible tab, until the connection is released
  beat: 400, // between two signs of life of the tab that leads
};
const MISSED_BEATS = 3; // then another tab leads
const RETRY = 2_000; // milliseconds, until the server gives another time
const PROBE = 2_000; // milliseconds
const POLL_SECONDS = 25; // many proxies give up after 30 seconds
const LONGEST_URL = 4_000; // gunicorn allows 4,094 bytes for the first line of a request

/**
 * @typedef {"connecting"|"live"|"polling"|"waiting"|"reconnecting"|"paused"|"refused"|"finished"|"closed"} State
 *
 * @typedef {object} LiveEvent
 * @property {string|undefined} channel The name of its channel, if the server sends it.
 * @property {string} type Its name, such as "paid"; "message" if it has none.
 * @property {string} data
 * @property {string} id
 *
 * @typedef {object} Options
 * @property {string} [lastEventId] The id up to which the page shows everything. Default: the server decides.
 * @property {(channels: string[]) => string|Promise<string>} [ticket] Gets a ticket from the app, for `?ticket=`.
 * @property {string} [key] Only tabs with the same URL and key share a connection. Give the id of the user.
 * @property {boolean} [shared] Whether tabs share a connection; default true.
 * @property {RequestCredentials} [credentials] As in fetch; default "include".
 * @property {number} [longestUrl] In characters; default 4000. Channels that do not fit are refused.
 * @property {Partial<typeof TIMES>} [times] Other times, in milliseconds.
 *
 * @typedef {object} Span All events of some channels after one id, up to another.
 * @property {string[]} channels
 * @property {string|undefined} from
 * @property {string|undefined} to
 * @property {LiveEvent[]} [events]
 * @property {boolean} [begins] The connection began here, as the server decided.
 * @property {string} [reset] The server could not resume. This is its reason, as JSON.
 */

/** Reads a stream's text (WHATWG HTML 9.2.6). Its field `channel` is this package's own. */
export class EventStreamParser {
  /** The reconnection time, in milliseconds. @type {number|undefined} */
  retry;
  #id;
  #rest = "";
  #afterCR = false;
  /** @type {{data: string[], type?: string, channel?: string}} */
  #event = { data: [] };

  /** @param {string} [id] The last event ID before this stream. */
  constructor(id = "") {
    this.id = this.#id = id;
  }

  /**
   * @param {string} text The next part, of any length.
   * @returns {LiveEvent[]} The events that are complete now.
   */
  feed(text) {
    /** @type {LiveEvent[]} */
    const events = [];
    if (!text) return events;
    if (this.#afterCR && text[0] === "\n") text = text.slice(1);
    this.#afterCR = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line) {
        this.#field(line);
        continue;
      }
      const { data, type, channel } = this.#event;
      this.#event = { data: [] };
      this.id = this.#id;
      if (data.length) events.push({ channel, type: type || "message", data: data.join("\n"), id: this.id });
    }
    return events;
  }

  /** @param {string} line */
  #field(line) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === "data") this.#event.data.push(value);
    else if (name === "event") this.#event.type = value;
    else if (name === "channel" && value[0] === '"') this.#event.channel = JSON.parse(value);
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^0*\d{1,9}$/.test(value)) this.retry = Number(value);
  }
}

/** The server will answer the next request in the same way. */
class Refused extends Error {
  constructor(status, detail, channels = []) {
    super(detail);
    this.status = status;
    this.channels = channels;
  }
}

/** All channels are finished. */
class Finished extends Error {}

/** Negative if the first id comes before the second. NaN for ids of two logs, and without an id. */
function compare(one = "", other = "") {
  const [[log, number], [otherLog, otherNumber]] = [one, other].map((id) => id.split(/-(?=\d+$)/));
  return log === otherLog ? Number(number) - Number(otherNumber) : NaN;
}

/** Wait for so many milliseconds, or until the signal. */
function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** A time between a fifth of `most` and `most`, so that not all clients come at once. */
function spread(most) {
  return most * (0.2 + 0.8 * Math.random());
}

/** The milliseconds of a Retry-After (RFC 9110, section 10.2.3); 0 without one. */
function waitOf(headers) {
  const after = headers.get("Retry-After");
  return after ? Math.max(0, Number(after) * 1000 || Date.parse(after) - Date.now() || 0) : 0;
}

/** The requests to one URL. */
class Server {
  #ticket = "";
  #ticketFor = "";

  constructor(url, options) {
    this.url = url;
    this.options = options;
  }

  /** Returns a response of this type. */
  async open(type, channels, position, signal, more) {
    const { ticket, credentials = "include" } = this.options;
    const address = new URL(this.url);
    const fields = address.searchParams;
    for (const channel of channels) if (channel) fields.append("channel", channel);
    const names = address.search;
    const known = this.#ticket && this.#ticketFor === names;
    if (ticket && !known) {
      this.#ticket = await ticket(channels.filter(Boolean));
      this.#ticketFor = names;
    }
    const values = { withChannel: 1, lastEventId: position, ticket: this.#ticket, ...more };
    for (const [name, value] of Object.entries(values)) if (value || value === 0) fields.set(name, value);
    const response = await fetch(address, { headers: { Accept: type }, cache: "no-store", credentials, signal });
    const { status, headers } = response;
    const kind = headers.get("Content-Type") ?? "";
    if (status === 204) throw new Finished();
    if (response.ok && kind.startsWith(type)) return response;
    if (known && status === 403) {
      this.#ticket = ""; // it may be too old
      return this.open(type, channels, position, signal, more);
    }
    if (response.ok) throw new Refused(status, `expected ${type}, got ${kind}: perhaps a login page`);
    const problem = kind.includes("json") ? await response.json() : {};
    const detail = problem.detail ?? `the server answered ${status}`;
    if (status < 500 && status !== 429 && status !== 408) throw new Refused(status, detail, problem.channels);
    throw Object.assign(new Error(detail), { wait: waitOf(headers) });
  }

  /** Asks for the events after a position. The server waits so many seconds for one. */
  async poll(channels, position, seconds, signal) {
    const limit = new AbortController();
    const end = () => limit.abort(new Error("no answer came in time"));
    const timer = setTimeout(end, (seconds + 10) * 1000);
    signal.addEventListener("abort", end);
    try {
      const response = await this.open("application/json", channels, position, limit.signal, { wait: seconds });
      const answer = await response.json();
      const events = answer.events.map(({ channel, event, data, id }) => ({
        channel,
        type: event ?? "message",
        data,
        id,
      }));
      return { ...answer, events, wait: waitOf(response.headers) };
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
  }
}

/** Keeps one connection: streams, or long polls where streams do not get through. */
class Feed {
  #blocked = false; // streams do not get through
  #streamAt = 0; // the time of the next attempt to stream, while they do not
  #failures = 0;
  #retry = RETRY;
  #deadline = Infinity; // of the stream's next byte
  #cut = () => {};

  /** @param live It has `position`, `state`, `span(...)`, `say(state, detail)`, `notice(event)`, `refuse(refusal)`. */
  constructor(live, server, times) {
    this.live = live;
    this.server = server;
    this.times = times;
  }

  /** Runs until the signal. It ends earlier if the server refuses, or if all channels are finished. */
  async run(channels, signal) {
    this.channels = channels;
    this.#failures = 0;
    this.#blocked ||= this.live.state === "polling"; // the tab that led before has found out
    while (!signal.aborted) {
      let wait;
      let answers = false;
      try {
        if (this.#failures > 1 && !this.#blocked) answers = await this.#answers(signal);
        wait = this.#blocked ? await this.#poll(signal) : await this.#stream(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Finished) return this.live.say("finished");
        if (error instanceof Refused) return this.live.refuse(error);
        this.live.say("reconnecting", error.message);
        // A plain request was answered just before, and since then no byte of a stream has come.
        if (answers && this.#failures) this.#blocked = true;
        const most = Math.max(this.#retry, 100) * 2 ** this.#failures++;
        wait = spread(Math.min(most, this.times.longest)) + (error.wait ?? 0);
      }
      if (wait) await sleep(wait, signal); // in a hidden tab each timer takes a second
    }
  }

  /** Ends a silent stream. Timers of hidden tabs may be late, so others call this, too. */
  check() {
    if (Date.now() > this.#deadline) this.#cut();
  }

  /** Reads one stream to its end. Returns the milliseconds until the next one. */
  async #stream(signal) {
    const { live, times } = this;
    const control = new AbortController();
    const cut = (this.#cut = () => control.abort());
    signal.addEventListener("abort", cut);
    // While it polls, an attempt to stream must be short, as no event comes during this time.
    const opening = live.state === "polling" ? Math.min(times.opening, PROBE) : times.opening;
    this.#deadline = Date.now() + opening;
    const late = setTimeout(() => live.state === "live" && live.say("connecting"), 1000);
    const begins = !live.position;
    let came = false;
    let last; // the notice that says why the stream ends
    try {
      const response = await this.server.open("text/event-stream", this.channels, live.position, control.signal);
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      const parser = new EventStreamParser(live.position);
      for (;;) {
        const { done, value } = await reader.read();
        signal.throwIfAborted(); // as in a poll
        if (done && !came) throw new Error("the stream was empty");
        if (done) break;
        this.#deadline = Date.now() + times.silence;
        clearTimeout(late);
        came = true;
        last = this.#take(parser, decoder.decode(value, { stream: true }), begins) ?? last;
        if (last) last.wait = parser.retry;
        if (last?.type === "stream-unavailable") continue;
        this.#failures = 0;
        live.say("live");
      }
    } catch (error) {
      if (signal.aborted || !control.signal.aborted) throw error;
      if (!came) {
        const asked = Date.now();
        if (!(await this.#answers(signal))) throw new Error("no answer came in time");
        this.#blocked = Date.now() - asked < opening / 2; // a server that was asleep answers late
        return 0;
      }
      live.say("reconnecting", "the stream fell silent");
      return 0;
    } finally {
      clearTimeout(late);
      if (this.#cut === cut) this.#deadline = Infinity; // otherwise another stream has begun
      signal.removeEventListener("abort", cut);
      cut();
    }
    // A proxy may send this notice while the server is down, so that EventSource tries again.
    if (last?.type !== "stream-unavailable") live.say("reconnecting", "the stream has ended");
    else if (await this.#answers(signal)) live.say("waiting", "the server has no room for a stream");
    else live.say("reconnecting", "the server cannot answer now");
    return last?.wait ?? spread(this.#retry);
  }

  /** Passes events on. Returns a notice that says why the stream ends. */
  #take(parser, text, begins) {
    const { live } = this;
    let events = [];
    let last;
    const flush = () => {
      if (events.length) live.span({ from: live.position, to: events.at(-1).id || live.position, events });
      events = [];
    };
    for (const event of parser.feed(text)) {
      const { type, id, data } = event;
      if (!/^(reset$|stream-(?!finished$))/.test(type)) {
        events.push(event);
        continue;
      }
      flush();
      if (type === "stream-end" || type === "stream-unavailable") last = event;
      else if (type === "reset") live.span({ from: id, to: id, reset: data });
      else if (type !== "stream-start") live.notice(event);
      else {
        this.#retry = parser.retry ?? this.#retry;
        if (id) live.span({ from: id, to: id, begins });
      }
    }
    flush();
    return last;
  }

  /** Whether a plain request is answered now. Its events count. */
  async #answers(signal) {
    try {
      await this.#ask(0, signal);
      return true;
    } catch (error) {
      if (signal.aborted || error instanceof Finished || error instanceof Refused) throw error;
      return false;
    }
  }

  /** One long poll. Returns the milliseconds until the next one. */
  async #poll(signal) {
    this.#streamAt ||= Date.now() + this.times.again * (0.5 + Math.random());
    // The first answer comes at once, so that the state is known.
    const seconds = this.live.state === "polling" ? POLL_SECONDS : 0;
    const asked = Date.now();
    const { events, wait } = await this.#ask(seconds, signal);
    this.#failures = 0;
    this.live.say("polling");
    if (Date.now() > this.#streamAt) {
      this.#streamAt = 0;
      this.#blocked = false;
    }
    // A server without room for the request answers at once, and says when to ask again.
    return events.length || !seconds || Date.now() - asked > 1000 ? 0 : (wait || RETRY) * (1 + Math.random() / 2);
  }

  async #ask(seconds, signal) {
    const { live } = this;
    const begins = !live.position;
    const answer = await this.server.poll(this.channels, live.position, seconds, signal);
    signal.throwIfAborted(); // another connection may have begun, with other channels
    const { events, reset, finished, lastEventId: to } = answer;
    live.span({ from: begins || reset ? to : live.position, to, events, begins, reset: reset ? "{}" : undefined });
    if (finished) throw new Finished();
    return answer;
  }
}

/**
 * The events of a URL, in this tab. It dispatches events about itself, of the class `CustomEvent`:
 *
 * - `state`: the state has changed. `detail` is `{state, detail}`.
 * - `reset`: events of `detail.channels` are missing. The page must load its state again.
 * - `finished`: a channel has ended. `detail` is its last event.
 * - `overload`: the server has no room for a stream. The client tries again.
 * - `refused`: the server refuses `detail.channels`, or all if this is empty. It has `detail.status`, `detail.detail`.
 * - `people`: the users on a channel have changed. `detail` is `{channel, people, count}`; see {@link Live.people}.
 * - other notices of the server, whose names begin with `stream-`. `detail` is the event.
 */
export class Live extends EventTarget {
  #name;
  #times;
  #options;
  #server;
  #feed;
  #tab = Math.random().toString(36).slice(2);
  /** @type {Set<{channel: string, handler: (event: LiveEvent) => void, position?: string}>} */
  #subscriptions = new Set();
  /** The other tabs. @type {Map<string, {channels: string[], visible: boolean}>} */
  #tabs = new Map();
  /** The users on each channel. @type {Map<string, {people: string[]|null, count: number}>} */
  #people = new Map();
  /** @type {State} */
  #state = "connecting";
  #detail = "";
  /** The id up to which the connection has brought all events. @type {string|undefined} */
  #position;
  /** The channels of the connection. @type {string[]} */
  #asked = [];
  /** Ends this tab's part, until it is resumed. @type {AbortController|undefined} */
  #life;
  /** Ends the connection of this tab, if it leads. @type {AbortController|undefined} */
  #connection;
  /** Ends the wait to lead. @type {AbortController|undefined} */
  #queue;
  /** @type {BroadcastChannel|undefined} */
  #wire;
  #closed = new AbortController();
  #work = Promise.resolve(); // the spans before the next one
  #waiting = 0; // spans that are not done yet
  #leads = false;
  #lives = false; // the others see that this tab lives
  #missed = 0; // beats
  #beatAt = 0; // the time of the last beat of this tab
  #ticks = 0;
  #seen = -Infinity; // the time when a tab was visible
  #soon = 0;

  /**
   * @param {string|URL} url Of the stream. A `?lastEventId=` in it counts as the option.
   * @param {Options} [options]
   */
  constructor(url, options = {}) {
    super();
    const address = new URL(url, document.baseURI);
    const lastEventId = options.lastEventId ?? address.searchParams.get("lastEventId") ?? undefined;
    address.searchParams.delete("lastEventId");
    this.#options = { ...options, lastEventId };
    this.#times = { ...TIMES, ...options.times };
    this.#name = `sse_threaded ${address} ${options.key ?? ""}`;
    this.#server = new Server(address, options);
    const live = this;
    const hooks = {
      get position() {
        return live.#start();
      },
      get state() {
        return live.#state;
      },
      span: (span) => this.#tell("span", { channels: this.#asked, ...span }),
      say: (state, detail) => this.#say(state, detail),
      notice: (event) => this.#tell("notice", event),
      refuse: (refusal) => this.#refuse(refusal),
    };
    this.#feed = new Feed(hooks, this.#server, this.#times);
    const until = { signal: this.#closed.signal };
    addEventListener("pagehide", () => this.#pause("paused"), until);
    addEventListener("pageshow", ({ persisted }) => persisted && this.#resume(), until);
    document.addEventListener("freeze", () => this.#pause("paused"), until);
    document.addEventListener("resume", () => this.#resume(), until);
    document.addEventListener("visibilitychange", () => this.#look(), until);
    addEventListener("online", () => this.#leads && this.retry(), until);
    this.#resume();
  }

  /** The state of the connection. */
  get state() {
    return this.#state;
  }

  /** A few words about the state, for people; may be empty. */
  get detail() {
    return this.#detail;
  }

  /** Whether this tab has the connection. */
  get leads() {
    return this.#leads;
  }

  /**
   * Have a function called with each event of a channel.
   *
   * @param {string} channel Its name; or "" for all events of the URL.
   * @param {(event: LiveEvent) => void} handler
   * @param {{lastEventId?: string}} [options] The id after which it begins; default: the one of this Live.
   * @returns {() => void} Ends the subscription.
   */
  subscribe(channel, handler, { lastEventId = this.#options.lastEventId } = {}) {
    const subscription = { channel, handler, position: lastEventId || undefined };
    this.#subscriptions.add(subscription);
    this.#announce();
    return () => {
      if (this.#subscriptions.delete(subscription)) this.#announce();
    };
  }

  /**
   * The users on a channel, if the view shows them: sorted, or `null` if they are very many, and their number.
   *
   * @param {string} channel
   * @returns {{people: string[]|null, count: number}|undefined}
   */
  people(channel) {
    return this.#people.get(channel);
  }

  /** Try to connect now, and not only after the next wait. */
  retry() {
    if (!this.#leads) this.#send("retry");
    else if (this.#state !== "live" && this.#state !== "finished") this.#update(true);
  }

  /** End all subscriptions and this tab's part of the connection, for good. */
  close() {
    this.#closed.abort();
    this.#subscriptions.clear();
    this.#pause("closed");
  }

  // The life of this tab.

  #resume() {
    if (this.#life || this.#closed.signal.aborted) return;
    const life = (this.#life = new AbortController());
    const ended = new Promise((resolve) => life.signal.addEventListener("abort", resolve));
    const timer = setInterval(() => this.#tick(), this.#times.beat);
    ended.then(() => clearInterval(timer));
    this.#work = Promise.resolve();
    this.#waiting = this.#missed = 0;
    this.#set("connecting");
    if (this.#options.shared === false || !navigator.locks || !globalThis.BroadcastChannel) {
      this.#lead(life);
      return;
    }
    this.#wire = new BroadcastChannel(this.#name);
    this.#wire.onmessage = ({ data }) => this.#life === life && this.#hear(data);
    const alive = () => {
      this.#lives = true;
      this.#announce();
      return ended;
    };
    navigator.locks.request(`${this.#name} ${this.#tab}`, alive).catch(() => {});
    this.#contend(life);
  }

  #pause(state) {
    if (this.#life) {
      this.#send("bye");
      this.#life.abort();
      this.#queue?.abort();
      this.#stop();
      this.#wire?.close();
      this.#life = this.#wire = undefined;
      this.#leads = this.#lives = false;
      this.#tabs.clear();
    }
    this.#set(state);
  }

  #look() {
    if (!document.hidden) this.#resume();
    this.#announce();
    this.#tick();
  }

  #tick() {
    if (this.#leads) {
      if (++this.#ticks % 10 === 0) this.#prune();
      this.#feed.check();
      this.#update();
    } else if (this.#wire && !document.hidden) {
      // Timers of hidden tabs are late, and messages are not. So a visible tab asks the tab that leads.
      this.#send("ping");
      if (++this.#missed > MISSED_BEATS) this.#contend(this.#life, true);
    }
  }

  // Which tab leads. If it is closed or crashes, the browser gives its lock to the next one.

  async #contend(life, steal = false) {
    this.#queue?.abort();
    this.#missed = 0;
    const queue = (this.#queue = new AbortController());
    const how = steal ? { steal } : { signal: queue.signal };
    try {
      await navigator.locks.request(this.#name, how, () => this.#lead(life));
    } catch (error) {
      if (life.signal.aborted || this.#queue !== queue) return;
      if (error.name !== "AbortError") {
        this.#lead(life); // this page may use no locks, so it has its own connection
        return;
      }
      // Another tab has taken the lock.
      this.#leads = false;
      this.#stop();
      this.#contend(life);
    }
  }

  #lead(life) {
    if (life.signal.aborted) return undefined;
    this.#leads = true;
    this.#prune();
    this.#update(true);
    this.#beat();
    return new Promise((resolve) => life.signal.addEventListener("abort", resolve));
  }

  /** Forget tabs that have crashed. */
  async #prune() {
    if (!this.#wire) return;
    const known = [...this.#tabs.keys()];
    const locks = await navigator.locks.query().catch(() => null);
    if (!locks) return;
    const names = new Set(locks.held.map(({ name }) => name));
    for (const tab of known) if (!names.has(`${this.#name} ${tab}`)) this.#tabs.delete(tab);
  }

  // The connection, in the tab that leads.

  /** Connect, connect again or disconnect, if there is a reason. */
  #update(again = false) {
    const channels = new Set([...this.#subscriptions].map(({ channel }) => channel));
    let visible = !document.hidden;
    for (const tab of this.#tabs.values()) {
      tab.channels.forEach((channel) => channels.add(channel));
      visible ||= tab.visible;
    }
    if (visible) this.#seen = Date.now();
    if (!this.#leads) return;
    const isHidden = Date.now() - this.#seen > this.#times.hidden;
    if (!channels.size || isHidden) {
      if (this.#connection || isHidden) this.#say("paused");
      this.#stop();
    } else if (again || !this.#connection) {
      this.#connect([...channels].sort());
    } else if ([...channels].some((channel) => !this.#asked.includes(channel))) {
      // Several tabs may begin at once.
      this.#soon ||= setTimeout(() => this.#update(true), 50);
    }
  }

  #connect(channels) {
    this.#stop();
    const left = []; // the channels that do not fit into the URL
    let length = String(this.#server.url).length + 200;
    const copies = this.#options.ticket ? 2.5 : 1; // a ticket has the names, too, in base64
    this.#asked = channels.filter((channel) => {
      length += copies * encodeURIComponent(channel).length + "&channel=".length;
      return length <= (this.#options.longestUrl ?? LONGEST_URL) || !left.push(channel);
    });
    if (left.length) {
      const detail = `The URL of ${channels.length} channels is too long. Use fewer channels, or set longestUrl.`;
      this.#tell("refused", { status: 414, detail, channels: left });
    }
    for (const channel of this.#people.keys()) if (!this.#asked.includes(channel)) this.#people.delete(channel);
    if (!this.#leads || !this.#asked.length) return; // a handler may have closed this Live
    if (!["live", "polling", "waiting", "reconnecting"].includes(this.#state)) this.#say("connecting");
    this.#connection = new AbortController();
    this.#feed.run(this.#asked, this.#connection.signal);
  }

  #stop() {
    clearTimeout(this.#soon);
    this.#soon = 0;
    this.#connection?.abort();
    this.#connection = undefined;
  }

  /** The position where the next connection begins. */
  #start() {
    const known = [...this.#subscriptions].map(({ position }) => position).filter(Boolean);
    return this.#position ?? known.reduce((one, other) => (compare(other, one) < 0 ? other : one), known[0]);
  }

  #refuse({ status, message, channels }) {
    const named = this.#asked.filter((channel) => channels.includes(channel));
    if (!named.length) this.#say("refused", message);
    this.#tell("refused", { status, detail: message, channels: named });
    if (named.length) this.#update(true);
  }

  #say(state, detail) {
    if (this.#set(state, detail)) this.#beat();
  }

  // Messages between the tabs.

  #send(kind, body = {}) {
    this.#wire?.postMessage({ kind, tab: this.#tab, body });
  }

  /** Tell the others about this tab. */
  #announce(answers = false) {
    const channels = [...this.#subscriptions].map(({ channel }) => channel);
    if (this.#lives) this.#send("hello", { channels, visible: !document.hidden, answers });
    // Later, as a page may subscribe to several channels. Where all was refused, another person may have logged in.
    queueMicrotask(() => this.#update(this.#state === "refused" && !document.hidden && !answers));
  }

  #beat() {
    if (!this.#leads) return;
    this.#beatAt = Date.now();
    const place = { channels: this.#asked, from: this.#position, to: this.#position };
    const { hidden } = document;
    this.#send("beat", { state: this.#state, detail: this.#detail, seen: this.#seen, hidden, place });
  }

  #tell(kind, body) {
    if (this.#leads) this.#send(kind, body);
    this.#take(kind, body);
  }

  #hear({ kind, tab, body }) {
    if (kind === "hello") {
      if (!this.#tabs.has(tab) && !body.answers) this.#announce(true);
      this.#tabs.set(tab, body);
      this.#update(this.#state === "refused" && body.visible && !body.answers);
      // After the notices that this tab has passed on already.
      if (this.#leads && !body.answers) {
        this.#later(() => this.#people.forEach((here, channel) => this.#send("people", { channel, here })));
      }
      this.#beat();
    } else if (kind === "bye") {
      this.#tabs.delete(tab);
      this.#update();
    } else if (!this.#leads) {
      if (kind === "ping" || kind === "retry") return;
      // A browser may hold back the requests of a hidden tab. If it cannot connect, a visible tab takes over.
      if (!body.hidden || body.state !== "reconnecting") this.#missed = 0;
      this.#take(kind, body);
    } else if (kind === "ping") {
      this.#feed.check();
      if (Date.now() - this.#beatAt > this.#times.beat / 2) this.#beat(); // each beat is for all
    } else if (kind === "retry") {
      this.retry();
    }
  }

  #take(kind, body) {
    if (kind === "refused") this.#drop(body);
    else if (kind === "notice") this.#later(() => this.#notice(body));
    else if (kind === "people") this.#later(() => this.#show(body.channel, body.here));
    else if (kind === "span") this.#span(body);
    else {
      this.#seen = Math.max(this.#seen, body.seen);
      this.#set(body.state, body.detail);
      if (body.place.to && !this.#waiting) this.#span(body.place);
    }
  }

  // The events.

  /** @param {Span} span */
  #span(span) {
    this.#position = span.to;
    this.#later((signal) => this.#apply(span, signal));
  }

  /** Spans are done one after the other, as each may need an answer of the server. */
  #later(run) {
    if (!this.#life) return;
    const { signal } = this.#life;
    this.#waiting += 1;
    this.#work = this.#work.then(async () => {
      if (signal.aborted) return;
      try {
        await run(signal);
      } catch (error) {
        reportError(error);
      }
      if (!signal.aborted) this.#waiting -= 1;
    });
  }

  /** @param {Span} span */
  async #apply({ channels, from, to, events = [], begins, reset }, signal) {
    const mine = [...this.#subscriptions].filter(({ channel }) => channels.includes(channel));
    /** @param {{position?: string}} one */
    const isReady = ({ position }) => !from || (begins && !position) || compare(position, from) >= 0;
    const behind = new Map();
    for (const one of mine) {
      if (reset || !isReady(one)) behind.set(one.position, [...(behind.get(one.position) ?? []), one]);
    }
    for (const [position, some] of behind) await this.#catchUp(some, position, from, reset, signal);
    if (signal.aborted) return;
    const ready = mine.filter(isReady);
    for (const event of events) this.#give(event, ready);
    for (const one of ready) if (to && !(compare(to, one.position) < 0)) one.position = to;
  }

  /** Ask for the events that these subscriptions lack, up to the place of the connection. */
  async #catchUp(some, position, from, reset, signal) {
    const channels = [...new Set(some.map(({ channel }) => channel))];
    const move = (id) => some.forEach((one) => (one.position = id));
    for (let failures = 0; !signal.aborted; ) {
      let answer;
      try {
        answer = await this.#server.poll(channels, position, 0, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Finished) return move(from);
        if (error instanceof Refused) {
          const { status, message: detail } = error;
          return this.#drop({ status, detail, channels: error.channels.length ? error.channels : channels });
        }
        await sleep(spread(Math.min(RETRY * 2 ** failures++, this.#times.longest)), signal);
        continue;
      }
      const { events, lastEventId } = answer;
      if (answer.reset) {
        move(lastEventId);
        return this.#emit("reset", { channels, ...JSON.parse(reset ?? "{}") });
      }
      for (const event of events) this.#give(event, some);
      // The server has no event before the place of the connection. A new subscription begins there.
      if (!events.length) return move(!position || compare(lastEventId, from) < 0 ? from : lastEventId);
      position = lastEventId;
      move(position);
      if (compare(position, from) >= 0) return;
    }
  }

  /** @param {LiveEvent} event */
  #notice(event) {
    if (event.type !== "stream-presence") return this.#emit(event.type, event);
    const { channel, people, joined = [], left = [], count } = JSON.parse(event.data);
    const before = people === undefined ? this.#people.get(channel)?.people : people;
    const here = before && [...new Set([...before, ...joined])].filter((user) => !left.includes(user)).sort();
    return this.#show(channel, { people: here ?? null, count });
  }

  #show(channel, here) {
    this.#people.set(channel, here);
    this.#emit("people", { channel, ...here });
  }

  #give(event, some) {
    const takers = some.filter(
      (one) =>
        this.#subscriptions.has(one) &&
        (!one.channel || !event.channel || one.channel === event.channel) &&
        (!event.id || !one.position || !(compare(event.id, one.position) <= 0)),
    );
    for (const one of takers) {
      if (event.id) one.position = event.id;
      try {
        one.handler(event);
      } catch (error) {
        reportError(error);
      }
    }
    if (takers.length && event.type === "stream-finished") this.#emit("finished", event);
  }

  /** Forget channels that the server refuses. */
  #drop(refusal) {
    const { channels } = refusal;
    const others = (channel) => !channels.includes(channel);
    for (const tab of this.#tabs.values()) tab.channels = tab.channels.filter(others);
    const lost = [...this.#subscriptions].filter(({ channel }) => !others(channel));
    for (const one of lost) this.#subscriptions.delete(one);
    if (lost.length || !channels.length) this.#emit("refused", refusal);
  }

  /** Returns whether the state has changed. */
  #set(state, detail = "") {
    if (state === this.#state && detail === this.#detail) return false;
    this.#state = state;
    this.#detail = detail;
    this.#emit("state", { state, detail });
    if (state === "waiting") this.#emit("overload", { detail });
    return true;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
