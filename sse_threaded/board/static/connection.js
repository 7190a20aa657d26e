// Keeps the page up to date. Normally it uses the browser's EventSource. If a proxy blocks streaming, it uses long
// polling at the same URL with the same last event ID. One loop does all the waiting, so there is one state at a
// time. The states are connecting, live, polling, waiting (the server has no room), reconnecting and paused.

import { limited } from "./send.js";

// EventSource does not show comments. So a silent stream may mean an idle board, or a proxy that holds all bytes
// back. After this time without an event, fetch asks once for the first line of the stream. If it does not come,
// but a plain request is answered, streaming is blocked.
const QUIET_MS = 6000;
const FIRST_LINE_MS = 5000;
// After this time an own change was answered, but the stream has not brought it: the stream does not work.
const ECHO_MS = 5000;
const POLL_WAIT_S = 25; // many proxies give up after 30 seconds
const STREAM_AGAIN_MS = 120_000; // while polling, the time between two attempts to stream
const BACKOFF_MS = 1000;
const BACKOFF_MAX_MS = 30_000;
// A full server answers with a stream that ends at once without an event, because any status but 200 would end
// EventSource for good. A long poll distinguishes this from a lost connection, and keeps the board up to date.
const SHORT_MS = 2000;
const TELL_MS = 1000; // if the answer takes longer, the connection counts as lost

// The board does not exist; trying again would not help.
export class Gone extends Error {}

export class Connection {
  #url;
  #hooks;
  #run = null; // the AbortController of the running loop
  #poke = null; // ends the current wait of the loop
  #state = "connecting";
  #stale = true; // a snapshot is needed first
  #proven = false; // the bytes of a stream arrive
  #blocked = false; // the bytes of a stream do not arrive
  #failures = 0;
  #missed = 0;
  #streamAgain = 0;

  // hooks: load(signal), position(), isAhead(id), event(id, data), advance(id), state(name), gone(error)
  constructor(url, hooks) {
    this.#url = url;
    this.#hooks = hooks;
  }

