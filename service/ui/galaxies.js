// The galaxies of a file, and what is known about them so far.

const REQUEST_BYTES = 16 * 1024 * 1024;

export class Galaxies {
  /** Bit, name and meaning of each flag; the service says them. */
  static flags = [];

  /** Whether the images of a file can be sent as they are. */
  static fits({ images }, { size, bands }) {
    const shape = images?.shape ?? [];
    return Boolean(images?.readable && !images.text && shape.length === 4 && shape[1] === size && shape[2] === size && shape[3] === bands.length && images.kind.datatype !== "BOOL");
  }

  static async of(arrays, card) {
    const made = new Galaxies(), { images } = arrays;
    made.images = images;
    made.n = images.shape[0];
    const column = async (name) => {
      if (!arrays[name]?.readable || arrays[name].shape[0] !== made.n) return null;
      const values = Float64Array.from(await arrays[name].numbers());
      return values.some(Number.isFinite) ? values : null; // none is known
    };
    [made.ebv, made.zSpec, made.ra, made.dec] = await Promise.all(["ebv", "z_spec", "ra", "dec"].map(column));
    if (arrays.object_id?.kind?.datatype?.startsWith("FP")) throw new Error("object_id holds floating-point numbers, which lose digits: write it as integers or text.");
    made.names = arrays.object_id?.shape[0] === made.n ? await arrays.object_id.strings() : Array.from({ length: made.n }, (_, row) => String(row));
    made.nBins = card.grid.n_bins;
    made.atOnce = Math.max(1, Math.min(256, Math.floor(REQUEST_BYTES / images.rowBytes)));
    made.done = 0;
    made.columns = {};
    return made;
  }

  /** Add the estimates of the next rows. */
  add(found) {
    const rows = found.z_mean.length;
    for (const [name, values] of Object.entries(found)) {
      this.columns[name] ??= new values.constructor(name === "pdf" ? this.n * this.nBins : this.n);
      this.columns[name].set(values, this.done * (name === "pdf" ? this.nBins : 1));
    }
    this.done += rows;
  }

  value(name, row) {
    return this.columns[name][row];
  }

  pdf(row) {
    return this.columns.pdf.subarray(row * this.nBins, (row + 1) * this.nBins);
  }

  /** What the plot of p(z) shows of a galaxy. */
  curve(row) {
    const value = (name) => this.value(name, row);
    const lines = { mean: value("z_mean"), median: value("z_median"), mode: value("z_mode"), z_spec: this.zSpec?.[row] };
    const intervals = [[value("z_lo95"), value("z_hi95")], [value("z_lo68"), value("z_hi68")]];
    return { name: this.names[row], pdf: this.pdf(row), lines, intervals };
  }

  /** The pixels of a cutout. */
  pixels(row) {
    return this.images.numbers(row, row + 1);
  }

  /** All estimates as a .csv file, as the service writes it; a column of the file in which no value is known is left out. */
  toCsv(pdf) {
    const names = Object.keys(this.columns).filter((name) => name !== "pdf");
    const passed = Object.entries({ ra: this.ra, dec: this.dec, z_spec: this.zSpec }).filter(([, values]) => values);
    const bins = pdf ? Array.from({ length: this.nBins }, (_, bin) => `pdf_${bin}`) : [];
    const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const lines = [["object_id", ...passed.map(([name]) => name), ...names, ...bins].join(",")];
    for (let row = 0; row < this.done; row += 1) {
      const numbers = [...passed.map(([, values]) => values[row]), ...names.map((name) => this.value(name, row))];
      const values = numbers.map((value) => (Number.isNaN(value) ? "" : value));
      lines.push([quoted(this.names[row]), ...values, ...(pdf ? this.pdf(row) : [])].join(","));
    }
    return new Blob([lines.join("\n"), "\n"], { type: "text/csv" });
  }
}

/** The names and meanings of the flags of a galaxy. */
export function words(flags) {
  return Galaxies.flags.filter(([bit]) => flags & bit).map(([, name, meaning]) => [name, meaning]);
}
