// What the parts of the page share.

export const $ = (id) => document.getElementById(id);

/**
 * `source` has the arrays of `file`, `shown` are the rows that meet the filter, `wanted` is the row to choose first, and
 * `choose(row)` shows a galaxy in every view.
 */
export const state = { card: null, formats: null, limits: null, file: null, source: null, assumed: "", galaxies: null, shown: [], chosen: null, wanted: null, pinned: [], choose: null };

/** An element with properties and children, which may be text. */
export function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function fixed(value, digits) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

/** Offer content as a file to save. */
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
