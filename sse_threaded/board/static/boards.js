// The list of boards: choose a board, or create one. It is fetched when it is opened, and not kept up to date.
// All texts are set with textContent.

import { send } from "./send.js";

const byId = (id) => document.getElementById(id);

export class Boards {
  #dialog = byId("boards");
  #list = byId("boards-list");
  #more = byId("boards-more");
  #field = byId("boards-new").elements.title;
  #here; // the path of the board on this page
  #next = "/boards"; // the URL of the next part of the list; null at the end
  #asking = null; // the current request; an answer to another request belongs to a list that was closed
  #making = false;

  constructor(here) {
    this.#here = here;
    byId("boards-open").addEventListener("click", () => this.#open());
    byId("boards-close").addEventListener("click", () => this.#dialog.close());
    byId("boards-new").addEventListener("submit", (event) => this.#make(event));
    this.#more.addEventListener("click", () => this.#fetch());
    this.#dialog.addEventListener("pointerdown", (event) => this.#isBeside(event) && this.#dialog.close());
    // Otherwise a page from the browser's back/forward cache would show an old list.
    addEventListener("pagehide", () => this.#dialog.close());
  }

  // A click beside the box is a click on the dialog itself.
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
      // The button may be hidden now, so move the focus to the first new board.
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
