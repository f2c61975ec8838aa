// The list of galaxies: a table of those that meet the filter.

import { writeAddress } from "./address.js";
import { chosenColumns, inWords } from "./columns.js";
import { offerDownloads } from "./download.js";
import { togglePinned } from "./galaxy.js";
import { Galaxies, NOT_PREDICTED } from "./galaxies.js";
import { showHistogram } from "./histogram.js";
import { $, make, state } from "./state.js";
import { GalaxyTable } from "./table.js";
import { draw, rgbBands } from "./thumbnails.js";

const FILTERS = ["filter-name", "filter-flag", "filter-low", "filter-high"];
let table;

/** Start with the galaxies of another file. */
export function makeList() {
  pictures.clear();
  $("filter-flag").replaceChildren(...["any", "none", ...Galaxies.flags.map(([, name]) => name), NOT_PREDICTED].map((name) => new Option(inWords(name), name)));
  for (const id of FILTERS) if (id !== "filter-flag") $(id).value = "";
  makeTable(chosenColumns(state.galaxies, (columns) => (makeTable(columns), filter())));
}

function makeTable(columns) {
  const fresh = $("table").cloneNode(false);
  fresh.append(make("thead"), make("tbody"));
  $("table").replaceWith(fresh);
  table = new GalaxyTable(fresh, [{ name: "picture", title: "image", fill: picture }, ...columns], { choose: (row) => state.choose(row), pin: togglePinned });
}

/** Show the rows that meet the filter. */
export function filter() {
  const { galaxies } = state, text = $("filter-name").value.toLowerCase(), flag = $("filter-flag").value;
  const mask = Galaxies.flags.find(([, name]) => name === flag)?.[0] ?? 0;
  const [low, high] = [$("filter-low"), $("filter-high")].map((input) => (input.value === "" ? null : Number(input.value)));
  const rows = [], ofAllRedshifts = [];
  for (let row = 0; row < galaxies.done; row += 1) {
    const z = galaxies.value("z_mean", row), flags = galaxies.value("flags", row);
    if (text && !galaxies.names[row].toLowerCase().includes(text)) continue;
    const refused = galaxies.reasons.has(row);
    if ((flag === "none" && (flags || refused)) || (flag === NOT_PREDICTED && !refused) || (mask && !(flags & mask))) continue;
    ofAllRedshifts.push(row);
    if ((low !== null && !(z >= low)) || (high !== null && !(z <= high))) continue;
    rows.push(row);
  }
  $("count").textContent = `${rows.length.toLocaleString("en")} of ${galaxies.n.toLocaleString("en")}`;
  state.shown = rows;
  table.show(rows, state.chosen);
  showHistogram(ofAllRedshifts, rows);
  offerDownloads();
  const first = state.wanted ?? rows[0];
  if (state.chosen === null && first < galaxies.done) state.choose(first, true);
}

const pictures = new Map(); // the last that were drawn, by row

function picture(cell, row) {
  const canvas = pictures.get(row) ?? make("canvas");
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

for (const id of FILTERS) $(id).addEventListener("input", () => (filter(), writeAddress(true)));
