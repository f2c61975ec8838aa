// Whether redshifts and their PDFs are right: residuals, PIT, coverage and n(z), defined as in photoz/metrics.py and photoz/plots.

import { Chart, countsOf } from "./chart.js";

const CUT = 0.05; // |dz| of an outlier
const LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.68, 0.8, 0.9, 0.95, 0.99];
const LEAST = 25, MOST_DOTS = 6000; // galaxies behind a running median, and dots of a plot
const MARK = "var(--plot-1)", DASHED = { "stroke-dasharray": "5 4", opacity: 0.7 };

/** The PIT of a galaxy, F(z), and for each of `LEVELS` whether the shortest interval of p(z) with that probability holds z. */
export function calibration(pdf, z, zMax) {
  const n = pdf.length, width = zMax / n, cdf = new Float64Array(n + 1);
  for (let bin = 0; bin < n; bin += 1) cdf[bin + 1] = cdf[bin] + pdf[bin];
  for (let edge = 1; edge <= n; edge += 1) cdf[edge] /= cdf[n];
  const bin = Math.min(n - 1, Math.floor(z / width));
  const pit = cdf[bin] + (z / width - bin) * (cdf[bin + 1] - cdf[bin]);
  return { pit, inside: LEVELS.map((mass) => shortest(cdf, mass, width)).map(([low, high]) => z >= low && z <= high) };
}

/** At least one end of a shortest interval is a bin edge: try all of them as the lower and as the upper end. */
function shortest(cdf, mass, width) {
  const n = cdf.length - 1;
  let best = [0, n];
  for (const side of [1, -1]) {
    let high = 1; // the first edge whose cumulative probability reaches the target, which increases
    for (let edge = 0; edge <= n; edge += 1) {
      const target = cdf[edge] + side * mass;
      if (target < 0) continue;
      if (target > 1) break;
      while (high < n && cdf[high] < target) high += 1;
      const rise = cdf[high] - cdf[high - 1], other = high - 1 + (rise > 0 ? Math.min(1, (target - cdf[high - 1]) / rise) : 1);
      const found = side > 0 ? [edge, other] : [other, edge];
      if (found[1] - found[0] < best[1] - best[0]) best = found;
    }
  }
  return best.map((edge) => edge * width);
}

function quantile(sorted, q) {
  const at = q * (sorted.length - 1), below = Math.floor(at), low = sorted[below];
  return low + (at - below) * ((sorted[below + 1] ?? low) - low);
}

function ascending(values) {
  return Float64Array.from(values).sort();
}

/** The plots, one figure each in `parent`. */
export class Diagnostics {
  constructor(parent) {
    const figure = (x, y) => {
      const made = document.createElement("figure"), chart = new Chart(made, { x, y });
      chart.caption = made.appendChild(document.createElement("figcaption"));
      parent.append(made);
      return chart;
    };
    this.residuals = figure("z_spec", "dz");
    this.pit = figure("PIT = F(z_spec)", "density");
    this.coverage = figure("probability of the interval", "galaxies inside");
    this.nz = figure("redshift z", "galaxies per unit redshift");
  }

  /** Draw galaxies: {z, dz, pit, inside, pdf} each. */
  show(shown, zMax) {
    if (!shown.length) return;
    this.drawResiduals(shown);
    this.drawPit(shown.map(({ pit }) => pit));
    this.drawCoverage(shown.map(({ inside }) => inside));
    this.drawNz(shown, zMax);
  }

  drawResiduals(shown) {
    const z = ascending(shown.map((galaxy) => galaxy.z)), low = z[0] - 0.005, high = z[z.length - 1] + 0.005;
    const dz = ascending(shown.map((galaxy) => galaxy.dz)), median = quantile(dz, 0.5);
    const sigma = 1.4826 * quantile(ascending(dz.map((value) => Math.abs(value - median))), 0.5), limit = Math.max(1.5 * CUT, 5 * sigma);
    const chart = this.residuals, every = Math.ceil(shown.length / MOST_DOTS);
    chart.begin("Residuals against z_spec", [low, high], [-limit, limit]);
    chart.dots(shown.filter((_, at) => at % every === 0).map((galaxy) => [galaxy.z, galaxy.dz]), "currentColor", shown.length < 200 ? 0.8 : 0.25);
    chart.line([[low, 0], [high, 0]]);
    for (const cut of [-CUT, CUT]) chart.line([[low, cut], [high, cut]], "currentColor", DASHED);
    const n = Math.max(4, Math.min(12, Math.floor(shown.length / 60))), bins = Array.from({ length: n }, () => []);
    for (const galaxy of shown) bins[Math.min(n - 1, Math.floor(((galaxy.z - low) / (high - low)) * n))].push(galaxy);
    const running = bins.filter((bin) => bin.length >= LEAST).map((bin) => {
      const sorted = ascending(bin.map((galaxy) => galaxy.dz));
      return [quantile(ascending(bin.map((galaxy) => galaxy.z)), 0.5), ...[0.16, 0.5, 0.84].map((q) => quantile(sorted, q))];
    });
    if (running.length) {
      chart.band(running.map(([x, below, , above]) => [x, below, above]), MARK, 0.3);
      chart.line(running.map(([x, , middle]) => [x, middle]), MARK, { "stroke-width": 2.5 });
      chart.legend([["running median", { stroke: MARK, "stroke-width": 2.5 }], ["68 % of galaxies", { stroke: MARK, "stroke-width": 10, opacity: 0.3 }]]);
    }
    chart.caption.textContent = `Residuals dz = (z_mean − z_spec) / (1 + z_spec): median ${median.toFixed(4)}, σ_MAD ${sigma.toFixed(4)}; dashed: |dz| = ${CUT}.`;
  }

