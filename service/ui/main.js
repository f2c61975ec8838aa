// What the page does: a file becomes a table of galaxies, each with its picture and p(z).

import { readAddress, readAddressOfFile, readTab, writeAddress } from "./address.js";
import { evaluationCode, predictionCode } from "./code.js";
import { download, send } from "./download.js";
import { Galaxies } from "./galaxies.js";
import { showGalaxy } from "./galaxy.js";
import { forget, keep, recall } from "./keep.js";
import { filter, makeList, reveal } from "./list.js";
import { showCard } from "./model.js";
import { openArrays } from "./npz.js";
import { ServiceError, service } from "./service.js";
import { $, state } from "./state.js";
import { sampleFile, welcome } from "./welcome.js";

// Messages

function say(text) {
  $("status").textContent = text;
}

/** Show what went wrong, and a way on: the key, or another try where that may help. */
function fail(error, retry) {
  const mayHelp = error instanceof ServiceError && (!error.status || error.status === 429 || error.status >= 500);
  if (!(error instanceof ServiceError)) console.warn(error);
  $("error").textContent = error.message;
  $("error").hidden = false;
  $("key-form").hidden = $("key-form").hidden && error.status !== 401;
  if (error.status === 401) $("key").focus();
  $("retry").hidden = !mayHelp;
  $("retry").textContent = error.again ?? "Try again";
  $("retry").onclick = retry;
  say("");
}

/** Run something that may fail; on failure the same can be tried again. */
async function attempt(action) {
  $("error").hidden = $("retry").hidden = true;
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
  Galaxies.mostEbv = options.ebv_max;
  service.columns = options.columns;
  state.formats = options.formats;
  state.limits = options.table;
  state.card = card;
  $("sky").hidden = !options.sky;
  const { image, inputs } = card;
  $("model-name").textContent = `Model: ${card.name} ${card.version}`;
  const unit = image.unit === "nanomaggy" ? "nanomaggies" : image.unit;
  $("wanted").textContent = `The model takes cutouts of ${image.size}x${image.size} pixels of ${image.pixel_scale} arcsec in the bands ${image.bands.join(", ")}, in ${unit}${inputs.ebv ? ", and E(B-V)" : ""}.`;
  $("sample").hidden = image.size !== 64 || image.bands.join("") !== "ugriz";
  await showModel();
}

/** Fill the first screen, unless a file is shown; not waited for, and of little harm if the service is full. */
function showWelcome() {
  if (!state.galaxies) welcome((row) => attempt(() => openSample(row))).catch(() => {});
}

async function showModel() {
  showCard($("card"), state.card, await service.metrics().catch(() => ""));
}

// A file

let opening = null; // the file that is being read

/** Open a file; what was shown stays if it cannot be used. Its `northUp` says that north is up in the cutouts, as files do not. */
async function open(file) {
  opening = file;
  say(`Reading ${file.name} ...`);
  const { image } = state.card ?? (await start(), state.card);
  let arrays = null, assumed = "", source = file;
  try {
    arrays = await openArrays(file);
  } catch { /* another format, which the service reads */ }
  if (!arrays || !Galaxies.fits(arrays, image)) {
    ({ blob: source, assumed } = await service.convert(file));
    arrays = await openArrays(source);
  }
  const galaxies = await Galaxies.of(arrays, state.card);
  if (opening !== file) return; // another file was opened
  $("forget").hidden = true;
  await forget();
  await show(file, source, assumed, galaxies);
}

/** Show again what was shown before the page was loaded, if it is from this model. */
async function restore() {
  const record = await recall();
  if (!record || opening) return;
  record.file.northUp = record.northUp;
  $("forget").hidden = false;
  if (record.model !== label()) return open(record.file);
  const galaxies = await Galaxies.of(await openArrays(record.source), state.card);
  if (opening) return;
  await show(record.file, record.source, record.assumed, Object.assign(galaxies, record.galaxies));
}

const label = () => `${state.card.name} ${state.card.version}`;

/** Keep the file and its estimates for a reload; not where the service asks for a key, as others may use this browser. */
async function keepFile() {
  const { file, source, assumed, galaxies: { columns, reasons, done } } = state;
  $("forget").hidden = Boolean(service.key) || !(await keep({ file, northUp: file.northUp, source, assumed, model: label(), galaxies: { columns, reasons, done } }));
}

/** Show the galaxies of a file, of which `source` has the arrays. */
async function show(file, source, assumed, galaxies) {
  Object.assign(state, { file, source, assumed, galaxies, chosen: null, pinned: [] });
  document.body.classList.add("small");
  $("results").hidden = false;
  makeList();
  state.wanted = readAddressOfFile();
  showCode();
  await attempt(predict);
}

