// The lists and cards: what the user sees and does. Every text of a task is set with textContent, value or
// setAttribute, never as HTML. Elements are kept by id and only moved. So the focus, an unfinished title and an
// animation survive the changes of other users.

import { followDrags } from "./drag.js";

// The server limits characters; the browser counts UTF-16 units, which may be more.
const MOST_UNITS = 200;

const still = matchMedia("(prefers-reduced-motion: reduce)");
const byId = (id) => document.getElementById(id);

export class View {
  #do; // the actions: add, rename, move, remove; and orphaned, for a title whose card was deleted
  #board = byId("board");
  #lanes = new Map();
  #cards = new Map();
  #lists = [];
  #hit = null; // the card of the first click of a series
  #placing = false; // while cards are moved, a lost focus means nothing

  constructor(actions) {
    this.#do = actions;
    this.#board.addEventListener("submit", (event) => this.#submitted(event));
    this.#board.addEventListener("click", (event) => this.#clicked(event));
    this.#board.addEventListener("keydown", (event) => this.#pressed(event));
    // The buttons of a card are in the tab order only while the focus is in the card. Otherwise each card would have
    // four tab stops. A pointer and a screen reader can always use them.
    this.#board.addEventListener("focusin", (event) => reach(event.target.closest(".card"), 0));
    this.#board.addEventListener("focusout", (event) => {
      const card = event.target.closest(".card");
      if (!card?.contains(event.relatedTarget)) reach(card, -1);
    });
    // The server has rendered the page with lists and cards.
    for (const lane of this.#board.querySelectorAll(".lane")) this.#lanes.set(lane.dataset.listId, lane);
    for (const card of this.#board.querySelectorAll(".card")) this.#cards.set(card.dataset.taskId, card);
    followDrags(this.#board, (card, lane) => actions.move(card.dataset.taskId, lane.dataset.listId));
  }

  render({ id, title, lists, tasks, pending }) {
    const focused = this.#board.contains(document.activeElement) ? document.activeElement : null;
    const places = this.#places();
    const lane = focused?.closest(".lane");
    const beside = neighbour(focused?.closest(".card"));
    this.#placing = true;
    byId("title").textContent = title;
    byId("board-id").textContent = id;
    document.title = title;
    this.#renderLists(lists);
    const known = new Set(tasks.map((task) => task.id));
    for (const [id, card] of this.#cards) {
      if (known.has(id)) continue;
      this.#rescue(card);
      card.remove();
      this.#cards.delete(id);
    }
    for (const { id } of lists) this.#renderCards(id, tasks.filter((task) => task.listId === id));
    this.#renderPending(pending);
    this.#renderShares(lists, tasks);
    byId("waiting").hidden = true;
    this.#glide(places);
    if (focused?.isConnected) this.#refocus(focused, lane);
    else if (focused) {
      // The user may still be typing, and the keys must not change another card.
      const card = focused.matches("textarea") ? null : beside;
      const next = card?.isConnected ? card.querySelector(".card-title") : lane?.querySelector("h2");
      (next ?? this.#board).focus();
    }
    this.#placing = false;
  }

  gone(text) {
    if (this.#board.contains(document.activeElement)) this.#board.focus();
    const link = document.createElement("a");
    link.href = "/boards/board-1";
    link.textContent = "Go to the first board";
    byId("waiting").hidden = false;
    byId("waiting").replaceChildren(text, " ", link);
    for (const lane of this.#lanes.values()) lane.remove();
  }

  reveal(id) {
    this.#cards.get(id)?.scrollIntoView({ block: "nearest", behavior: still.matches ? "auto" : "smooth" });
  }

  // Put an unsaved title back into the field of the list. False: the user is writing another title there.
  returnTitle(listId, title) {
    const field = this.#lanes.get(listId)?.querySelector(".add input");
    if (!field || field.value) return false;
    field.value = title;
    return true;
  }

  edit(id, text) {
    const card = this.#cards.get(id);
    if (!card || card.querySelector("textarea")) return;
    const button = card.querySelector(".card-title");
    const old = button.textContent;
    const field = document.createElement("textarea");
    field.rows = 1;
    field.maxLength = MOST_UNITS;
    field.dir = "auto";
    field.defaultValue = old;
    field.value = text ?? old;
    field.setAttribute("aria-label", `New title of “${old}”`);
    button.hidden = true;
    button.after(field);
    const fit = () => {
      field.style.height = "auto";
      field.style.height = `${field.scrollHeight}px`;
    };
    let left = false;
    const leave = (save) => {
      if (left || this.#placing) return;
      left = true; // removing the field causes another blur event
      const title = written(field);
      const hadFocus = document.activeElement === field;
      button.hidden = false;
      field.remove();
      if (hadFocus) button.focus();
      // An unchanged title must not overwrite the change of another user.
      if (save && title && title !== old) this.#do.rename(id, title);
    };
    field.addEventListener("input", fit);
    // When the whole window loses the focus, the field stays the active element, and the user may go on writing.
    field.addEventListener("blur", () => document.activeElement !== field && leave(true));
    field.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.isComposing) return;
      if (event.key === "Enter" || event.key === "Escape") {
        event.preventDefault();
        leave(event.key === "Enter");
      }
    });
    fit();
    field.focus();
    field.select();
  }

  #rescue(card) {
    const field = card.querySelector("textarea");
    const title = field && written(field);
    if (title && title !== field.defaultValue) this.#do.orphaned(card.closest(".lane").dataset.listId, title);
  }

  #renderLists(lists) {
    this.#lists = lists;
    for (const { id, title } of lists) {
      let lane = this.#lanes.get(id);
      if (!lane) {
        lane = byId("list-template").content.firstElementChild.cloneNode(true);
        lane.dataset.listId = id;
        lane.id = id;
        lane.querySelector("h2").id = `${id}-title`;
        lane.setAttribute("aria-labelledby", `${id}-title`);
        this.#lanes.set(id, lane);
      }
      lane.querySelector(".lane-title").textContent = title;
      lane.querySelector(".add input").setAttribute("aria-label", `New task in ${title}`);
      lane.querySelector(".add button").setAttribute("aria-label", `Add to ${title}`);
      if (!lane.isConnected) this.#board.append(lane);
    }
  }

  #renderCards(listId, tasks) {
    const lane = this.#lanes.get(listId);
    const cards = lane.querySelector(".cards");
    let next = cards.firstElementChild;
    for (const task of tasks) {
      const card = this.#card(task);
      if (card === next) next = next.nextElementSibling;
      // In browsers that have it, moveBefore keeps even the focus and an unfinished composition.
      else if (card.isConnected && cards.moveBefore) cards.moveBefore(card, next);
      else cards.insertBefore(card, next);
    }
    lane.querySelector(".count").textContent = tasks.length;
    lane.querySelector("h2 .spoken").textContent = tasks.length === 1 ? " task" : " tasks";
  }

  #renderPending(tasks) {
    for (const [id, lane] of this.#lanes) {
      for (const old of lane.querySelectorAll(".pending")) old.remove();
      for (const { title } of tasks.filter((task) => task.listId === id)) {
        const line = document.createElement("p");
        line.className = "pending";
        line.dir = "auto";
        line.textContent = title;
        lane.querySelector(".add").before(line);
      }
    }
  }

  #card(task) {
    let card = this.#cards.get(task.id);
    if (!card) {
      card = byId("card-template").content.firstElementChild.cloneNode(true);
      card.dataset.taskId = task.id;
      card.querySelector(".card-id").textContent = task.id;
      this.#cards.set(task.id, card);
    }
    const { title } = task;
    const at = this.#lists.findIndex((list) => list.id === task.listId);
    const button = card.querySelector(".card-title");
    if (button.textContent !== title) button.textContent = title;
    for (const [action, list] of [["move-left", this.#lists[at - 1]], ["move-right", this.#lists[at + 1]]]) {
      const move = card.querySelector(`[data-action=${action}]`);
      move.disabled = !list;
      move.setAttribute("aria-label", list ? `Move “${title}” to ${list.title}` : "No list on this side");
      move.title = list ? `Move to ${list.title}` : "";
    }
    card.querySelector("[data-action=delete]").setAttribute("aria-label", `Delete “${title}”`);
    card.querySelector("[data-action=delete]").title = "Delete";
    return card;
  }

  // The bar with the share of each list: an overview of the board, and links to the lists for phones.
  #renderShares(lists, tasks) {
    const nav = byId("shares");
    for (const { id, title } of lists) {
      let link = nav.querySelector(`[data-list-id="${CSS.escape(id)}"]`);
      if (!link?.style.flexGrow) {
        // A link of the server's has no width yet. A new one gets it at once, and does not slide.
        link?.remove();
        link = document.createElement("a");
        link.href = `#${id}`;
        link.dataset.listId = id;
        nav.append(link);
      }
      const count = tasks.filter((task) => task.listId === id).length;
      link.textContent = `${title} ${count}`;
      link.style.flexGrow = tasks.length ? count : 1;
    }
  }

  #places() {
    const all = this.#cards.size <= 100 && !still.matches ? [...this.#cards.values()] : [];
    return new Map(all.map((card) => [card, card.getBoundingClientRect()]));
  }

  // Cards that have a new place slide to it; new cards light up.
  #glide(before) {
    if (!before.size) return;
    for (const card of this.#cards.values()) {
      const old = before.get(card);
      if (!old) {
        card.classList.add("arrived");
        card.addEventListener("animationend", () => card.classList.remove("arrived"), { once: true });
        continue;
      }
      const { left, top } = card.getBoundingClientRect();
      if (left === old.left && top === old.top) continue;
      const from = `translate(${old.left - left}px, ${old.top - top}px)`;
      const easing = "cubic-bezier(0.2, 0.8, 0.2, 1)";
      card.animate([{ transform: from }, { transform: "none" }], { duration: 260, easing });
    }
  }

  #refocus(focused, lane) {
    const target = focused.disabled ? focused.closest(".card").querySelector(".card-title") : focused;
    if (document.activeElement !== target) target.focus({ preventScroll: true });
    if (target.closest(".lane") !== lane) target.closest(".card").scrollIntoView({ block: "nearest" });
  }

  #submitted(event) {
    event.preventDefault();
    const field = event.target.elements.title;
    const title = field.value.trim();
    field.value = "";
    if (title) this.#do.add(field.closest(".lane").dataset.listId, title);
    field.focus();
  }

  #clicked(event) {
    const card = event.target.closest(".card");
    const action = event.target.closest("[data-action]")?.dataset.action;
    if (!card) return;
    // The second click of a double click is meant for the card of the first, not for the card that has taken its place.
    const strays = event.detail > 1 && card !== this.#hit;
    if (event.detail < 2) this.#hit = card;
    if (strays) return;
    const id = card.dataset.taskId;
    if (action === "rename") this.edit(id);
    if (action === "delete") this.#do.remove(id);
    if (action === "move-left") this.#move(card, -1);
    if (action === "move-right") this.#move(card, 1);
  }

  #pressed(event) {
    const card = event.target.closest(".card");
    if (!card || event.ctrlKey || event.altKey || event.metaKey) return;
    const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (side && event.shiftKey) this.#move(card, side);
    else if (side) this.#go(this.#beyond(card, side), place(card));
    else if (step && !event.shiftKey) this.#go(card.parentElement.children, place(card) + step);
    // A key that is held down would also delete the next card.
    else if (event.key === "Delete" && !event.repeat) this.#do.remove(card.dataset.taskId);
    else if (event.key === "F2") this.edit(card.dataset.taskId);
    else return;
    event.preventDefault();
  }

  #lane(card, side) {
    const at = this.#lists.findIndex((list) => list.id === card.closest(".lane").dataset.listId);
    return this.#lanes.get(this.#lists[at + side]?.id);
  }

  // Return the cards of the next non-empty list on that side.
  #beyond(card, side) {
    const lists = side > 0 ? this.#lists : [...this.#lists].reverse();
    const at = lists.findIndex((list) => list.id === card.closest(".lane").dataset.listId);
    const cards = lists.slice(at + 1).map((list) => this.#lanes.get(list.id).querySelectorAll(".card"));
    return cards.find((some) => some.length);
  }

  #move(card, side) {
    const lane = this.#lane(card, side);
    if (lane) this.#do.move(card.dataset.taskId, lane.dataset.listId);
  }

  #go(cards, index) {
    if (!cards?.length || index < 0) return;
    cards[Math.min(index, cards.length - 1)].querySelector(".card-title").focus();
  }
}

function written(field) {
  return field.value.replace(/\s+/g, " ").trim();
}

function reach(card, tabIndex) {
  for (const one of card?.querySelectorAll(".card-foot button") ?? []) one.tabIndex = tabIndex;
}

function neighbour(card) {
  return card?.nextElementSibling ?? card?.previousElementSibling;
}

function place(card) {
  return [...card.parentElement.children].indexOf(card);
}
