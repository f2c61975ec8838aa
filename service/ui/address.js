// The tab, the galaxy and the filter in the page's address, so that back, forward and bookmarks work.

import { $, state } from "./state.js";

const FILTER = { name: "filter-name", flag: "filter-flag", from: "filter-low", to: "filter-high" };
const APART = 1000; // ms between entries of the history: arrow keys pass many galaxies
let changed = -APART, isFirstFile = true;

const parts = () => new URLSearchParams(location.hash.slice(1));

/** Write what is shown to the address, as a new entry of the history or instead of the last. */
export function writeAddress(replaces = false) {
  const { galaxies, chosen } = state, shown = galaxies ? new URLSearchParams() : parts();
  const tab = document.querySelector("[role='tab'][aria-selected='true']").getAttribute("aria-controls");
  if (tab === "redshifts") shown.delete("tab");
  else shown.set("tab", tab);
  if (chosen !== null) shown.set("galaxy", galaxies.names[chosen]);
  for (const [part, id] of Object.entries(FILTER)) if (galaxies && $(id).value && $(id).value !== "any") shown.set(part, $(id).value);
  if (String(shown) === String(parts())) return;
  const method = replaces || performance.now() - changed < APART ? "replaceState" : "pushState";
  history[method](null, "", String(shown) ? `#${shown}` : location.pathname);
  changed = performance.now();
}

/** Show the tab that the address names. */
export function readTab(showTab) {
  const tab = $(`tab-${parts().get("tab") ?? "redshifts"}`);
  if (tab) showTab(tab);
}

/** Set the filter as the address says, and return the row of the galaxy that it names, or null. */
export function readAddress() {
  const { galaxies } = state, address = parts(), row = galaxies.names.indexOf(address.get("galaxy"));
  for (const [part, id] of Object.entries(FILTER)) $(id).value = address.get(part) ?? (part === "flag" ? "any" : "");
  return row < 0 ? null : row;
}

/** The same for a file that was just opened: the address is about the first only. */
export function readAddressOfFile() {
  const row = isFirstFile ? readAddress() : null;
  if (!isFirstFile) writeAddress(true);
  isFirstFile = false;
  return row;
}
