// What the page does: a file becomes a table of galaxies, each with its picture and p(z).

import { evaluationCode, predictionCode } from "./code.js";
import { evaluateWith, showChosen as showInScatter } from "./evaluate.js";
import { Galaxies, words } from "./galaxies.js";
import { showCard } from "./model.js";
import { openArrays } from "./npz.js";
import { PdfPlot } from "./pdf-plot.js";
import { save } from "./save.js";
import { ServiceError, service } from "./service.js";
import { GalaxyTable } from "./table.js";
import { draw, rgbBands } from "./thumbnails.js";

const MOST_PINNED = 5;
const $ = (id) => document.getElementById(id);

const state = { card: null, formats: null, file: null, galaxies: null, chosen: null, pinned: [] };
let plot, table;

// Messages

function say(text) {
  $("status").textContent = text;
}

/** Show what went wrong, and a way on: the key, or another try. */
function fail(error, retry = null) {
  if (!(error instanceof ServiceError)) console.warn(error);
  $("error").textContent = error.message;
  $("error").hidden = false;
  $("key-form").hidden = $("key-form").hidden && error.status !== 401;
  if (error.status === 401) $("key").focus();
  $("retry").hidden = !retry;
  $("retry").onclick = retry;
  say("");
}

function clear() {
  $("error").hidden = $("retry").hidden = true;
}

/** Run something that may fail; on failure the same can be tried again. */
async function attempt(action) {
  clear();
  try {
    await action();
  } catch (error) {
    fail(error, () => attempt(action));
  }
}

// The model

async function start() {
  const [options, card] = await Promise.all([service.options(), service.model()]);
  Galaxies.flags = options.flags;
  service.columns = options.columns;
  state.formats = options.formats;
  state.card = card;
  $("sky").hidden = !options.sky;
  const { image, inputs } = card;
  $("model-name").textContent = `${card.name} ${card.version}`;
  const unit = image.unit === "nanomaggy" ? "nanomaggies" : image.unit;
  $("wanted").textContent = `The model takes cutouts of ${image.size}x${image.size} pixels of ${image.pixel_scale} arcsec in the bands ${image.bands.join(", ")}, in ${unit}${inputs.ebv ? ", and E(B-V)" : ""}.`;
  $("sample").hidden = image.size !== 64 || image.bands.join("") !== "ugriz";
  await showModel();
}

async function showModel() {
  showCard($("card"), state.card, await service.metrics().catch(() => ""));
}

// A file

async function open(file) {
  Object.assign(state, { file, galaxies: null, chosen: null, pinned: [] });
  pictures.clear();
  say(`Reading ${file.name} ...`);
  const { image } = state.card ?? (await start(), state.card);
  let arrays = null, assumed = "";
  try {
    arrays = await openArrays(file);
  } catch { /* another format, which the service reads */ }
  if (!arrays || !Galaxies.fits(arrays, image)) {
    const converted = await service.convert(file);
    arrays = await openArrays(converted.blob);
    ({ assumed } = converted);
  }
  state.galaxies = await Galaxies.of(arrays, state.card);
  state.assumed = assumed;
  document.body.classList.add("small");
  $("results").hidden = false;
  makeTable();
  showCode();
  await attempt(predict);
}

async function lookUp(ra, dec) {
  say(`Looking at ${ra} ${dec} in the archive ...`);
  await open(new File([await service.sky(ra, dec)], `${ra}_${dec}.npz`));
}