async function openSample(row) {
  await open(await sampleFile());
  if (row !== undefined) state.choose(row);
}

async function lookUp(position) {
  say(`Looking at ${position} in the archive ...`);
  await open(Object.assign(new File([await service.sky(position)], `${position.replace(/[^\w.+-]+/g, "_")}.npz`), { northUp: true }));
}

/** Predict what has no redshift yet; what has one is shown meanwhile. */
async function predict() {
  const { galaxies, card } = state, begun = performance.now(), before = galaxies.done;
  const many = (n) => n.toLocaleString("en"), soFar = () => `${many(galaxies.done)} of ${many(galaxies.n)}`;
  $("progress").hidden = false;
  $("progress").max = galaxies.n;
  $("progress").value = galaxies.done;
  if (galaxies.done) filter();
  try {
    while (galaxies.done < galaxies.n) {
      await galaxies.predictNext((rows) => service.infer(card, galaxies, rows));
      if (galaxies !== state.galaxies) return; // another file was opened
      $("progress").value = galaxies.done;
      const rate = (galaxies.done - before) / ((performance.now() - begun) / 1000);
      say(`${soFar()} cutouts, ${many(Math.round(rate))} a second`);
      filter();
    }
  } catch (error) {
    if (galaxies !== state.galaxies) return;
    throw Object.assign(error, { message: `${soFar()}, stopped: ${error.message}`, again: "Continue" });
  } finally {
    if (galaxies === state.galaxies) $("progress").hidden = true;
    if (galaxies === state.galaxies && galaxies.done > before) await keepFile();
  }
  const refused = galaxies.reasons.size, n = galaxies.n - refused;
  say(`${many(n)} redshift${n === 1 ? "" : "s"} of ${state.file.name}.${refused ? ` ${many(refused)} not predicted: flags say why.` : ""}${state.assumed ? ` Assumed: ${state.assumed}.` : ""}`);
  if (galaxies.zSpec && n) await evaluate(galaxies);
}

let evaluation = null; // the module, which is loaded when there are true redshifts

async function evaluate(galaxies, file) {
  evaluation ??= await import("./evaluate.js");
  if (galaxies === state.galaxies) await evaluation.evaluateWith(state, state.choose, file);
}

state.choose = (row, replaces = false) => {
  state.chosen = row;
  writeAddress(replaces);
  reveal(row);
  showGalaxy();
  evaluation?.showChosen(row);
};

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
  if (tab.id !== "tab-model") $(tab.id === "tab-evaluate" ? "evaluation" : "results").append($("galaxy"));
  if (tab.id === "tab-redshifts" && state.chosen !== null) reveal(state.chosen);
  if (tab.id === "tab-evaluate") evaluation?.showChosen(state.chosen);
  if (tab.id === "tab-model" && state.card) showModel();
}

function wire() {
  const files = (list) => list.length && attempt(() => open(list[0]));
  const tabs = [...document.querySelectorAll("[role='tab']")];
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => (showTab(tab), writeAddress()));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      showTab(next);
      writeAddress();
    });
  }
  window.addEventListener("popstate", () => {
    readTab(showTab);
    const row = state.galaxies && readAddress();
    if (state.galaxies) filter();
    if (row !== null && row !== state.chosen && row < state.galaxies.done) state.choose(row);
  });
  $("forget").addEventListener("click", async () => {
    await forget();
    history.replaceState(null, "", location.pathname);
    location.reload();
  });
  for (const kind of ["dragover", "dragenter"]) document.addEventListener(kind, (event) => (event.preventDefault(), $("drop").classList.add("over")));
  for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => $("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => (event.preventDefault(), files(event.dataTransfer.files)));
  $("file").addEventListener("change", ({ target }) => files(target.files));
  $("sample").addEventListener("click", () => attempt(() => openSample()));
  $("sky").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => lookUp($("position").value));
  });
  $("samp").addEventListener("click", () => attempt(async () => say(`Sent ${(await send()).toLocaleString("en")} rows by SAMP.`)));
  for (const button of $("downloads").querySelectorAll("[data-format]")) button.addEventListener("click", () => attempt(() => download(button.dataset.format)));
  $("copy-name").hidden = !navigator.clipboard; // browsers have none on pages without TLS
  $("copy-name").addEventListener("click", () => navigator.clipboard.writeText(state.galaxies.names[state.chosen]));
  $("truth").addEventListener("change", ({ target }) => target.files.length && attempt(() => evaluate(state.galaxies, target.files[0])));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    service.key = $("key").value;
    attempt(async () => {
      await start();
      showWelcome();
      if (state.galaxies?.done < state.galaxies?.n) await predict();
    });
  });
  service.onWait = say;
}

wire();
readTab(showTab);
attempt(async () => {
  await start();
  await restore();
  showWelcome();
});
