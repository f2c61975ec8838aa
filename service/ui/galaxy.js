// The chosen galaxy: its pictures, p(z) and estimates.

import { skyLinks } from "./links.js";
import { PdfPlot } from "./pdf-plot.js";
import { save } from "./save.js";
import { $, fixed, state } from "./state.js";
import { draw, rgbBands } from "./thumbnails.js";

const MOST_PINNED = 5;
const plot = new PdfPlot($("pdf"), $("readout"));

/** Keep a galaxy in the plot beside the chosen one, or no longer. */
export function togglePinned(row) {
  if (state.pinned.includes(row)) state.pinned = state.pinned.filter((other) => other !== row);
  else state.pinned = [...state.pinned, row].slice(-MOST_PINNED);
  showGalaxy();
}

/** Show the chosen galaxy. */
export async function showGalaxy() {
  const { galaxies, chosen, card, pinned } = state, { size, bands } = card.image;
  $("galaxy-name").textContent = galaxies.names[chosen];
  $("pin").setAttribute("aria-pressed", pinned.includes(chosen));
  plot.show([...new Set([chosen, ...pinned])].map((row) => galaxies.curve(row)), card.grid.z_max);
  const rows = [["mean", "z_mean"], ["median", "z_median"], ["mode", "z_mode"], ["standard deviation", "z_std"]].map(([name, column]) => [name, fixed(galaxies.value(column, chosen), 4)]);
  for (const percent of [68, 95]) rows.push([`${percent} % interval`, `${fixed(galaxies.value(`z_lo${percent}`, chosen), 4)} to ${fixed(galaxies.value(`z_hi${percent}`, chosen), 4)}`]);
  rows.push(["odds", fixed(galaxies.value("odds", chosen), 3)], ["ood_score", fixed(galaxies.value("ood_score", chosen), 2)]);
  if (galaxies.zSpec) rows.push(["z_spec", fixed(galaxies.zSpec[chosen], 4)]);
  for (const [name, column] of [["RA", galaxies.ra], ["Dec", galaxies.dec]]) if (column) rows.push([name, `${fixed(column[chosen], 5)}°`]);
  $("values").replaceChildren(...rows.flatMap(([name, value]) => [Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value })]));
  $("links").replaceChildren(...skyLinks(galaxies.ra?.[chosen], galaxies.dec?.[chosen]));
  const flags = galaxies.words(chosen).map(([name, meaning]) => `${name}: ${meaning}`);
  $("flags").replaceChildren(...(flags.length ? flags : ["no flags: a clean estimate"]).map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  const pixels = await galaxies.pixels(chosen);
  if (chosen !== state.chosen) return;
  const shown = [[rgbBands(bands).map((band) => bands[band]).join(", "), rgbBands(bands)], ...bands.map((band, index) => [band, [index]])];
  $("pictures").replaceChildren(
    ...shown.map(([name, which]) => {
      const figure = document.createElement("figure"), canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${galaxies.names[chosen]} in ${name}`);
      draw(canvas, pixels, size, bands.length, which);
      figure.append(canvas, Object.assign(document.createElement("figcaption"), { textContent: name }));
      return figure;
    }),
  );
}

$("zoom-in").addEventListener("click", () => plot.scale(0.5));
$("zoom-out").addEventListener("click", () => plot.scale(2));
$("zoom-all").addEventListener("click", () => plot.zoom());
$("pin").addEventListener("click", () => togglePinned(state.chosen));
$("unpin").addEventListener("click", () => ((state.pinned = []), showGalaxy()));
$("plot-svg").addEventListener("click", () => save(plot.toSvg(), "pdf.svg"));
$("plot-png").addEventListener("click", async () => save(await plot.toPng(), "pdf.png"));
