// Redshifts compared with true ones.

import { npzBlob, openArrays } from "./npz.js";
import { save } from "./save.js";
import { Scatter } from "./scatter.js";
import { service } from "./service.js";

const PLOTS = [["pit", "PIT"], ["coverage", "coverage"], ["residuals", "residuals"]];
const WORDS = {
  bias: "bias: mean of dz = (z - z_spec) / (1 + z_spec)",
  sigma_mad: "sigma_MAD: 1.4826 median |dz - median dz|",
  outlier_fraction: "outliers: |dz| > 0.05",
  crps: "CRPS",
  pit_ks: "distance of the PIT values from uniform",
  cde_loss: "CDE loss",
  coverage_68: "true redshifts in the 68 % interval",
  coverage_95: "true redshifts in the 95 % interval",
};
const $ = (id) => document.getElementById(id);

let scatter, shown;

/** Evaluate the galaxies of the page, with the true redshifts of a file if there is one. */
export async function evaluateWith(state, choose, file = null) {
  const { galaxies, card } = state;
  if (!galaxies || galaxies.done < galaxies.n) throw new Error("Choose a file of cutouts first, under Redshifts.");
  if (file) galaxies.zSpec = file.name.toLowerCase().endsWith(".csv") ? await fromCsv(file, galaxies) : await fromArrays(file, galaxies);
  const body = npzBlob({
    z_spec: { array: galaxies.zSpec.map((z, row) => (galaxies.reasons.has(row) ? NaN : z)), shape: [galaxies.n] },
    pdfs: { array: galaxies.columns.pdf, shape: [galaxies.n, galaxies.nBins] },
  });
  const found = await (await service.evaluate(body, "application/json")).json();
  $("evaluation").hidden = false;
  $("scores").caption.textContent = `${found.n_galaxies.toLocaleString("en")} galaxies${found.dropped.length ? `; ${found.dropped.length} without a z_spec on the grid are left out` : ""}`;
  $("scores").tBodies[0].replaceChildren(
    ...Object.entries(found.scores).map(([name, { value, error }]) => {
      const row = document.createElement("tr");
      row.append(...[WORDS[name] ?? name, value.toFixed(4), error.toFixed(4)].map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return row;
    }),
  );
  const rows = Array.from({ length: galaxies.n }, (_, row) => row).filter((row) => !galaxies.reasons.has(row) && galaxies.zSpec[row] >= 0 && galaxies.zSpec[row] <= card.grid.z_max);
  scatter ??= new Scatter($("scatter"), (row) => choose(row));
  shown = () => scatter.show(galaxies.zSpec, galaxies.columns.z_mean, rows, card.grid.z_max, state.chosen);
  shown();
  $("report").onclick = async () => save(await (await service.evaluate(body, "text/html")).blob(), "report.html");
  await drawPlots(body);
}

/** Mark the chosen galaxy. */
export function showChosen(row) {
  if (!shown) return;
  scatter.chosen = row;
  if (!$("evaluate").hidden) scatter.draw();
}

async function drawPlots(body) {
  const figures = [];
  for (const [plot, name] of PLOTS) {
    const image = new Image();
    image.alt = name;
    image.src = URL.createObjectURL(await (await service.evaluate(body, "image/svg+xml", plot)).blob());
    const figure = document.createElement("figure");
    figure.append(image);
    figures.push(figure);
  }
  $("plots").replaceChildren(...figures);
}

async function fromArrays(file, galaxies) {
  const arrays = await openArrays(file), column = arrays.z_spec ?? arrays.images;
  if (!column?.readable || column.shape.length !== 1 || column.shape[0] !== galaxies.n) {
    throw new Error(`Expected z_spec of ${galaxies.n} galaxies in ${file.name}, in the order of the cutouts.`);
  }
  return Float64Array.from(await column.numbers());
}

/** By the names of the galaxies, or in their order where the file has none. */
async function fromCsv(file, galaxies) {
  const lines = (await file.text()).split(/\r?\n/).filter((line) => line.trim() && !line.startsWith("#")).map((line) => line.split(",").map((field) => field.trim().replace(/^"|"$/g, "")));
  const [head, ...rows] = lines, at = head.indexOf("z_spec"), name = head.indexOf("object_id");
  if (at < 0) throw new Error(`Expected a column z_spec in ${file.name}; it has ${head.join(", ")}.`);
  if (name < 0 && rows.length !== galaxies.n) throw new Error(`Expected ${galaxies.n} lines in ${file.name}, or a column object_id; it has ${rows.length}.`);
  const number = (text) => (text ? Number(text) : NaN);
  if (name < 0) return Float64Array.from(rows, (row) => number(row[at]));
  const known = new Map(rows.map((row) => [row[name], number(row[at])]));
  if (!galaxies.names.some((id) => known.has(id))) {
    throw new Error(`None of the ${rows.length.toLocaleString("en")} names of ${file.name} is in this table; its first is ${rows[0]?.[name]}, the table's first is ${galaxies.names[0]}.`);
  }
  return Float64Array.from(galaxies.names, (id) => known.get(id) ?? NaN);
}
