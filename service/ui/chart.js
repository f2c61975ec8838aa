// A plot as an SVG: axes, and marks in the coordinates of the data. Colours are variables of style.css.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 60, RIGHT = 12, TOP = 12, BOTTOM = 42;

export function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Round numbers between two ends, about five. */
function ticks(low, high) {
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push((value || 0).toFixed(digits));
  return found;
}

/** How many values are in each of n bins from 0 to `high`; what has no value is in none. */
export function countsOf(values, n, high) {
  const counts = new Array(n).fill(0);
  for (const value of values) if (value >= 0) counts[Math.min(n - 1, Math.floor((value / high) * n))] += 1;
  return counts;
}

let charts = 0;

export class Chart {
  constructor(parent, { width = 400, height = 270, x, y }) {
    Object.assign(this, { width, height, labels: { x, y }, clip: `clip-${(charts += 1)}` });
    this.svg = element("svg", { role: "img", class: "chart", "font-size": 13, "font-family": "system-ui, sans-serif" });
    parent.append(this.svg);
  }

  /** Remove all marks, and draw axes of these ranges. */
  begin(title, [x0, x1], [y0, y1]) {
    const { svg, width, height } = this, right = width - RIGHT, bottom = height - BOTTOM, box = { x: LEFT, y: TOP, width: right - LEFT, height: bottom - TOP };
    this.ranges = [[x0, x1], [y0, y1]];
    this.x = (value) => LEFT + ((value - x0) / (x1 - x0)) * box.width;
    this.y = (value) => bottom - ((value - y0) / (y1 - y0)) * box.height;
    const clip = element("clipPath", { id: this.clip });
    clip.append(element("rect", box));
    this.inside = element("g", { "clip-path": `url(#${this.clip})` });
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(element("title", {}, title), clip, this.inside);
    let ticked = "";
    for (const text of ticks(x0, x1)) {
      ticked += `M${this.x(text)} ${bottom}v5`;
      this.text(text, this.x(text), bottom + 19);
    }
    for (const text of ticks(y0, y1)) {
      ticked += `M${LEFT} ${this.y(text)}h-5`;
      this.text(y1 < 10_000 ? text : Number(text).toLocaleString("en", { notation: "compact" }), LEFT - 8, this.y(text) + 4, { "text-anchor": "end" });
    }
    this.brush = this.add("rect", { fill: "currentColor", opacity: 0.15 });
    svg.append(element("path", { d: `M${LEFT} ${TOP}V${bottom}H${right}${ticked}`, fill: "none", stroke: "currentColor" }));
    this.text(this.labels.x, (LEFT + right) / 2, height - 6);
    this.text(this.labels.y, 0, 0, { transform: `translate(13 ${(TOP + bottom) / 2}) rotate(-90)` });
  }

  text(text, x, y, attributes = {}) {
    this.svg.append(element("text", { x, y, "text-anchor": "middle", fill: "currentColor", ...attributes }, text));
  }

  /** The coordinates of the data under the pointer. */
  at({ clientX, clientY }) {
    const box = this.svg.getBoundingClientRect(), [[x0, x1], [y0, y1]] = this.ranges;
    const x = ((clientX - box.left) / box.width) * this.width, y = ((clientY - box.top) / box.height) * this.height;
    return [x0 + ((x - LEFT) / (this.width - LEFT - RIGHT)) * (x1 - x0), y0 + ((this.height - BOTTOM - y) / (this.height - TOP - BOTTOM)) * (y1 - y0)];
  }

  /**
   * Let a part be dragged out on `target`: `select(x, y)` gets [low, high] of each axis, `press(event)` what moves nowhere.
   * With `inX` any height counts.
   */
  onDrag(target, select, { press = () => {}, inX = false } = {}) {
    const parts = (event) => this.at(event).map((to, axis) => {
      const [low, high] = this.ranges[axis], ends = [Math.min(this.from[axis], to), Math.max(this.from[axis], to)];
      return axis && inX ? [low, high] : ends.map((end) => Math.max(low, Math.min(high, end)));
    });
    target.addEventListener("pointerdown", (event) => event.button === 0 && this.ranges && (this.from = this.at(event)));
    target.addEventListener("pointermove", (event) => this.from && this.shade(...parts(event)));
    window.addEventListener("pointerup", (event) => {
      if (!this.from) return;
      const found = parts(event);
      this.from = null;
      this.shade();
      if (found.every(([low, high], axis) => high - low > (this.ranges[axis][1] - this.ranges[axis][0]) / 50)) select(...found);
      else press(event);
    });
    window.addEventListener("pointercancel", () => (this.from = null)); // a touch that scrolls
  }

  /** Shade a part of the plot, or none. */
  shade([x0, x1] = [0, 0], [y0, y1] = [0, 0]) {
    const box = { x: this.x(x0), y: this.y(y1), width: this.x(x1) - this.x(x0), height: this.y(y0) - this.y(y1) };
    for (const [name, value] of Object.entries(box)) this.brush.setAttribute(name, value);
  }

  add(name, attributes) {
    const made = element(name, attributes);
    this.inside.append(made);
    return made;
  }

  path(points) {
    return points.map(([x, y], at) => `${at ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join("");
  }

  line(points, stroke = "currentColor", attributes = {}) {
    return this.add("path", { d: this.path(points), fill: "none", stroke, "stroke-width": 1.5, ...attributes });
  }

  /** The area between two lines through [x, low, high]. */
  band(points, fill, opacity) {
    return this.add("path", { d: this.path([...points.map(([x, low]) => [x, low]), ...points.map(([x, , high]) => [x, high]).reverse()]), fill, opacity });
  }

  /** A histogram between edges at equal distances. */
  steps(values, low, width, stroke) {
    return this.line(values.flatMap((value, bin) => [[low + bin * width, value], [low + (bin + 1) * width, value]]), stroke);
  }

  /** Dots, in a few paths so that they darken where they are many. */
  dots(points, stroke, opacity) {
    for (let first = 0; first < 8; first += 1) {
      const d = points.filter((_, at) => at % 8 === first).map(([x, y]) => `M${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}h0`).join("");
      this.add("path", { d, stroke, opacity, "stroke-width": 4, "stroke-linecap": "round" });
    }
  }

  /** Names and attributes of lines, at the top on the right. */
  legend(lines) {
    lines.forEach(([name, attributes], number) => {
      const y = TOP + 14 + 18 * number, right = this.width - RIGHT - 8;
      this.svg.append(element("line", { x1: right - 26, x2: right, y1: y - 4, y2: y - 4, "stroke-width": 1.5, ...attributes }));
      this.text(name, right - 32, y, { "text-anchor": "end" });
    });
  }
}