/** Predict what has no redshift yet; what has one is shown meanwhile. */
async function predict() {
  const { galaxies, card } = state, begun = performance.now(), before = galaxies.done;
  $("progress").hidden = false;
  $("progress").max = galaxies.n;
  try {
    while (galaxies.done < galaxies.n) {
      const last = Math.min(galaxies.n, galaxies.done + galaxies.atOnce);
      galaxies.add(await service.infer(card, galaxies.images, galaxies.ebv, galaxies.done, last));
      if (galaxies !== state.galaxies) return; // another file was opened
      $("progress").value = galaxies.done;
      const rate = (galaxies.done - before) / ((performance.now() - begun) / 1000);
      say(`${galaxies.done.toLocaleString("en")} of ${galaxies.n.toLocaleString("en")} cutouts, ${Math.round(rate).toLocaleString("en")} a second`);
      filter();
    }
  } finally {
    $("progress").hidden = true;
  }
  say(`${galaxies.n.toLocaleString("en")} redshift${galaxies.n === 1 ? "" : "s"} of ${state.file.name}.${state.assumed ? ` Assumed: ${state.assumed}.` : ""}`);
  for (const button of $("downloads").querySelectorAll("button")) button.disabled = false;
  if (galaxies.zSpec) await evaluateWith(state, choose);
}

// The table

function makeTable() {
  const { galaxies } = state, number = (name, digits) => ({ value: (row) => galaxies.value(name, row), fill: (cell, row) => (cell.textContent = fixed(galaxies.value(name, row), digits)) });
  const columns = [
    { name: "picture", title: "image", fill: picture },
    { name: "object_id", title: "name", value: (row) => galaxies.names[row] },
    { name: "z_mean", title: "z_mean", ...number("z_mean", 4) },
    { name: "interval", title: "68 % interval", value: (row) => galaxies.value("z_hi68", row) - galaxies.value("z_lo68", row), fill: (cell, row) => (cell.textContent = `${fixed(galaxies.value("z_lo68", row), 3)} to ${fixed(galaxies.value("z_hi68", row), 3)}`) },
    { name: "odds", title: "odds", ...number("odds", 3) },
    ...(galaxies.zSpec ? [{ name: "z_spec", title: "z_spec", value: (row) => galaxies.zSpec[row], fill: (cell, row) => (cell.textContent = fixed(galaxies.zSpec[row], 4)) }] : []),
    { name: "flags", title: "flags", value: (row) => galaxies.value("flags", row), fill: (cell, row) => (cell.textContent = cell.title = words(galaxies.value("flags", row)).map(([name]) => name).join(", ") || "none") },
  ];
  const fresh = $("table").cloneNode(false);
  fresh.append(document.createElement("thead"), document.createElement("tbody"));
  $("table").replaceWith(fresh);
  table = new GalaxyTable(fresh, columns, { choose, pin });
  $("filter-flag").replaceChildren(...["any", "none", ...Galaxies.flags.map(([, name]) => name)].map((name) => new Option(name)));
}

function fixed(value, digits) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

/** The rows that meet the filter. */
function filter() {
  const { galaxies } = state, text = $("filter-name").value.toLowerCase(), flag = $("filter-flag").value;
  const mask = Galaxies.flags.find(([, name]) => name === flag)?.[0] ?? 0;
  const [low, high] = [$("filter-low"), $("filter-high")].map((input) => (input.value === "" ? null : Number(input.value)));
  const rows = [];
  for (let row = 0; row < galaxies.done; row += 1) {
    const z = galaxies.value("z_mean", row), flags = galaxies.value("flags", row);
    if (text && !galaxies.names[row].toLowerCase().includes(text)) continue;
    if ((flag === "none" && flags) || (mask && !(flags & mask))) continue;
    if ((low !== null && !(z >= low)) || (high !== null && !(z <= high))) continue;
    rows.push(row);
  }
  $("count").textContent = `${rows.length.toLocaleString("en")} of ${galaxies.done.toLocaleString("en")}`;
  table.show(rows, state.chosen);
  if (state.chosen === null && rows.length) choose(rows[0]);
}

const pictures = new Map(); // the last that were drawn, by row

function picture(cell, row) {
  const canvas = pictures.get(row) ?? document.createElement("canvas");
  canvas.setAttribute("aria-hidden", "true");
  cell.append(canvas);
  if (!pictures.has(row)) setTimeout(() => drawPicture(canvas, row), 120); // not of rows that only pass by
}