  drawPit(values) {
    const n = values.length, bins = Math.max(5, Math.min(20, Math.floor(n / 20))), sorted = ascending(values), chart = this.pit;
    const counts = countsOf(values, bins, 1).map((count) => (count * bins) / n), sigma = Math.sqrt((bins - 1) / n);
    chart.begin("Histogram of the PIT", [0, 1], [0, 1.35 * Math.max(...counts, 1 + 1.96 * sigma)]);
    for (const width of [1.96, 1]) chart.band([0, 1].map((x) => [x, Math.max(0, 1 - width * sigma), 1 + width * sigma]), "currentColor", 0.1);
    chart.line([[0, 1], [1, 1]], "currentColor", DASHED);
    chart.steps(counts, 0, 1 / bins, MARK);
    chart.legend([["galaxies", { stroke: MARK }], ["expected, 68 and 95 %", { stroke: "currentColor", "stroke-width": 10, opacity: 0.2 }]]);
    const distance = sorted.reduce((most, value, rank) => Math.max(most, (rank + 1) / n - value, value - rank / n), 0);
    chart.caption.textContent = `PIT: flat if p(z) is calibrated; distance from uniform ${distance.toFixed(4)}.`;
  }

  drawCoverage(inside) {
    const n = inside.length, chart = this.coverage, observed = LEVELS.map((_, at) => inside.reduce((sum, held) => sum + held[at], 0) / n);
    const fine = Array.from({ length: 51 }, (_, at) => at / 50);
    chart.begin("Coverage of the shortest intervals", [0, 1], [0, 1]);
    chart.band(fine.map((p) => [p, p - Math.sqrt((p * (1 - p)) / n), p + Math.sqrt((p * (1 - p)) / n)]), "currentColor", 0.2);
    chart.line([[0, 0], [1, 1]], "currentColor", DASHED);
    chart.line([[0, 0], ...LEVELS.map((level, at) => [level, observed[at]]), [1, 1]], MARK, { "stroke-width": 2 });
    const [in68, in95] = [0.68, 0.95].map((level) => observed[LEVELS.indexOf(level)].toFixed(4));
    chart.caption.textContent = `Coverage: ${in68} in the 68 % interval, ${in95} in the 95 % one; below the diagonal p(z) is too narrow.`;
  }

  drawNz(shown, zMax) {
    const nBins = shown[0].pdf.length, width = zMax / nBins, sum = new Float64Array(nBins), chart = this.nz;
    for (const { pdf } of shown) pdf.forEach((mass, bin) => (sum[bin] += mass));
    const most = Math.min(45, Math.max(Math.floor(shown.length / 10), 10));
    const step = Array.from({ length: nBins }, (_, at) => at + 1).find((size) => nBins % size === 0 && nBins / size <= most);
    const bins = nBins / step, counts = countsOf(shown.map(({ z }) => z), bins, zMax), wide = step * width;
    const top = 1.25 * Math.max(...counts.map((count) => (count + Math.sqrt(count)) / wide), ...sum.map((mass) => mass / width));
    chart.begin("n(z)", [0, zMax], [0, top]);
    counts.forEach((count, bin) => {
      const x = (bin + 0.5) * wide, error = Math.sqrt(count);
      chart.line([[x, (count - error) / wide], [x, (count + error) / wide]], "var(--plot-true)", { "stroke-width": 1 });
    });
    chart.steps(counts.map((count) => count / wide), 0, wide, "var(--plot-true)");
    chart.line(Array.from(sum, (mass, bin) => [(bin + 0.5) * width, mass / width]), MARK, { "stroke-width": 2 });
    chart.legend([["sum of p(z)", { stroke: MARK, "stroke-width": 2 }], ["z_spec, ± √n", { stroke: "var(--plot-true)" }]]);
    const means = [shown.reduce((total, { mean }) => total + mean, 0), shown.reduce((total, { z }) => total + z, 0)].map((total) => (total / shown.length).toFixed(4));
    chart.caption.textContent = `n(z): mean redshift ${means[0]} of the PDFs, ${means[1]} of z_spec.`;
  }
}
