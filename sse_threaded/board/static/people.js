// The people on the board: names that they have chosen in their pages. All texts are set with textContent.

const KEY = "sse-threaded-board-name";
const SHOWN = 8; // names; of others only the number is shown
const FORMER_MS = 20_000; // for so long the server may list a name that this page had before

const byId = (id) => document.getElementById(id);

// A browser can refuse storage; then the name is lost with the page.
function stored() {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function store(name) {
  try {
    if (name) localStorage.setItem(KEY, name);
    else localStorage.removeItem(KEY);
  } catch {
    // see above
  }
}

export class People {
  #list = byId("people-here");
  #button = byId("people-name");
  #form = byId("people-form");
  #field = byId("people-form").elements.name;
  #name = stored();
  #here = { people: [], count: 0 };
  #former = new Set(); // names that this page had a moment ago
  #rename;

  // rename(): the page's user has another name.
  constructor({ rename }) {
    this.#rename = rename;
    this.#button.addEventListener("click", () => this.#edit());
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#field.addEventListener("keydown", ({ key }) => key === "Escape" && this.#close());
    this.#form.addEventListener("focusout", ({ relatedTarget }) => this.#form.contains(relatedTarget) || this.#close());
    addEventListener("storage", ({ key }) => (key === KEY || key === null) && this.#take(stored()));
    this.show();
  }

  // The name of this page's user; empty for none.
  get name() {
    return this.#name;
  }

  // here: {people, count}; people is null if they are very many.
  show(here = this.#here) {
    this.#here = here;
    const names = (here.people ?? []).filter((name) => name === this.#name || !this.#former.has(name));
    const own = names.includes(this.#name);
    const others = names.filter((name) => name !== this.#name);
    const shown = own ? [this.#name, ...others] : others;
    const items = shown.slice(0, SHOWN).map((name) => {
      const item = document.createElement("li");
      item.dir = "auto";
      item.textContent = name;
      if (name === this.#name) item.className = "own";
      return item;
    });
    const more = (here.people ? names.length : here.count) - items.length;
    if (more > 0) {
      const item = document.createElement("li");
      item.className = "more";
      item.textContent = items.length ? `and ${more.toLocaleString()} more` : `${more.toLocaleString()} people`;
      items.push(item);
    }
    this.#list.replaceChildren(...items);
    this.#button.textContent = this.#name ? "Change my name" : "Show my name";
  }

  #edit() {
    this.#field.value = this.#name;
    this.#button.hidden = true;
    this.#form.hidden = false;
    this.#field.select();
  }

  #close() {
    if (this.#form.hidden) return;
    const had = this.#form.contains(document.activeElement);
    this.#form.hidden = true;
    this.#button.hidden = false;
    if (had) this.#button.focus();
  }

  #submit(event) {
    event.preventDefault();
    const name = this.#field.value.trim();
    this.#close();
    store(name);
    this.#take(name);
  }

  #take(name) {
    if (name === this.#name) return;
    const before = this.#name;
    this.#former.add(before);
    setTimeout(() => this.#former.delete(before) && this.show(), FORMER_MS);
    this.#name = name;
    this.show();
    this.#rename();
  }
}