async function drawPicture(canvas, row) {
  const { galaxies, card } = state, { size, bands } = card.image;
  if (!canvas.isConnected || pictures.has(row)) return;
  pictures.set(row, canvas);
  if (pictures.size > 400) pictures.delete(pictures.keys().next().value);
  draw(canvas, await galaxies.pixels(row), size, bands.length, rgbBands(bands));
}

// A galaxy

function choose(row) {
  state.chosen = row;
  table.reveal(row);
  showGalaxy();
  showInScatter(row);
}

function pin(row) {
  if (state.pinned.includes(row)) state.pinned = state.pinned.filter((other) => other !== row);
  else state.pinned = [...state.pinned, row].slice(-MOST_PINNED);
  showGalaxy();
}

async function showGalaxy() {
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
  const flags = words(galaxies.value("flags", chosen)).map(([name, meaning]) => `${name}: ${meaning}`);
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

// Downloads

async function download(format) {
  const name = state.file.name.replace(/\.[^.]*$/, ""), pdf = $("with-pdfs").checked;
  const [type, suffix] = state.formats[format];
  const blob = format === "csv" ? state.galaxies.toCsv(pdf) : await service.table(state.file, type, pdf || format === "qp");
  save(blob, `${name}-redshifts${suffix}`);
}

function showCode() {
  const url = location.href.replace(/\/ui.*$/, ""), { name } = state.file;
  $("code-predict").textContent = predictionCode(name, url);
  $("code-evaluate").textContent = evaluationCode(name, url);
}

// Tabs

function showTab(tab) {
  for (const other of document.querySelectorAll("[role='tab']")) {
    const shown = other === tab;
    other.setAttribute("aria-selected", shown);
    other.tabIndex = shown ? 0 : -1;
    $(other.getAttribute("aria-controls")).hidden = !shown;
  }
  if (tab.id === "tab-redshifts" && state.chosen !== null) table.reveal(state.chosen);
  if (tab.id === "tab-evaluate") showInScatter(state.chosen);
  if (tab.id === "tab-model" && state.card) showModel();
}

function wire() {
  plot = new PdfPlot($("pdf"), $("readout"));
  const files = (list) => list.length && attempt(() => open(list[0]));
  const tabs = [...document.querySelectorAll("[role='tab']")];
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => showTab(tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      showTab(next);
    });
  }
  for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => (event.preventDefault(), $("drop").classList.add("over")));
  for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => (event.preventDefault(), files(event.dataTransfer.files)));
  $("file").addEventListener("change", ({ target }) => files(target.files));
  $("sample").addEventListener("click", () =>
    attempt(async () => open(new File([await (await service.ask("ui/sample.npz")).blob()], "sample.npz"))),
  );
  $("sky").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => lookUp(Number($("ra").value), Number($("dec").value)));
  });
  for (const id of ["filter-name", "filter-flag", "filter-low", "filter-high"]) $(id).addEventListener("input", filter);
  for (const button of $("downloads").querySelectorAll("button")) button.addEventListener("click", () => attempt(() => download(button.dataset.format)));
  $("zoom-in").addEventListener("click", () => plot.scale(0.5));
  $("zoom-out").addEventListener("click", () => plot.scale(2));
  $("zoom-all").addEventListener("click", () => plot.zoom());
  $("pin").addEventListener("click", () => pin(state.chosen));
  $("unpin").addEventListener("click", () => ((state.pinned = []), showGalaxy()));
  $("plot-svg").addEventListener("click", () => save(plot.toSvg(), "pdf.svg"));
  $("plot-png").addEventListener("click", async () => save(await plot.toPng(), "pdf.png"));
  $("truth").addEventListener("change", ({ target }) => target.files.length && attempt(() => evaluateWith(state, choose, target.files[0])));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    service.key = $("key").value;
    attempt(start);
  });
  service.onWait = say;
}

wire();
attempt(start);
