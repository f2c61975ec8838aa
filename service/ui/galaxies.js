// The galaxies of a file, and what is known about them so far.

import { service } from "./service.js";

const REQUEST_BYTES = 16 * 1024 * 1024;

const MOST_TEXT = 256; // bytes of a text in a column of the file
const NAME = /^[A-Za-z]\w{0,60}$/; // of a column, in every format

export const NOT_PREDICTED = "not predicted";

export class Galaxies {
  /** Bit, name and meaning of each flag; the service says them. */
  static flags = [];
  static mostEbv = Infinity;

  /** Whether the images of a file can be sent as they are. */
  static fits({ images }, { size, bands }) {
    const shape = images?.shape ?? [];
    return Boolean(images?.readable && !images.swapped && !images.text && shape.length === 4 && shape[1] === size && shape[2] === size && shape[3] === bands.length && images.kind.datatype !== "BOOL");
  }

  static async of(arrays, card) {
    const made = new Galaxies(), { images } = arrays;
    made.images = images;
    made.n = images.shape[0];
    const column = async (name) => {
      if (!arrays[name]?.readable || arrays[name].text || arrays[name].shape[0] !== made.n) return null;
      const values = Float64Array.from(await arrays[name].numbers());
      return values.some(Number.isFinite) ? values : null; // none is known
    };
    [made.ebv, made.zSpec, made.ra, made.dec] = await Promise.all(["ebv", "z_spec", "ra", "dec"].map(column));
    if (arrays.object_id?.kind?.datatype?.startsWith("FP")) throw new Error("object_id holds floating-point numbers, which lose digits: write it as integers or text.");
    made.names = arrays.object_id?.readable && arrays.object_id.shape[0] === made.n ? await arrays.object_id.strings() : Array.from({ length: made.n }, (_, row) => String(row));
    const names = new Set(["images", "ra", "dec", "z_spec", "pdf", "z_edges", ...service.columns]); // those that are written anyway
    const isOther = ([name, { readable, shape, text, kind }]) => {
      const fits = readable && shape.length === 1 && shape[0] === made.n && (name === "object_id" || !text || kind.size <= MOST_TEXT);
      return fits && NAME.test(name) && !names.has(name.toLowerCase()) && names.add(name.toLowerCase());
    };
    made.others = Object.fromEntries(Object.entries({ object_id: arrays.object_id, ...arrays }).filter(([, array]) => array).filter(isOther));
    made.nBins = card.grid.n_bins;
    made.atOnce = Math.max(1, Math.min(256, Math.floor(REQUEST_BYTES / images.rowBytes)));
    made.done = 0; // rows from the first on that have estimates, or a reason why not
    made.reasons = new Map(); // by row
    made.columns = {};
    return made;
  }

  /** Predict the next rows with `infer(rows)`; those that the service refuses get a reason instead. */
  async predictNext(infer) {
    const rows = Array.from({ length: Math.min(this.atOnce, this.n - this.done) }, (_, at) => this.done + at);
    await this.predict(rows, infer);
    this.done += rows.length;
  }

  async predict(rows, infer) {
    if (!rows.length) return;
    try {
      this.add(rows, await infer(rows));
    } catch (error) {
      if (error.status !== 400) throw error; // not because of a row
      const known = await this.refusals(rows);
      for (const [row, reason] of known) this.reasons.set(row, reason);
      if (known.size) return this.predict(rows.filter((row) => !known.has(row)), infer);
      if (rows.length === 1) return this.reasons.set(rows[0], error.message.replace(/(cutout|galaxy) 0\b/, "the $1"));
      const half = Math.ceil(rows.length / 2);
      await this.predict(rows.slice(0, half), infer);
      await this.predict(rows.slice(half), infer);
    }
  }

  /** Why rows cannot be predicted, by row, where the page can tell: no pixel is finite in single precision, or E(B-V). */
  async refusals(rows) {
    const [first, last] = [rows[0], rows.at(-1) + 1], pixels = await this.images.numbers(first, last), size = pixels.length / (last - first);
    const found = new Map();
    for (const row of rows) {
      const start = (row - first) * size, ebv = this.ebv?.[row];
      if (!pixels.subarray(start, start + size).some((value) => Number.isFinite(Math.fround(value)))) found.set(row, "no finite pixel");
      else if (ebv < 0 || ebv > Galaxies.mostEbv) found.set(row, `E(B-V) of ${ebv} mag, not 0 to ${Galaxies.mostEbv}`);
    }
    return found;
  }

  add(rows, found) {
    for (const [name, values] of Object.entries(found)) {
      const width = name === "pdf" ? this.nBins : 1;
      this.columns[name] ??= new values.constructor(this.n * width).fill(name === "pdf" ? 0 : NaN);
      rows.forEach((row, at) => this.columns[name].set(values.subarray(at * width, (at + 1) * width), row * width));
    }
  }

  /** The residual of z_mean. */
  dz(row) {
    return (this.value("z_mean", row) - this.zSpec[row]) / (1 + this.zSpec[row]);
  }

  value(name, row) {
    return this.columns[name]?.[row] ?? NaN;
  }

  pdf(row) {
    return this.columns.pdf?.subarray(row * this.nBins, (row + 1) * this.nBins) ?? new Float32Array(this.nBins);
  }

  /** The flags of a galaxy, [name, meaning] each, or why it has no estimates. */
  words(row) {
    if (this.reasons.has(row)) return [[this.reasons.get(row), NOT_PREDICTED]];
    return Galaxies.flags.filter(([bit]) => this.value("flags", row) & bit).map(([, name, meaning]) => [name, meaning]);
  }

  /** What the plot of p(z) shows of a galaxy. */
  curve(row) {
    const value = (name) => this.value(name, row);
    const lines = { mean: value("z_mean"), median: value("z_median"), mode: value("z_mode"), z_spec: this.zSpec?.[row] };
    const intervals = this.reasons.has(row) ? [] : [[value("z_lo95"), value("z_hi95")], [value("z_lo68"), value("z_hi68")]];
    return { name: this.names[row], pdf: this.pdf(row), lines, intervals };
  }

  /** The pixels of a cutout. */
  pixels(row) {
    return this.images.numbers(row, row + 1);
  }
}
