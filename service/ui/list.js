// The list of galaxies: a table of those that meet the filter.

import { offerDownloads } from "./download.js";
import { togglePinned } from "./galaxy.js";
import { Galaxies, NOT_PREDICTED } from "./galaxies.js";
import { $, fixed, state } from "./state.js";
import { GalaxyTable } from "./table.js";
import { draw, rgbBands } from "./thumbnails.js";

const FILTERS = ["filter-name", "filter-flag", "filter-low", "filter-high"];
const WIDEST_NAME = 30; // characters in a line
let table;

/** Start with the galaxies of another file. */
export function makeList() {
  pictures.clear();
  const { galaxies } = state, estimate = (name, digits) => (row) => (galaxies.reasons.has(row) ? "" : fixed(galaxies.value(name, row), digits));
  const number = (name, digits) => ({ value: (row) => galaxies.value(name, row), fill: (cell, row) => (cell.textContent = estimate(name, digits)(row)) });
  const low = estimate("z_lo68", 3), high = estimate("z_hi68", 3);
  const longest = galaxies.names.reduce((most, name) => Math.max(most, name.length), 5);
  const inDiv = (fill) => (cell, row) => fill(cell.appendChild(document.createElement("div")), row);
  const columns = [
    { name: "picture", title: "image", fill: picture },
    { name: "object_id", title: "name", width: `calc(${Math.min(WIDEST_NAME, longest)}ch + 26px)`, value: (row) => galaxies.names[row], fill: inDiv((cell, row) => (cell.textContent = cell.title = galaxies.names[row])) },
    { name: "z_mean", title: "z_mean", ...number("z_mean", 4) },
    { name: "interval", title: "68 % interval", value: (row) => galaxies.value("z_hi68", row) - galaxies.value("z_lo68", row), fill: (cell, row) => (cell.textContent = low(row) && `${low(row)} to ${high(row)}`) },
    { name: "odds", title: "odds", ...number("odds", 3) },
    ...(galaxies.zSpec ? [{ name: "z_spec", title: "z_spec", value: (row) => galaxies.zSpec[row], fill: (cell, row) => (cell.textContent = fixed(galaxies.zSpec[row], 4)) }] : []),
    { name: "flags", title: "flags", value: (row) => (galaxies.reasons.has(row) ? Infinity : galaxies.value("flags", row)), fill: inDiv((cell, row) => cell.append(...chips(row))) },
  ];
  const fresh = $("table").cloneNode(false);
  fresh.append(document.createElement("thead"), document.createElement("tbody"));
  $("table").replaceWith(fresh);
  table = new GalaxyTable(fresh, columns, { choose: (row) => state.choose(row), pin: togglePinned });
  $("filter-flag").replaceChildren(...["any", "none", ...Galaxies.flags.map(([, name]) => name), NOT_PREDICTED].map((name) => new Option(inWords(name), name)));
  for (const id of FILTERS) if (id !== "filter-flag") $(id).value = "";
}

const inWords = (name) => name.toLowerCase().replaceAll("_", " ");

/** The flags of a galaxy in words, or why it has no estimates. */
function chips(row) {
  const refused = state.galaxies.reasons.has(row);
  return state.galaxies.words(row).map(([name, meaning]) => {
    const text = refused ? `${name}: ${meaning}` : inWords(name);
    return Object.assign(document.createElement("span"), { className: "chip", textContent: text, title: refused ? text : `${name}: ${meaning}` });
  });
}

/** Show the rows that meet the filter. */
export function filter() {
  const { galaxies } = state, text = $("filter-name").value.toLowerCase(), flag = $("filter-flag").value;
  const mask = Galaxies.flags.find(([, name]) => name === flag)?.[0] ?? 0;
  const [low, high] = [$("filter-low"), $("filter-high")].map((input) => (input.value === "" ? null : Number(input.value)));
  const rows = [];
  for (let row = 0; row < galaxies.done; row += 1) {
    const z = galaxies.value("z_mean", row), flags = galaxies.value("flags", row);
    if (text && !galaxies.names[row].toLowerCase().includes(text)) continue;
    const refused = galaxies.reasons.has(row);
    if ((flag === "none" && (flags || refused)) || (flag === NOT_PREDICTED && !refused) || (mask && !(flags & mask))) continue;
    if ((low !== null && !(z >= low)) || (high !== null && !(z <= high))) continue;
    rows.push(row);
  }
  $("count").textContent = `${rows.length.toLocaleString("en")} of ${galaxies.n.toLocaleString("en")}`;
  state.shown = rows;
  table.show(rows, state.chosen);
  offerDownloads();
  if (state.chosen === null && rows.length) state.choose(rows[0]);
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

/** Bring a galaxy into view. */
export function reveal(row) {
  table.reveal(row);
}

for (const id of FILTERS) $(id).addEventListener("input", filter);
