// What the parts of the page share.

export const $ = (id) => document.getElementById(id);

/** `choose(row)` shows a galaxy in every view. */
export const state = { card: null, formats: null, limits: null, file: null, galaxies: null, shown: [], chosen: null, pinned: [], choose: null };

export function fixed(value, digits) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}