  resume() {
    if (this.#run) return;
    this.#run = new AbortController();
    this.#say("connecting");
    this.#loop(this.#run.signal);
  }

  // Closes the connection: browsers allow six for a host, over all tabs.
  pause() {
    if (!this.#run) return;
    this.#run.abort();
    this.#run = null;
    this.#say("paused");
  }

  tryNow() {
    this.#failures = 0;
    this.#poke?.();
  }

  // An event with this id exists. If the stream does not bring it, check the stream.
  expect(id) {
    const signal = this.#run?.signal;
    setTimeout(async () => {
      if (signal !== this.#run?.signal || this.#state !== "live" || !this.#hooks.isAhead(id)) return;
      this.#missed += 1;
      try {
        await this.#ask(0, signal);
      } catch {
        return; // the server does not work either; the stream will notice
      }
      this.#blocked = this.#missed > 1;
      this.#poke?.();
    }, ECHO_MS);
  }

  async #loop(signal) {
    while (!signal.aborted) {
      try {
        if (this.#stale) {
          await this.#hooks.load(limited(signal, 15_000));
          this.#stale = false;
        }
        if ("EventSource" in window && !this.#blocked) await this.#stream(signal);
        else await this.#poll(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Gone) {
          this.#run = null;
          this.#hooks.gone(error);
          return;
        }
        this.#say("reconnecting");
        const most = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** this.#failures);
        this.#failures += 1;
        await this.#sleep(250 + Math.random() * most, signal);
      }
    }
  }

  // One EventSource. Resolves when the loop must go on without it. Rejects when EventSource has closed for good, as
  // after any status but 200. After a lost connection it reconnects by itself.
  async #stream(signal) {
    if (this.#failures > 2) {
      await this.#ask(0, signal);
      this.#blocked = true; // plain requests are answered, but the stream is not
      return;
    }
    const source = new EventSource(this.#address());
    const ended = new AbortController();
    const until = { signal: ended.signal };
    let opened = 0; // the time of opening, until the first event comes
    let short = 0; // how many streams in a row ended at once
    try {
      await new Promise((resolve, reject) => {
        const doubt = () => this.#doubt(signal, ended.signal, resolve);
        let timer = setTimeout(doubt, QUIET_MS);
        let calm = null;
        ended.signal.addEventListener("abort", () => [timer, calm].forEach(clearTimeout));
        signal.addEventListener("abort", resolve, until);
        this.#poke = () => {
          if (source.readyState !== EventSource.OPEN || this.#missed || this.#stale) resolve();
        };
        source.addEventListener("open", () => {
          opened = Date.now();
          this.#failures = 0;
          if (short < 2 && this.#state !== "waiting") this.#say("live");
          calm = setTimeout(() => {
            short = 0;
            this.#say("live");
          }, SHORT_MS);
          clearTimeout(timer);
          timer = setTimeout(doubt, QUIET_MS);
        });
        // The first block of a stream proves that its bytes arrive. A server may omit it.
        source.addEventListener("stream-start", () => {
          this.#proven = true;
        });
        source.addEventListener("message", (event) => {
          this.#proven = true;
          this.#missed = 0;
          opened = 0;
          short = 0;
          if (this.#state === "waiting") this.#say("live");
          this.#hooks.event(event.lastEventId, event.data);
        });
        source.addEventListener("reset", () => {
          this.#proven = true;
          this.#stale = true;
          resolve();
        });
        source.addEventListener("error", () => {
          clearTimeout(calm);
          if (source.readyState === EventSource.CLOSED) {
            reject(new Error("the stream was refused"));
            return;
          }
          short = Date.now() - opened < SHORT_MS ? short + 1 : 0;
          opened = 0;
          if (short) this.#tell(source, short, ended.signal).catch(reject);
          else this.#say("reconnecting");
        });
      });
    } finally {
      this.#poke = null;
      ended.abort();
      source.close();
    }
  }

  // Find out why the stream ended at once. Rejects if the board does not exist.
  async #tell(source, short, signal) {
    const say = (state) => {
      if (!signal.aborted && (state === "waiting" || source.readyState !== EventSource.OPEN)) this.#say(state);
    };
    const late = setTimeout(say, TELL_MS, "reconnecting");
    try {
      let { fresh, later } = await this.#ask(0, signal);
      if (fresh) ({ later } = await this.#ask(0, signal)); // there were events, so the server did not need to wait
      say(later || short > 1 ? "waiting" : "reconnecting");
    } catch (error) {
      if (error instanceof Gone) throw error;
      say("reconnecting");
    } finally {
      clearTimeout(late);
    }
  }

  async #doubt(signal, ended, resolve) {
    if (this.#proven || document.hidden) return;
    if (await this.#flows(signal)) {
      this.#proven = true;
      return;
    }
    try {
      await this.#ask(0, signal);
    } catch {
      return; // the server cannot be reached; EventSource notices that itself
    }
    if (this.#proven || ended.aborted) return;
    this.#blocked = true;
    resolve();
  }

  // Return whether the first line of a stream arrives.
  async #flows(signal) {
    const done = new AbortController();
    const stop = () => done.abort();
    const timer = setTimeout(stop, FIRST_LINE_MS);
    signal.addEventListener("abort", stop, { once: true });
    try {
      const response = await fetch(this.#address(), {
        headers: { Accept: "text/event-stream" },
        cache: "no-store",
        signal: done.signal,
      });
      if (!response.ok) return false;
      return (await response.body.getReader().read()).value?.length > 0;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
      stop();
    }
  }

  async #poll(signal) {
    let wait = 0; // the first answer must come at once, to know the state
    while (!signal.aborted) {
      const asked = Date.now();
      const { fresh, later } = await this.#ask(wait, signal);
      if (this.#stale) return;
      this.#failures = 0;
      this.#say("polling");
      if (!fresh && wait && Date.now() - asked < 1000) {
        await this.#sleep((later || 3) * 1000 * (0.75 + Math.random() / 2), signal);
      }
      wait = POLL_WAIT_S;
      if (!("EventSource" in window)) continue;
      this.#streamAgain ||= Date.now() + STREAM_AGAIN_MS * (0.5 + Math.random());
      if (Date.now() < this.#streamAgain) continue;
      this.#streamAgain = 0;
      if (await this.#flows(signal)) {
        this.#proven = true;
        this.#blocked = false;
        return;
      }
    }
  }

  // One long poll. `later`: a server without room wants to be asked again after so many seconds.
  async #ask(wait, signal) {
    const response = await fetch(`${this.#address()}&wait=${wait}`, {
      headers: { Accept: "application/json" },
      cache: "no-store",
      signal: limited(signal, (wait + 10) * 1000),
    });
    if (response.status === 404) throw new Gone("This board is not there any more.");
    if (!response.ok) throw new Error(`status ${response.status}`);
    const answer = await response.json();
    if (signal.aborted) return {};
    if (answer.reset) {
      this.#stale = true;
      this.#poke?.();
      return {};
    }
    for (const { id, event, data } of answer.events) {
      if (event === "reset") this.#stale = true;
      else if (!event) this.#hooks.event(id, data);
    }
    this.#hooks.advance(answer.lastEventId);
    return { fresh: answer.events.length > 0, later: Number(response.headers.get("Retry-After")) };
  }

  #address() {
    return `${this.#url}?lastEventId=${encodeURIComponent(this.#hooks.position())}`;
  }

  #say(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#hooks.state(state);
  }

  #sleep(milliseconds, signal) {
    const woken = new AbortController();
    return new Promise((resolve) => {
      setTimeout(resolve, milliseconds);
      this.#poke = resolve;
      signal.addEventListener("abort", resolve, { once: true, signal: woken.signal });
    }).finally(() => {
      woken.abort();
      this.#poke = null;
    });
  }
}
