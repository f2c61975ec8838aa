// The chosen galaxy: its pictures, p(z) and estimates.

import { element } from "./chart.js";
import { skyLinks } from "./links.js";
import { PdfPlot } from "./pdf-plot.js";
import { $, fixed, make, save, state } from "./state.js";
import { draw, rgbBands } from "./thumbnails.js";

const MOST_PINNED = 5;
let brightness = 1;
const plot = new PdfPlot($("pdf"), $("readout"));

/** Keep a galaxy in the plot beside the chosen one, or no longer. */
export function togglePinned(row) {
  if (state.pinned.includes(row)) state.pinned = state.pinned.filter((other) => other !== row);
  else state.pinned = [...state.pinned, row].slice(-MOST_PINNED);
  showGalaxy();
}

/** Show the chosen galaxy. */
export async function showGalaxy() {
  const { galaxies, chosen, card, pinned } = state;
  $("galaxy-name").textContent = galaxies.names[chosen];
  $("pin").setAttribute("aria-pressed", pinned.includes(chosen));
  plot.show([...new Set([chosen, ...pinned])].map((row) => galaxies.curve(row)), card.grid.z_max);
  const rows = [["mean", "z_mean"], ["median", "z_median"], ["mode", "z_mode"], ["standard deviation", "z_std"]].map(([name, column]) => [name, fixed(galaxies.value(column, chosen), 4)]);
  for (const percent of [68, 95]) rows.push([`${percent} % interval`, `${fixed(galaxies.value(`z_lo${percent}`, chosen), 4)} to ${fixed(galaxies.value(`z_hi${percent}`, chosen), 4)}`]);
  rows.push(["odds", fixed(galaxies.value("odds", chosen), 3)], ["ood_score", fixed(galaxies.value("ood_score", chosen), 2)]);
  if (galaxies.zSpec) rows.push(["z_spec", fixed(galaxies.zSpec[chosen], 4)]);
  for (const [name, column] of [["RA", galaxies.ra], ["Dec", galaxies.dec]]) if (column) rows.push([name, `${fixed(column[chosen], 5)}°`]);
  $("values").replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  $("links").replaceChildren(...skyLinks(galaxies.ra?.[chosen], galaxies.dec?.[chosen]));
  const flags = galaxies.words(chosen).map(([name, meaning]) => `${name}: ${meaning}`);
  $("flags").replaceChildren(...(flags.length ? flags : ["no flags: a clean estimate"]).map((text) => make("li", {}, text)));
  const pixels = await galaxies.pixels(chosen);
  if (chosen === state.chosen && galaxies === state.galaxies) showPictures(pixels);
}

/** The galaxy in colour, and each of its bands. */
function showPictures(pixels) {
  const { galaxies, chosen, card: { image } } = state, { size, bands } = image, rgb = rgbBands(bands);
  const picture = (which, name, caption) => {
    const canvas = make("canvas"), figure = make("figure", {}, canvas, make("figcaption", {}, caption));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${galaxies.names[chosen]} in ${name}`);
    figure.isMasked = draw(canvas, pixels, size, bands.length, which, brightness);
    return figure;
  };
  const name = rgb.map((band) => bands[band]).join(", "), colour = picture(rgb, name, `${name} as red, green, blue; ${(size * image.pixel_scale).toFixed(0)}″ wide`);
  colour.append(overlay(image));
  const single = bands.map((band, index) => picture([index], band, band));
  $("picture").replaceChildren(colour);
  $("bands").replaceChildren(...single);
  $("masked").hidden = !single.some(({ isMasked }) => isMasked);
  $("softer").onclick = () => ((brightness *= 2), showPictures(pixels));
  $("harder").onclick = () => ((brightness /= 2), showPictures(pixels));
}

/** A scale bar, and a compass where the orientation is known, in percent of the picture. */
function overlay({ size, pixel_scale: scale }) {
  const svg = element("svg", { viewBox: "0 0 100 100", "aria-hidden": true, stroke: "#fff", fill: "none" });
  const text = (x, y, label) => svg.append(element("text", { x, y, "font-size": 5, "text-anchor": "middle", fill: "#fff", stroke: "none" }, label));
  const arcsec = [60, 30, 20, 10, 5, 2, 1, 0.5].find((length) => length <= (size * scale) / 3) ?? scale, length = (100 * arcsec) / (size * scale);
  svg.append(element("path", { d: `M5 95h${length}` }));
  text(5 + length / 2, 92, `${arcsec}″`);
  if (!state.file.northUp) return svg;
  svg.append(element("path", { d: "M94 22V9M94 22H81", class: "compass" }));
  text(94, 7, "N");
  text(78, 24, "E");
  return svg;
}

$("zoom-in").addEventListener("click", () => plot.scale(0.5));
$("zoom-out").addEventListener("click", () => plot.scale(2));
$("zoom-all").addEventListener("click", () => plot.zoom());
$("pin").addEventListener("click", () => togglePinned(state.chosen));
$("unpin").addEventListener("click", () => ((state.pinned = []), showGalaxy()));
$("plot-svg").addEventListener("click", () => save(plot.toSvg(), "pdf.svg"));
$("plot-png").addEventListener("click", async () => save(await plot.toPng(), "pdf.png"));
