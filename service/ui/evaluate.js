// Redshifts compared with true ones: plots drawn here, scores from the service.

import { calibration, Diagnostics } from "./diagnostics.js";
import { npzBlob, openArrays } from "./npz.js";
import { Scatter } from "./scatter.js";
import { service } from "./service.js";
import { $, fixed, make, save, state } from "./state.js";
import { draw, rgbBands, sparkline } from "./thumbnails.js";

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

const MOST = 20_000; // galaxies of the plots beside the scatter

let scatter, diagnostics, evaluated = {}; // {galaxies, rows, facts, isDrawn}

/** Evaluate the galaxies of the page, with the true redshifts of a file if there is one. */
export async function evaluateWith({ galaxies, card }, choose, file = null) {
  if (!galaxies || galaxies.done < galaxies.n) throw new Error("Choose a file of cutouts first, under Redshifts.");
  if (file) galaxies.zSpec = file.name.toLowerCase().endsWith(".csv") ? await fromCsv(file, galaxies) : await fromArrays(file, galaxies);
  const body = npzBlob({
    z_spec: { array: galaxies.zSpec.map((z, row) => (galaxies.reasons.has(row) ? NaN : z)), shape: [galaxies.n] },
    pdfs: { array: galaxies.columns.pdf, shape: [galaxies.n, galaxies.nBins] },
  });
  const rows = Array.from(galaxies.zSpec.keys()).filter((row) => !galaxies.reasons.has(row) && galaxies.zSpec[row] >= 0 && galaxies.zSpec[row] <= card.grid.z_max);
  evaluated = { galaxies, rows };
  scatter ??= new Scatter($("scatter"), { choose, describe, viewed });
  diagnostics ??= new Diagnostics($("plots"));
  showChosen(state.chosen);
  $("report").onclick = async () => save(await (await service.evaluate(body, "text/html")).blob(), "report.html");
  await showScores(body, galaxies);
}

/** Mark the chosen galaxy; nothing is drawn before it can be seen. */
export function showChosen(row) {
  const { galaxies, isDrawn } = evaluated;
  $("evaluation").hidden = !galaxies || galaxies !== state.galaxies;
  if ($("evaluation").hidden || $("evaluate").hidden) return;
  if (isDrawn) return scatter.mark(row);
  evaluated.isDrawn = true;
  evaluated.facts = new Map();
  showScatter();
}

/** Show the galaxies that have a flag, or none, or both. */
function showScatter() {
  const { galaxies, rows } = evaluated, isFlagged = (row) => galaxies.value("flags", row) !== 0;
  const shown = rows.filter((row) => $(isFlagged(row) ? "with-flags" : "without-flags").checked);
  scatter.show({ zSpec: galaxies.zSpec, zPhot: galaxies.columns.z_mean, rows: shown, zMax: state.card.grid.z_max, isFlagged, chosen: state.chosen });
}

/** What the plots show of a galaxy; computed once, when it is first shown. */
function factsOf(row) {
  const { galaxies, facts } = evaluated, z = galaxies.zSpec[row], mean = galaxies.value("z_mean", row), pdf = galaxies.pdf(row);
  if (!facts.has(row)) facts.set(row, { z, mean, pdf, dz: galaxies.dz(row), ...calibration(pdf, z, state.card.grid.z_max) });
  return facts.get(row);
}

function viewed(rows) {
  const every = Math.ceil(rows.length / MOST), count = `${rows.length.toLocaleString("en")} of ${evaluated.rows.length.toLocaleString("en")} galaxies in view`;
  $("in-view").textContent = every > 1 ? `${count}; the plots below have one in ${every} of them` : count;
  $("plots").hidden = !rows.length;
  diagnostics.show(rows.filter((_, at) => at % every === 0).map(factsOf), state.card.grid.z_max);
}

/** Fill the card of a galaxy. */
async function describe(row, card) {
  const { galaxies } = evaluated, { image: { size, bands }, grid } = state.card, [picture] = card.getElementsByTagName("canvas");
  card.querySelector("p").textContent = `${galaxies.names[row]}: z_mean ${fixed(galaxies.value("z_mean", row), 4)}, z_spec ${fixed(galaxies.zSpec[row], 4)}`;
  card.querySelector("svg").replaceWith(sparkline(galaxies.pdf(row), galaxies.zSpec[row], grid.z_max));
  const pixels = await galaxies.pixels(row);
  if (scatter.hovered === row) draw(picture, pixels, size, bands.length, rgbBands(bands));
}

async function showScores(body, galaxies) {
  $("scoring").hidden = false;
  $("scores").hidden = true;
  const found = await (await service.evaluate(body, "application/json")).json().finally(() => ($("scoring").hidden = true));
  if (evaluated.galaxies !== galaxies) return;
  $("scores").hidden = false;
  $("scores").caption.textContent = `${found.n_galaxies.toLocaleString("en")} galaxies${found.dropped.length ? `; ${found.dropped.length} without a z_spec on the grid are left out` : ""}`;
  $("scores").tBodies[0].replaceChildren(
    ...Object.entries(found.scores).map(([name, { value, error }]) => make("tr", {}, ...[WORDS[name] ?? name, value.toFixed(4), `± ${error.toFixed(4)}`].map((text) => make("td", {}, text)))),
  );
}

for (const id of ["with-flags", "without-flags"]) $(id).addEventListener("change", showScatter);
$("scatter-in").addEventListener("click", () => scatter.scale(0.5));
$("scatter-out").addEventListener("click", () => scatter.scale(2));
$("scatter-all").addEventListener("click", () => scatter.zoom());

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
