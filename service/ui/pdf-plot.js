// p(z) of one or several galaxies, with intervals, zoom and the value under the pointer.

import { Chart, element } from "./chart.js";
import { make } from "./state.js";

const COLOURS = [1, 2, 3, 4, 5, 6].map((number) => `var(--plot-${number})`);
const DASHES = { mean: "7 4", median: "2 3", mode: "9 3 2 3", z_spec: "none" };

export class PdfPlot {
  /** @param {HTMLElement} parent where it is; `readout` gets the value under the pointer */
  constructor(parent, readout) {
    this.chart = new Chart(parent, { width: 640, height: 300, x: "redshift z", y: "p(z)" });
    this.readout = readout;
    this.curves = [];
    const { svg } = this.chart;
    svg.setAttribute("tabindex", 0);
    svg.addEventListener("pointermove", (event) => this.curves.length && this.point(this.chart.at(event)[0]));
    svg.addEventListener("pointerleave", () => this.point(null));
    this.chart.onDrag(svg, ([low, high]) => this.zoom(low, high), { inX: true });
    svg.addEventListener("dblclick", () => this.zoom());
    svg.addEventListener("keydown", (event) => this.type(event));
  }

  /** Show curves: {name, pdf, lines: {name: z}, intervals: [[low, high], ...]} of a grid up to z_max. */
  show(curves, zMax) {
    if (zMax !== this.zMax) this.range = [0, zMax];
    this.zMax = zMax;
    this.curves = curves;
    this.draw();
  }

  zoom(low = 0, high = this.zMax) {
    const least = this.zMax / 40, [from, to] = [Math.max(0, low), Math.min(this.zMax, high)];
    if (to - from >= least) this.range = [from, to];
    this.draw();
  }

  /** Zoom in or out, below 1 is in, around the pointer or else the highest peak, which stays where it is if it is in view. */
  scale(factor) {
    const [low, high] = this.range, isInside = (z) => z !== null && z !== undefined && z >= low && z <= high;
    const centre = isInside(this.at) ? this.at : this.curves[0].lines.mode;
    const share = isInside(centre) ? (centre - low) / (high - low) : 0.5, width = (high - low) * factor;
    this.zoom(centre - share * width, centre + (1 - share) * width);
  }

  draw() {
    const { chart, curves } = this, [low, high] = this.range, alone = curves.length === 1;
    const width = this.zMax / curves[0].pdf.length;
    const densities = curves.map(({ pdf }) => Array.from(pdf, (mass) => mass / width));
    const shown = densities.flatMap((curve) => curve.filter((_, bin) => (bin + 1) * width >= low && bin * width <= high));
    const top = (Math.max(...shown, 0) || 1) * 1.06;
    chart.width = window.innerWidth < 500 ? 400 : 640;
    chart.begin(`p(z) of ${curves.map(({ name }) => name).join(", ")}`, this.range, [0, top]);
    curves.forEach(({ lines, intervals }, number) => {
      const colour = COLOURS[number % COLOURS.length];
      if (alone) intervals.forEach(([from, to], which) => chart.band([[from, 0, top], [to, 0, top]], colour, which ? 0.26 : 0.16));
      const points = densities[number].map((value, bin) => `${chart.x((bin + 0.5) * width).toFixed(1)},${chart.y(value).toFixed(1)}`).join(" ");
      chart.add("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2 });
      for (const [name, z] of Object.entries(lines)) {
        if (Number.isFinite(z) && (alone || name === "z_spec")) chart.line([[z, 0], [z, top]], ...this.style(name, colour));
      }
    });
    this.drawLegend(alone);
    this.pointer = chart.svg.appendChild(element("line", { y1: chart.y(top), y2: chart.y(0), stroke: "currentColor", opacity: 0 }));
  }

  style(name, colour) {
    const isTrue = name === "z_spec";
    return [isTrue ? "var(--plot-true)" : colour, { "stroke-width": isTrue ? 2 : 1.3, "stroke-dasharray": DASHES[name] }];
  }

  /** What the lines of a single galaxy, or the colours of several, stand for. */
  drawLegend(alone) {
    const known = Object.entries(this.curves[0].lines).filter(([, z]) => Number.isFinite(z)).map(([name]) => [name, this.style(name, COLOURS[0])]);
    const several = this.curves.map(({ name }, number) => [name, [COLOURS[number % COLOURS.length], { "stroke-width": 2 }]]);
    this.chart.legend((alone ? known : several).map(([name, [stroke, attributes]]) => [name, { stroke, ...attributes }]));
  }

  /** Say what p(z) is at a redshift. */
  point(z) {
    this.at = z;
    const outside = z === null || z < this.range[0] || z > this.range[1];
    this.pointer?.setAttribute("opacity", outside ? 0 : 0.5);
    if (outside) return void (this.readout.textContent = "");
    this.pointer.setAttribute("x1", this.chart.x(z));
    this.pointer.setAttribute("x2", this.chart.x(z));
    const bins = this.curves[0].pdf.length, bin = Math.min(bins - 1, Math.floor((z / this.zMax) * bins));
    const values = this.curves.map(({ name, pdf }) => `${this.curves.length > 1 ? `${name}: ` : ""}${((pdf[bin] * bins) / this.zMax).toFixed(2)}`);
    this.readout.textContent = `z = ${z.toFixed(4)}, p(z) = ${values.join("; ")}`;
  }

  type(event) {
    const step = (this.range[1] - this.range[0]) / 60, at = this.at ?? (this.range[0] + this.range[1]) / 2;
    const actions = { ArrowLeft: () => this.point(at - step), ArrowRight: () => this.point(at + step), "+": () => this.scale(0.5), "-": () => this.scale(2), 0: () => this.zoom() };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  /** The picture as a file of its own, on white. */
  toSvg() {
    const { svg, width, height } = this.chart, copy = svg.cloneNode(true), style = getComputedStyle(svg);
    for (const [name, value] of Object.entries({ xmlns: svg.namespaceURI, width, height, color: "#000" })) copy.setAttribute(name, value);
    copy.prepend(element("rect", { width, height, fill: "#fff" }));
    const text = new XMLSerializer().serializeToString(copy).replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name));
    return new Blob([text], { type: "image/svg+xml" });
  }

  async toPng() {
    const image = new Image(), url = URL.createObjectURL(this.toSvg());
    image.src = url;
    await image.decode();
    const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(url);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }
}
