// Dragging a card with a mouse or pen, by pointer events: the card's image follows the pointer and the list
// under it makes room. Fingers scroll; they, and the keyboard, have the card's buttons.

const THRESHOLD = 6; // pixels; less is a click

// Calls drop(card, lane) when a card is let go over another list.
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
  #listening = new AbortController();

  constructor(card, down, drop) {
    this.#card = card;
    this.#drop = drop;
    this.#start = down;
    const { signal } = this.#listening;
    addEventListener("pointermove", (event) => this.#moved(event), { signal });
    addEventListener("pointerup", () => this.#ended(true), { signal });
    addEventListener("pointercancel", () => this.#ended(false), { signal });
    addEventListener("blur", () => this.#ended(false), { signal });
    addEventListener("selectstart", (event) => event.preventDefault(), { signal });
    addEventListener("keydown", (event) => event.key === "Escape" && this.#ended(false), { signal });
  }

  #moved({ clientX, clientY, pointerId }) {
    if (pointerId !== this.#start.pointerId) return;
    const x = clientX - this.#start.clientX;
    const y = clientY - this.#start.clientY;
    if (!this.#image && Math.hypot(x, y) < THRESHOLD) return;
    if (!this.#image) this.#begin();
    this.#image.style.transform = `translate(${x}px, ${y}px) rotate(${Math.max(-3, Math.min(3, x / 60))}deg)`;
    const lane = document.elementFromPoint(clientX, clientY)?.closest(".lane") ?? null;
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
  }

  #ended(letGo) {
    this.#listening.abort();
    if (!this.#image) return;
    this.#image.remove();
    this.#slot.remove();
    document.body.classList.remove("dragging");
    this.#card.classList.remove("lifted");
    // The click that ends a drag is not one on the title.
    const swallow = (event) => [event.stopPropagation(), event.preventDefault()];
    addEventListener("click", swallow, { capture: true, once: true });
    setTimeout(() => removeEventListener("click", swallow, { capture: true }));
    const there = this.#lane && this.#card.isConnected && this.#lane !== this.#card.closest(".lane");
    if (letGo && there) this.#drop(this.#card, this.#lane);
  }
}
