// Messages about failures, and about changes that can be undone. A message disappears with its reason, after some
// time, or when it is dismissed. It never covers the focused element: it is above the foot, or else below the head.
// All texts are set with textContent.

const MESSAGE_MS = 12_000;

const byId = (id) => document.getElementById(id);

export class Messages {
  #box = byId("messages");
  #stack = byId("messages-stack");
  #untrue = []; // each removes a message that a success makes untrue
  #away = new Set(); // for each message that says the server cannot be reached: the function to call when it is back
  #passing = new Map(); // region: removes its message before its time is over

  constructor() {
    const place = () => this.#place();
    for (const kind of ["focusin", "input"]) document.addEventListener(kind, place);
    addEventListener("scroll", place, { capture: true, passive: true });
    addEventListener("resize", place);
    window.visualViewport?.addEventListener("resize", place);
    new MutationObserver(place).observe(this.#stack, { childList: true, subtree: true });
  }

  // Show what failed, and why. `offer`: {label, run}, the remedy. `unsaved`: the user's text is only in this message
  // or in a field. Then the message stays until it is dismissed, or (without an offer) until something is saved.
  // `away`: the reason is that the server cannot be reached. Then `back` removes the reason, or the message.
  fail(what, why, offer, { unsaved = false, away = false } = {}) {
    const { gone, words } = this.#message(byId("alert"), `${what} ${why}`, offer, unsaved);
    if (unsaved && !offer) this.#untrue.push(gone);
    if (!away) return;
    const kept = unsaved && offer; // the text exists nowhere else
    this.#away.add(() => (kept ? (words.textContent = what) : gone()));
  }

  notify(text, offer) {
    this.#message(byId("notice"), text, offer, false);
  }

  saved() {
    for (const gone of this.#untrue.splice(0)) gone();
  }

  // Return whether a message says that the server cannot be reached.
  get sayAway() {
    return this.#away.size > 0;
  }

  // The server answers again.
  back() {
    for (const end of this.#away) end();
    this.#away.clear();
  }

  // Execute the offer of the current notice, if there is one.
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
    this.#stack.scrollTop = this.#stack.scrollHeight; // of many messages, the newest must be visible
    this.#place();
    const expire = () => (box.matches(":hover, :focus-within") ? setTimeout(expire, 1000) : gone());
    if (!stays) {
      setTimeout(expire, MESSAGE_MS);
      this.#passing.set(region, gone);
    }
    return { gone, words };
  }

  // Leave the messages where they are, or move them. They must not cover the focused element, and must not be behind
  // the keyboard of a phone. If there is no such place, they get the room beside the focused element.
  #place() {
    if (!this.#stack.querySelector(".message")) return;
    const { at } = this.#box.dataset;
    this.#stack.style.maxHeight = "";
    const places = at === "top" ? ["top", "bottom"] : ["bottom", "top"];
    if (places.some((place) => this.#put(place) && !this.#inTheWay())) return;
    const field = rectangle(this.#focused());
    if (!field) return;
    this.#put("bottom");
    const below = rectangle(this.#stack).bottom - field.bottom;
    this.#put("top");
    const above = field.top - rectangle(this.#stack).top;
    if (below > above) this.#put("bottom");
    this.#stack.style.maxHeight = `${Math.max(below, above) - 4}px`;
  }

  #put(at) {
    const head = rectangle(document.querySelector(".top")).bottom;
    this.#box.dataset.at = at;
    this.#box.style.top = at === "top" ? `${Math.max(head, 0) + 8}px` : "";
    return true;
  }

  #inTheWay() {
    const box = rectangle(this.#stack);
    const view = window.visualViewport;
    if (view && box.bottom > view.offsetTop + view.height + 1) return true;
    const field = rectangle(this.#focused());
    if (!field) return false;
    return box.left < field.right && box.right > field.left && box.top < field.bottom && box.bottom > field.top;
  }

  #focused() {
    const focused = document.activeElement;
    return focused?.closest("main, footer") && focused.id !== "board" ? focused : null;
  }
}

function rectangle(element) {
  return element?.getBoundingClientRect();
}

function button(label, run) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = label;
  made.addEventListener("click", run);
  return made;
}
