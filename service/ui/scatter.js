// Estimates against true redshifts: dots on a canvas under the axes. Drag or zoom to see a part; a card shows one galaxy.

import { Chart } from "./chart.js";

const SIZE = 480, NEAR = 14, CUT = 0.05; // CUT is |dz| of an outlier, as in photoz/metrics.py

export class Scatter {
  /**
   * @param parent holds a canvas and a card
   * @param actions `choose(row)`; `describe(row, card)` fills the card; `viewed(rows)` gets the galaxies in view
   */
  constructor(parent, actions) {
    Object.assign(this, actions, { parent, canvas: parent.querySelector("canvas"), card: parent.querySelector(".card") });
    this.chart = new Chart(parent, { width: SIZE, height: SIZE, x: "z_spec", y: "z_mean" });
    parent.append(this.card); // over the axes
    this.chart.onDrag(parent, (x, y) => this.zoom(x, y), { press: (event) => this.press(event) });
    parent.addEventListener("pointermove", (event) => this.rows && !this.chart.from && this.hover(this.nearest(event)));
    parent.addEventListener("pointerleave", () => this.hover(null));
    parent.addEventListener("dblclick", () => this.zoom());
    parent.addEventListener("keydown", (event) => this.type(event));
    parent.addEventListener("blur", () => this.hover(null));
    parent.addEventListener("wheel", (event) => (event.ctrlKey || event.metaKey) && (event.preventDefault(), this.scale(event.deltaY < 0 ? 0.8 : 1.25, this.chart.at(event))));
  }

  /** Show z_phot against z_spec of the galaxies in rows; `isFlagged` says of a row which colour it has. */
  show({ zSpec, zPhot, rows, zMax, isFlagged, chosen }) {
    Object.assign(this, { zSpec, zPhot, zMax, isFlagged, chosen });
    this.rows = Array.from(rows).sort((a, b) => zSpec[a] - zSpec[b]);
    this.most = Math.min(zMax, 1.04 * this.rows.reduce((most, row) => Math.max(most, zSpec[row], zPhot[row]), 0.01));
    this.zoom();
  }

  /** Show the galaxies between these redshifts, by default all. */
  zoom(x = [0, this.most], y = [0, this.most]) {
    if (Math.min(x[1] - x[0], y[1] - y[0]) < this.zMax / 200) return;
    this.ranges = [x, y];
    this.draw();
    this.viewed(this.inView);
  }

  /** Zoom, below 1 is in, around a point, by default the chosen galaxy or the middle. */
  scale(factor, centre) {
    const chosen = this.inView.includes(this.chosen) ? [this.zSpec[this.chosen], this.zPhot[this.chosen]] : null;
    const ends = this.ranges.map(([low, high], axis) => {
      const at = (centre ?? chosen)?.[axis] ?? (low + high) / 2;
      return [Math.max(0, at - (at - low) * factor), Math.min(this.most, at + (high - at) * factor)];
    });
    this.zoom(...ends);
  }

  pan(dx, dy) {
    this.zoom(...[dx, dy].map((step, axis) => {
      const [low, high] = this.ranges[axis], by = Math.max(-low, Math.min(this.most - high, (step * (high - low)) / 4));
      return [low + by, high + by];
    }));
  }

  place(row) {
    return [this.chart.x(this.zSpec[row]), this.chart.y(this.zPhot[row])];
  }

  draw() {
    const { chart, zMax } = this, [[x0, x1], [y0, y1]] = this.ranges;
    chart.begin("z_mean against z_spec", [x0, x1], [y0, y1]);
    chart.line([[0, 0], [zMax, zMax]]);
    for (const cut of [-CUT, CUT]) chart.line([[0, cut], [zMax, zMax + cut * (1 + zMax)]], "currentColor", { "stroke-dasharray": "5 4", opacity: 0.6 });
    this.inView = this.rows.filter((row) => this.zSpec[row] >= x0 && this.zSpec[row] <= x1 && this.zPhot[row] >= y0 && this.zPhot[row] <= y1);
    this.drawDots();
    this.marker = chart.add("circle", { r: 8, fill: "none", stroke: "var(--warn)", "stroke-width": 2.5 });
    this.mark(this.chosen);
  }

  drawDots() {
    const { canvas, inView } = this, scale = (window.devicePixelRatio || 1) * 1.4, context = canvas.getContext("2d"), style = getComputedStyle(canvas);
    canvas.width = canvas.height = SIZE * scale;
    context.scale(scale, scale);
    const opacity = Math.max(0.08, Math.min(0.8, 1000 / inView.length));
    const half = inView.length < 200 ? 3.5 : inView.length < 5000 ? 2 : 1.2;
    for (const flagged of [false, true]) {
      context.fillStyle = style.getPropertyValue(flagged ? "--plot-2" : "--plot-1");
      context.globalAlpha = flagged ? Math.sqrt(opacity) : opacity; // they are few
      for (const row of inView) {
        if (this.isFlagged(row) !== flagged) continue;
        const [x, y] = this.place(row);
        context.beginPath();
        context.arc(x, y, half, 0, 7);
        context.fill();
      }
    }
  }

  /** Mark the chosen galaxy. */
  mark(row) {
    this.chosen = row;
    const shown = this.inView.includes(row), [cx, cy] = shown ? this.place(row) : [-99, -99];
    this.marker.setAttribute("cx", cx);
    this.marker.setAttribute("cy", cy);
  }

  /** Show the card of a galaxy beside its dot. */
  hover(row) {
    const { card } = this;
    card.hidden = row === null;
    this.parent.classList.toggle("near", row !== null);
    if (row === null || row === this.hovered) return void (this.hovered = row);
    this.hovered = row;
    this.describe(row, card);
    const scale = this.parent.clientWidth / SIZE, [x, y] = this.place(row).map((at) => at * scale);
    card.style.left = `${x > this.parent.clientWidth / 2 ? x - card.offsetWidth - 14 : x + 14}px`;
    card.style.top = `${Math.max(0, Math.min(y - 20, this.parent.clientHeight - card.offsetHeight))}px`;
  }

  nearest(event) {
    const [zx, zy] = this.chart.at(event), [x, y] = [this.chart.x(zx), this.chart.y(zy)];
    let best = null, least = NEAR;
    for (const row of this.inView) {
      const [px, py] = this.place(row), distance = Math.hypot(px - x, py - y);
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  }

  press(event) {
    const row = this.nearest(event);
    if (row !== null) this.choose(row);
  }

  type(event) {
    const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, arrow = keys[event.key];
    const actions = { "+": () => this.scale(0.5), "-": () => this.scale(2), 0: () => this.zoom(), Escape: () => this.hover(null) };
    if (arrow && event.shiftKey) this.pan(...arrow);
    else if (arrow?.[0] && this.inView.length) this.step(arrow[0]);
    else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
  }

  /** Choose the next or the previous galaxy in view, by z_spec. */
  step(by) {
    const at = this.inView.indexOf(this.chosen), row = this.inView[Math.max(0, Math.min(this.inView.length - 1, at < 0 ? 0 : at + by))];
    this.choose(row);
    this.hover(row);
  }
}
