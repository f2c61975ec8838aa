// Estimates as files: CSV, of any length, is written here, the other formats by the service.

import { decimal, npzBlob } from "./npz.js";
import { sendTable } from "./samp.js";
import { service } from "./service.js";
import { $, save, state } from "./state.js";

const buttons = () => $("downloads").querySelectorAll("button");
const many = (n) => n.toLocaleString("en");

/** Those rows that have estimates: all, or the ones that meet the filter. */
function chosenRows() {
  const { galaxies, shown } = state;
  const rows = $("download-rows").value === "these" ? shown : Array.from({ length: galaxies.done }, (_, row) => row);
  return rows.filter((row) => !galaxies.reasons.has(row));
}

/** Columns by name as typed arrays or arrays in the file, in the order in which they are written. */
function columnsOf({ others, ra, dec, zSpec, columns, n }) {
  const { object_id = Int32Array.from({ length: n }, (_, row) => row), ...rest } = others, { pdf, ...estimates } = columns;
  const known = Object.entries({ ra, dec, z_spec: zSpec }).filter(([, values]) => values);
  return { object_id, ...Object.fromEntries(known), ...rest, ...estimates };
}

const isInFile = (column) => !ArrayBuffer.isView(column);

async function csv(galaxies, rows, withPdfs) {
  const columns = columnsOf(galaxies), names = Object.keys(columns);
  const field = (value) => (typeof value === "number" ? decimal(value) : /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const texts = await Promise.all(Object.values(columns).map((column) => (isInFile(column) ? column.strings() : column)));
  const bins = withPdfs ? Array.from({ length: galaxies.nBins }, (_, bin) => `pdf_${bin}`) : [];
  const line = (row) => [...texts.map((values) => field(values[row])), ...(withPdfs ? galaxies.pdf(row) : [])].join(",") + "\n";
  return new Blob([[...names, ...bins].join(",") + "\n", ...rows.map(line)], { type: "text/csv" });
}

async function npz(galaxies, rows, withPdfs) {
  const arrays = {}, { nBins } = galaxies;
  for (const [name, column] of Object.entries(columnsOf(galaxies))) {
    arrays[name] = isInFile(column) ? await column.column(rows) : { array: column.constructor.from(rows, (row) => column[row]), shape: [rows.length] };
  }
  if (withPdfs) {
    const array = new Float32Array(rows.length * nBins);
    rows.forEach((row, at) => array.set(galaxies.pdf(row), at * nBins));
    arrays.pdf = { array, shape: [rows.length, nBins] };
  }
  return npzBlob(arrays);
}

/** What a table says of its origin. */
function about() {
  const { galaxies, card, file, assumed } = state, refused = galaxies.reasons.size;
  const said = { model: `${card.name} ${card.version}`, input: file.name.slice(-300), assumed: assumed.slice(0, 2000) };
  return refused ? { ...said, left_out: `${many(refused)} of ${many(galaxies.n)} cutouts that cannot be predicted` } : said;
}

/** Save the chosen rows in a format. */
export async function download(format) {
  const { galaxies, formats, file } = state, [type, suffix] = formats[format];
  const rows = chosenRows(), withPdfs = $("with-pdfs").checked || format === "qp";
  const blob = await (format === "csv" ? csv(galaxies, rows, withPdfs) : service.table(await npz(galaxies, rows, withPdfs), type, about()));
  save(blob, `${file.name.replace(/\.[^.]*$/, "")}-redshifts${suffix}`);
}

/** Send the chosen rows to other programs on this computer; returns their number. */
export async function send() {
  const rows = chosenRows(), url = async () => new URL(await service.share(await npz(state.galaxies, rows, false), state.formats.votable[0], about()), location).href;
  await sendTable(url, `photoz: ${state.file.name}`);
  return rows.length;
}

/** Say which rows can be saved, and disable the buttons of formats that cannot hold them. */
export function offerDownloads() {
  const { galaxies, shown, limits } = state, { done, reasons } = galaxies, choice = $("download-rows");
  const these = shown.filter((row) => !reasons.has(row)).length, all = done - reasons.size, [first, second] = choice.options;
  first.textContent = `all ${many(all)}`;
  second.textContent = `these ${many(these)}`;
  second.disabled = !these;
  if (second.disabled) choice.value = "all";
  const rows = choice.value === "all" ? all : these, columns = Object.values(columnsOf(galaxies)), plain = columns.reduce((sum, { kind }) => sum + (kind?.size ?? 8) / 8, 0);
  for (const button of buttons()) {
    const { format } = button.dataset, withPdfs = format && ($("with-pdfs").checked || format === "qp");
    const numbers = rows * (Math.max(plain, columns.length) + (withPdfs ? galaxies.nBins : 0));
    const tooMany = format !== "csv" && (rows > limits.rows || columns.length >= limits.columns || numbers > (format ? limits.numbers : limits.shared));
    button.disabled = !rows || tooMany;
    button.title = tooMany ? `This is more than the service can write: choose fewer rows${withPdfs && format !== "qp" ? ", no PDFs," : ""} or CSV.` : (button.dataset.title ?? "");
  }
}

for (const id of ["download-rows", "with-pdfs"]) $(id).addEventListener("change", offerDownloads);
