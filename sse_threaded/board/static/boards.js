// The list of boards: choosing one, and making one. It is fetched when it is opened, and not kept up to date.
// All texts go in by textContent.

import { send } from "./send.js";

const byId = (id) => document.getElementById(id);

export class Boards {
  #dialog = byId("boards");
  #list = byId("boards-list");
  #more = byId("boards-more");
  #field = byId("boards-new").elements.title;
  #here; // the path of the board that is shown
  #next = "/boards"; // where the list goes on; null at its end
  #asking = null; // what is being fetched; an answer to anything else is of a list that was closed
  #making = false;

  constructor(here) {
    this.#here = here;
    byId("boards-open").addEventListener("click", () => this.#open());
    byId("boards-close").addEventListener("click", () => this.#dialog.close());
    byId("boards-new").addEventListener("submit", (event) => this.#make(event));
    this.#more.addEventListener("click", () => this.#fetch());
    this.#dialog.addEventListener("pointerdown", (event) => this.#isBeside(event) && this.#dialog.close());
    // A page that the browser shows again later would have an old list open.
    addEventListener("pagehide", () => this.#dialog.close());
  }

  // What is beside the box counts as a part of the dialog.
  #isBeside({ target, clientX, clientY }) {
    const { left, right, top, bottom } = this.#dialog.getBoundingClientRect();
    return target === this.#dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom);
  }

  #open() {
    this.#list.replaceChildren();
    this.#next = "/boards";
    this.#asking = null;
    this.#offer(null);
    this.#dialog.showModal();
    this.#fetch();
  }

  async #fetch() {
    if (this.#asking) return;
    const asking = (this.#asking = {});
    const byHand = document.activeElement === this.#more;
    byId("boards-error").textContent = "";
    this.#list.setAttribute("aria-busy", "true");
    try {
      const { boards, next } = await (await send("GET", this.#next)).json();
      if (asking !== this.#asking) return;
      this.#next = next;
      const items = boards.map((board) => this.#item(board));
      this.#list.append(...items);
      // The button may be gone; a keyboard goes on with the first of the new ones.
      if (byHand) items[0]?.firstChild.focus();
      this.#offer(next && "Show older boards");
    } catch (error) {
      if (asking !== this.#asking) return;
      byId("boards-error").textContent = `The boards could not be fetched. ${error.message}`;
      this.#offer("Try again");
    }
    this.#asking = null;
    this.#list.removeAttribute("aria-busy");
  }

  #offer(label) {
    this.#more.hidden = !label;
    this.#more.textContent = label ?? "";
  }

  #item({ id, title }) {
    const link = document.createElement("a");
    link.href = `/boards/${encodeURIComponent(id)}`;
    link.dir = "auto";
    link.textContent = title;
    if (link.pathname === this.#here) link.setAttribute("aria-current", "page");
    const item = document.createElement("li");
    item.append(link);
    return item;
  }

  async #make(event) {
    event.preventDefault();
    const title = this.#field.value.trim();
    if (!title || this.#making) {
      this.#field.focus();
      return;
    }
    this.#making = true;
    byId("boards-error").textContent = "";
    try {
      const { id } = await (await send("POST", "/boards", { title })).json();
      this.#field.value = "";
      location.assign(`/boards/${encodeURIComponent(id)}`);
    } catch (error) {
      byId("boards-error").textContent = `The board was not made. ${error.message}`;
    }
    this.#making = false;
  }
}
