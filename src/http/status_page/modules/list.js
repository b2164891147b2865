// The list shows only the rows that are in sight, so that its cost does not depend on their number.

import { setAttribute } from "./dom.js";
import { makeRow, updateRow } from "./rows.js";

const MARGIN = 6;
// Printed pages have all rows up to this number.
const PRINTED = 2000;

export class List {
  #scroller;
  #body;
  #items = [];
  #places = new Map();
  #rows = new Map();
  // The key of the row of the detail view.
  marked = null;
  #active = null;
  #isPrinting = false;
  #act;

  // `act` is called with an item when it is opened, and with `true` or `false` to expand or collapse it.
  constructor(scroller, body, act) {
    this.#scroller = scroller;
    this.#body = body;
    this.#act = act;
    scroller.addEventListener("scroll", () => this.render(), { passive: true });
    new ResizeObserver(() => this.render()).observe(scroller);
    scroller.addEventListener("keydown", (event) => this.#onKey(event));
    body.addEventListener("click", (event) => this.#onClick(event));
    body.addEventListener("focusin", (event) => this.#onFocus(event));
    addEventListener("beforeprint", () => this.#print(true));
    addEventListener("afterprint", () => this.#print(false));
  }

  get items() {
    return this.#items;
  }

  setItems(items) {
    this.#items = items;
    this.#places.clear();
    items.forEach((item, index) => this.#places.set(item.key, index));
    if (!this.#places.has(this.#active)) this.#active = items[0]?.key ?? null;
    this.render();
  }

  #height() {
    return parseFloat(getComputedStyle(this.#body).getPropertyValue("--row-height")) || 40;
  }

  #print(isPrinting) {
    this.#isPrinting = isPrinting;
    this.render();
  }

  render() {
    const height = this.#height();
    const items = this.#items;
    const inSight = Math.ceil(this.#scroller.clientHeight / height);
    const top = Math.floor(Math.max(0, this.#scroller.scrollTop) / height);
    let from = Math.max(0, Math.min(top, items.length - inSight) - MARGIN);
    let to = Math.min(items.length, from + inSight + 2 * MARGIN);
    if (this.#isPrinting) [from, to] = [0, Math.min(items.length, PRINTED)];
    this.#body.style.height = `${items.length * height}px`;
    const wanted = [];
    for (let index = from; index < to; index += 1) wanted.push(index);
    // The row with the focus stays, or the focus would be lost.
    const active = this.#places.get(this.#active);
    if (active !== undefined && (active < from || active >= to)) wanted[active < from ? "unshift" : "push"](active);
    this.#show(wanted, height);
  }

  #show(wanted, height) {
    const keep = new Set(wanted.map((index) => this.#items[index].key));
    // Rows out of sight are used again: that is cheaper than new ones.
    const free = { watch: [], group: [], fold: [], heading: [] };
    for (const [key, row] of this.#rows) {
      if (keep.has(key)) continue;
      row.root.remove();
      free[row.kind].push(row);
      this.#rows.delete(key);
    }
    let place = this.#body.firstElementChild;
    for (const index of wanted) {
      const item = this.#items[index];
      let row = this.#rows.get(item.key);
      if (!row) {
        row = free[item.kind].pop() ?? makeRow(item);
        row.root.dataset.key = item.key;
        this.#rows.set(item.key, row);
      }
      updateRow(row, item, index, item.key === this.#active);
      setAttribute(row.root, "aria-selected", item.key === this.marked ? "true" : null);
      const shift = `translateY(${index * height}px)`;
      if (row.root.style.transform !== shift) row.root.style.transform = shift;
      if (row.root === place) place = place.nextElementSibling;
      else this.#body.insertBefore(row.root, place);
    }
  }

  has(key) {
    return this.#places.has(key);
  }

  focus(key = this.#active) {
    const index = this.#places.get(key);
    if (index === undefined) return false;
    this.#active = key;
    this.#reveal(index);
    this.#rows.get(key)?.root.focus({ preventScroll: true });
    return true;
  }

  #reveal(index) {
    const height = this.#height();
    const [start, end] = [index * height, (index + 1) * height];
    const scroller = this.#scroller;
    const head = scroller.querySelector(".columns")?.offsetHeight ?? 0;
    if (start < scroller.scrollTop) scroller.scrollTop = start;
    else if (end > scroller.scrollTop + scroller.clientHeight - head) scroller.scrollTop = end - scroller.clientHeight + head;
    this.render();
  }

  #itemOf(target) {
    const key = target.closest?.(".row")?.dataset.key;
    return key === undefined ? undefined : this.#items[this.#places.get(key)];
  }

  #onFocus(event) {
    const item = this.#itemOf(event.target);
    if (!item || item.key === this.#active) return;
    this.#active = item.key;
    this.render();
  }

  #onClick(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const item = this.#itemOf(event.target);
    if (!item || event.target.closest("button")) return;
    event.preventDefault();
    // The end of a selection is not a click.
    if (!getSelection().isCollapsed && this.#body.contains(getSelection().anchorNode)) return;
    this.#active = item.key;
    this.#act(item);
  }

  #onKey(event) {
    const item = this.#itemOf(event.target);
    if (event.altKey || event.ctrlKey || event.metaKey || (!item && event.target !== this.#scroller)) return;
    const index = item ? this.#places.get(item.key) : -1;
    const page = Math.max(1, Math.floor(this.#scroller.clientHeight / this.#height()) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.#items.length, End: this.#items.length };
    const isControl = event.target.closest("a, button") !== null;
    if (event.key in steps) {
      const next = Math.min(this.#items.length - 1, Math.max(0, index + steps[event.key]));
      if (this.#items[next]) this.focus(this.#items[next].key);
    } else if (!item || (isControl && event.key !== "ArrowLeft" && event.key !== "ArrowRight")) return;
    else if (event.key === "Enter" || event.key === " ") this.#act(item);
    else if (event.key === "ArrowRight" && item.kind !== "watch") this.#act(item, true);
    else if (event.key === "ArrowLeft") this.#collapse(item, index);
    else return;
    event.preventDefault();
  }

  #collapse(item, index) {
    if (item.isOpen) {
      this.#act(item, false);
      return;
    }
    const parent = this.#items.slice(0, index).findLast((other) => other.level < item.level);
    if (parent) this.focus(parent.key);
  }
}
