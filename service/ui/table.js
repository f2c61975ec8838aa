// A table of which only the rows in view are in the page, so that it may have any number.

import { make } from "./state.js";

const ROW = 44, MORE = 6; // height of a row in pixels, as in style.css, and rows beyond the view

export class GalaxyTable {
  /** @param columns {name, title, value(row), fill(cell, row), width}; `choose` and `pin` are told of rows */
  constructor(table, columns, { choose, pin }) {
    Object.assign(this, { table, columns, choose, pin, order: [], sorted: null, scroller: table.parentElement, body: table.tBodies[0] });
    this.head();
    this.scroller.addEventListener("scroll", () => this.later());
    new ResizeObserver(() => this.later()).observe(this.scroller);
    table.addEventListener("keydown", (event) => this.type(event));
  }

  head() {
    const row = this.table.tHead.insertRow();
    for (const column of this.columns) {
      const cell = make("th", { scope: "col", className: column.name });
      if (column.width) cell.style.width = column.width;
      if (column.value) {
        const button = make("button", { type: "button" }, column.title);
        button.addEventListener("click", () => this.sort(column));
        cell.append(button);
      } else cell.textContent = column.title;
      column.cell = cell;
      row.append(cell);
    }
  }

  /** Show rows, in the order of the file unless a column is chosen. */
  show(rows, chosen) {
    this.rows = rows;
    this.chosen = chosen;
    this.arrange();
  }

  sort(column) {
    const down = this.sorted?.column === column && !this.sorted.down;
    this.sorted = { column, down };
    for (const other of this.columns) other.cell.removeAttribute("aria-sort");
    column.cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    this.arrange();
  }

  arrange() {
    this.order = Array.from(this.rows);
    if (this.sorted) {
      const { column, down } = this.sorted, sign = down ? -1 : 1;
      const key = new Map(this.order.map((row) => [row, column.value(row)]));
      const unknown = (value) => value === undefined || Number.isNaN(value);
      this.order.sort((a, b) => {
        const [x, y] = [key.get(a), key.get(b)];
        if (unknown(x) || unknown(y)) return unknown(x) - unknown(y); // last, whichever way
        return sign * (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y);
      });
    }
    this.table.setAttribute("aria-rowcount", this.order.length + 1);
    this.draw();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      if (this.scroller.clientHeight) this.draw();
    });
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - MORE);
    const last = Math.min(this.order.length, first + Math.ceil(this.scroller.clientHeight / ROW) + 2 * MORE);
    const focused = this.body.contains(document.activeElement);
    const rows = [this.space(first)];
    for (let at = first; at < last; at += 1) rows.push(this.row(at));
    rows.push(this.space(this.order.length - last));
    this.body.replaceChildren(...rows);
    if (focused) this.body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
  }

  space(n) {
    const row = make("tr", { hidden: !n });
    row.setAttribute("aria-hidden", "true");
    Object.assign(row.insertCell(), { colSpan: this.columns.length, className: "space" }).style.height = `${n * ROW}px`;
    return row;
  }

  row(at) {
    const row = make("tr"), galaxy = this.order[at];
    row.setAttribute("aria-rowindex", at + 2);
    row.setAttribute("aria-selected", galaxy === this.chosen);
    row.tabIndex = galaxy === this.chosen || (at === 0 && !this.order.includes(this.chosen)) ? 0 : -1;
    for (const column of this.columns) {
      const cell = row.insertCell();
      if (column.fill) column.fill(cell, galaxy);
      else cell.textContent = column.value(galaxy);
      cell.className = column.name;
    }
    row.addEventListener("click", () => this.choose(galaxy));
    return row;
  }

  /** Bring a galaxy into view. */
  reveal(galaxy) {
    this.chosen = galaxy;
    const at = this.order.indexOf(galaxy), top = at * ROW, view = this.scroller.clientHeight - ROW;
    if (at < 0) return;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    else if (top > this.scroller.scrollTop + view - ROW) this.scroller.scrollTop = top - view + ROW;
    this.draw();
  }

  type(event) {
    const page = Math.floor(this.scroller.clientHeight / ROW) - 1, at = this.order.indexOf(this.chosen);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.target.closest("thead") || !this.order.length) return;
    if (event.key === " " || event.key === "Enter") this.pin(this.chosen ?? this.order[0]);
    else if (event.key in steps) {
      const to = at < 0 ? 0 : Math.max(0, Math.min(this.order.length - 1, at + steps[event.key]));
      this.choose(this.order[to]);
      this.body.querySelector("[tabindex='0']")?.focus({ preventScroll: true });
    } else return;
    event.preventDefault();
  }
}
