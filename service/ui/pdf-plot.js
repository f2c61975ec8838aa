// p(z) of one or several galaxies as an SVG, with intervals, zoom and the value under the pointer.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 640, HEIGHT = 300, LEFT = 56, RIGHT = 12, TOP = 12, BOTTOM = 40;
const COLOURS = ["#1098ad", "#d9480f", "#5f3dc4", "#2b8a3e", "#c2255c", "#7c5e10"];

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Round numbers between two ends, a handful. */
function ticks(low, high) {
  const raw = (high - low) / 5, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value.toFixed(digits));
  return found;
}

export class PdfPlot {
  /** @param {HTMLElement} parent where it is; `readout` gets the value under the pointer */
  constructor(parent, readout) {
    this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: 0, "font-size": 14, "font-family": "system-ui, sans-serif" });
    this.readout = readout;
    this.curves = [];
    parent.append(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("pointerdown", (event) => (this.from = this.redshift(event)));
    window.addEventListener("pointerup", (event) => this.release(event));
    this.svg.addEventListener("dblclick", () => this.zoom());
    this.svg.addEventListener("keydown", (event) => this.type(event));
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

  /** Zoom in or out around the middle; below 1 is in. */
  scale(factor) {
    const middle = (this.range[0] + this.range[1]) / 2, half = ((this.range[1] - this.range[0]) * factor) / 2;
    this.zoom(middle - half, middle + half);
  }

  draw() {
    const { svg } = this, [low, high] = this.range;
    const width = this.zMax / this.curves[0].pdf.length;
    const densities = this.curves.map(({ pdf }) => Array.from(pdf, (mass) => mass / width));
    const shown = densities.flatMap((curve) => curve.filter((_, bin) => (bin + 1) * width >= low && bin * width <= high));
    const top = Math.max(...shown, 1e-9) * 1.06;
    this.x = (z) => LEFT + ((z - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
    const y = (density) => HEIGHT - BOTTOM - (density / top) * (HEIGHT - TOP - BOTTOM);
    svg.replaceChildren(element("title", {}, `p(z) of ${this.curves.map(({ name }) => name).join(", ")}`));
    const clip = element("clipPath", { id: "inside" });
    clip.append(element("rect", { x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM }));
    const inside = element("g", { "clip-path": "url(#inside)" });
    svg.append(clip, inside);
    this.curves.forEach((curve, number) => this.drawCurve(inside, curve, densities[number], COLOURS[number % COLOURS.length], width, y));
    this.drawAxes(low, high, top, y);
    this.pointer = element("line", { y1: TOP, y2: HEIGHT - BOTTOM, stroke: "currentColor", opacity: 0 });
    svg.append(this.pointer);
  }

  drawCurve(inside, { lines, intervals }, density, colour, width, y) {
    const { x } = this, alone = this.curves.length === 1;
    if (alone) {
      intervals.forEach(([from, to], number) => {
        const of = { x: x(from), y: TOP, width: x(to) - x(from), height: HEIGHT - TOP - BOTTOM };
        inside.append(element("rect", { ...of, fill: colour, opacity: number ? 0.26 : 0.16 }));
      });
    }
    const points = density.map((value, bin) => `${x((bin + 0.5) * width).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    inside.append(element("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2 }));
    for (const [name, z] of Object.entries(lines)) {
      if (!Number.isFinite(z) || (!alone && name !== "z_spec")) continue;
      inside.append(element("line", { x1: x(z), x2: x(z), y1: TOP, y2: HEIGHT - BOTTOM, ...this.line(name, colour) }));
    }
  }

  line(name, colour) {
    const dashes = { mean: "7 4", median: "2 3", mode: "9 3 2 3", z_spec: "none" };
    return { stroke: name === "z_spec" ? "#e03131" : colour, "stroke-width": name === "z_spec" ? 2 : 1.3, "stroke-dasharray": dashes[name] };
  }

  /** What the lines of a single galaxy, or the colours of several, stand for. */
  drawLegend() {
    const [first] = this.curves, alone = this.curves.length === 1;
    const known = Object.entries(first.lines).filter(([, z]) => Number.isFinite(z)).map(([name]) => [name, this.line(name, COLOURS[0])]);
    const several = this.curves.map(({ name }, number) => [name, { stroke: COLOURS[number % COLOURS.length], "stroke-width": 2 }]);
    (alone ? known : several).forEach(([name, line], number) => {
      const y = TOP + 12 + 18 * number, right = WIDTH - RIGHT - 8;
      this.svg.append(element("line", { x1: right - 30, x2: right, y1: y - 4, y2: y - 4, ...line }));
      this.svg.append(element("text", { x: right - 36, y, "text-anchor": "end", fill: "currentColor" }, name));
    });
  }

  drawAxes(low, high, top, y) {
    const { svg, x } = this, bottom = HEIGHT - BOTTOM;
    svg.append(element("path", { d: `M${LEFT} ${TOP}V${bottom}H${WIDTH - RIGHT}`, fill: "none", stroke: "currentColor" }));
    for (const value of ticks(low, high)) svg.append(element("text", { x: x(Number(value)), y: bottom + 18, "text-anchor": "middle", fill: "currentColor" }, value));
    for (const value of ticks(0, top)) svg.append(element("text", { x: LEFT - 6, y: y(Number(value)) + 4, "text-anchor": "end", fill: "currentColor" }, value));
    svg.append(element("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle", fill: "currentColor" }, "redshift z"));
    const turn = { transform: `translate(12 ${(TOP + bottom) / 2}) rotate(-90)`, "text-anchor": "middle", fill: "currentColor" };
    svg.append(element("text", turn, "p(z)"));
    this.drawLegend();
  }

  redshift(event) {
    const box = this.svg.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * WIDTH;
    const [low, high] = this.range ?? [0, 1];
    return low + ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * (high - low);
  }

  move(event) {
    if (this.curves.length) this.point(this.redshift(event));
  }

  release(event) {
    const to = this.from === undefined ? 0 : this.redshift(event);
    if (this.from !== undefined && Math.abs(to - this.from) > (this.range[1] - this.range[0]) / 50) this.zoom(Math.min(this.from, to), Math.max(this.from, to));
    this.from = undefined;
  }

  /** Say what p(z) is at a redshift. */
  point(z) {
    this.at = z;
    const outside = z === null || z < this.range[0] || z > this.range[1];
    this.pointer?.setAttribute("opacity", outside ? 0 : 0.5);
    if (outside) return void (this.readout.textContent = "");
    this.pointer.setAttribute("x1", this.x(z));
    this.pointer.setAttribute("x2", this.x(z));
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
    const copy = this.svg.cloneNode(true);
    for (const [name, value] of Object.entries({ xmlns: SVG, width: WIDTH, height: HEIGHT, color: "#000" })) copy.setAttribute(name, value);
    copy.prepend(element("rect", { width: WIDTH, height: HEIGHT, fill: "#fff" }));
    return new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
  }

  async toPng() {
    const image = new Image(), url = URL.createObjectURL(this.toSvg());
    image.src = url;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * WIDTH, height: 2 * HEIGHT });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(url);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }
}
