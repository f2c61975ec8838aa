// The redshifts of the galaxies in the list; dragging over them sets the filter.

import { Chart, countsOf } from "./chart.js";
import { $, state } from "./state.js";

const BINS = 40, MOST = 20_000; // galaxies whose p(z) are added; of more, as many at equal distances
const COLOUR = "var(--plot-1)";
const chart = new Chart($("histogram"), { x: "z_mean", y: "galaxies", height: 130 });

/** Show how many of `rows` have which redshift, and those `within` the chosen range, with the sum of their p(z). */
export function showHistogram(rows, within) {
  const { galaxies, card: { grid: { z_max: zMax, n_bins: nBins } } } = state, width = zMax / BINS;
  const every = Math.ceil(within.length / MOST), sum = new Float64Array(nBins);
  for (let at = 0; at < within.length; at += every) galaxies.pdf(within[at]).forEach((mass, bin) => (sum[bin] += mass));
  const line = Array.from(sum, (mass, bin) => [((bin + 0.5) * zMax) / nBins, (mass * every * nBins) / BINS]);
  const [all, chosen] = [rows, within].map((some) => countsOf(some.map((row) => galaxies.value("z_mean", row)), BINS, zMax));
  chart.width = window.innerWidth < 500 ? 400 : 800;
  chart.begin("Redshifts of the galaxies in the list", [0, zMax], [0, 1.1 * Math.max(1, ...all, ...line.map(([, y]) => y))]);
  for (const [counts, colour, opacity] of [[all, "currentColor", 0.15], [chosen, COLOUR, 0.45]]) {
    chart.band(counts.flatMap((n, bin) => [[bin * width, 0, n], [(bin + 1) * width, 0, n]]), colour, opacity);
  }
  chart.line(line, COLOUR);
  chart.legend([["sum of p(z)", { stroke: COLOUR }]]);
}

function choose(low, high) {
  $("filter-low").value = low;
  $("filter-high").value = high;
  $("filter-low").dispatchEvent(new Event("input"));
}

chart.onDrag(chart.svg, ([low, high]) => choose(low.toFixed(3), high.toFixed(3)), { press: () => choose("", ""), inX: true });
