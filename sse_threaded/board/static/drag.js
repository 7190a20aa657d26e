// Drags a card with a mouse or pen, with pointer events. An image of the card follows the pointer, and the list under
// it makes room. A finger scrolls instead; fingers and the keyboard use the buttons of the card.

const THRESHOLD = 6; // pixels; a shorter move is a click
const EDGE = 48; // pixels from the upper and lower edge of the window, where the page scrolls

// Calls drop(card, lane) when a card is dropped on another list.
export function followDrags(board, drop) {
  board.addEventListener("pointerdown", (down) => {
    const card = down.target.closest(".card");
    const onButton = down.target.closest(".card-foot button, textarea");
    if (!card || onButton || down.button !== 0 || down.pointerType === "touch") return;
    new Drag(card, down, drop);
  });
}

class Drag {
  #card;
  #drop;
  #start;
  #image = null;
  #slot = null;
  #lane = null;
  #at = { x: 0, y: 0 }; // the position of the pointer
  #scrolling = null;
  #listening = new AbortController();

  constructor(card, down, drop) {
    this.#card = card;
    this.#drop = drop;
    this.#start = down;
    const { signal } = this.#listening;
    addEventListener("pointermove", (event) => this.#moved(event), { signal });
    const ours = ({ pointerId }) => pointerId === down.pointerId;
    addEventListener("pointerup", (event) => ours(event) && this.#ended(true), { signal });
    addEventListener("pointercancel", (event) => ours(event) && this.#ended(false), { signal });
    addEventListener("blur", () => this.#ended(false), { signal });
    addEventListener("selectstart", (event) => event.preventDefault(), { signal });
    addEventListener("keydown", (event) => event.key === "Escape" && this.#ended(false), { signal });
  }

  #moved({ clientX, clientY, pointerId, buttons }) {
    if (pointerId !== this.#start.pointerId) return;
    if (!buttons) { // the button was released outside the page
      this.#ended(false);
      return;
    }
    const x = clientX - this.#start.clientX;
    const y = clientY - this.#start.clientY;
    if (!this.#image && Math.hypot(x, y) < THRESHOLD) return;
    if (!this.#image) this.#begin();
    this.#image.style.transform = `translate(${x}px, ${y}px) rotate(${Math.max(-3, Math.min(3, x / 60))}deg)`;
    this.#at = { x: clientX, y: clientY };
    this.#look();
  }

  #scroll() {
    const { y } = this.#at;
    const far = y < EDGE ? y - EDGE : Math.max(0, y - innerHeight + EDGE);
    if (far) scrollBy({ top: far / 3, behavior: "instant" });
    this.#look(); // the mouse wheel may have scrolled too
  }

  #look() {
    const lane = document.elementFromPoint(this.#at.x, this.#at.y)?.closest(".lane") ?? null;
    if (lane === this.#lane) return;
    this.#lane = lane;
    if (lane && lane !== this.#card.closest(".lane")) lane.querySelector(".cards").after(this.#slot);
    else this.#slot.remove();
  }

  #begin() {
    const { left, top, width, height } = this.#card.getBoundingClientRect();
    this.#image = this.#card.cloneNode(true);
    this.#image.classList.add("dragged");
    this.#image.setAttribute("aria-hidden", "true");
    delete this.#image.dataset.taskId;
    Object.assign(this.#image.style, { left: `${left}px`, top: `${top}px`, width: `${width}px` });
    this.#slot = document.createElement("div");
    this.#slot.className = "slot";
    this.#slot.style.height = `${height}px`;
    document.body.append(this.#image);
    document.body.classList.add("dragging");
    this.#card.classList.add("lifted");
    this.#scrolling = setInterval(() => this.#scroll(), 16);
  }

  #ended(letGo) {
    this.#listening.abort();
    if (!this.#image) return;
    clearInterval(this.#scrolling);
    this.#image.remove();
    this.#slot.remove();
    document.body.classList.remove("dragging");
    this.#card.classList.remove("lifted");
    // The click that ends a drag must not count as a click on the title.
    const swallow = (event) => [event.stopPropagation(), event.preventDefault()];
    addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => removeEventListener("click", swallow, { capture: true }));
    const there = this.#lane && this.#card.isConnected && this.#lane !== this.#card.closest(".lane");
    if (letGo && there) this.#drop(this.#card, this.#lane);
  }
}
