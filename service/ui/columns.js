// The columns of the list of galaxies, and the menu that chooses them.

import { $, fixed, make, state } from "./state.js";

const WIDEST_NAME = 30; // characters in a line
const SHOWN = ["object_id", "z_mean", "interval", "odds", "z_spec", "flags", "ra", "dec"]; // unless others are chosen
const KEPT = "columns"; // in the browser's storage

export const inWords = (name) => name.toLowerCase().replaceAll("_", " ");

/** The flags of a galaxy in words, or why it has no estimates. */
function chips(row) {
  const refused = state.galaxies.reasons.has(row);
  return state.galaxies.words(row).map(([name, meaning]) => {
    const text = refused ? `${name}: ${meaning}` : inWords(name);
    return make("span", { className: "chip", title: refused ? text : `${name}: ${meaning}` }, text);
  });
}

/** All columns that the galaxies have, as `GalaxyTable` takes them. */
function columnsOf(galaxies) {
  const inDiv = (fill) => (cell, row) => fill(cell.appendChild(make("div")), row);
  const text = (name, digits) => (row) => (galaxies.reasons.has(row) ? "" : fixed(galaxies.value(name, row), digits));
  const number = (name, value, digits) => ({ name, title: name, value, fill: (cell, row) => (cell.textContent = fixed(value(row), digits)) });
  const estimate = (name, digits) => ({ name, title: name, value: (row) => galaxies.value(name, row), fill: (cell, row) => (cell.textContent = text(name, digits)(row)) });
  const ofFile = (name, values, digits) => (values ? [number(name, (row) => values[row], digits)] : []);
  const low = text("z_lo68", 3), high = text("z_hi68", 3);
  const longest = galaxies.names.reduce((most, name) => Math.max(most, name.length), 5);
  return [
    { name: "object_id", title: "name", width: `${8 * Math.min(WIDEST_NAME, longest) + 24}px`, value: (row) => galaxies.names[row], fill: inDiv((cell, row) => (cell.textContent = cell.title = galaxies.names[row])) },
    estimate("z_mean", 4),
    estimate("z_median", 4),
    estimate("z_mode", 4),
    estimate("z_std", 4),
    { name: "interval", title: "68 % interval", value: (row) => galaxies.value("z_hi68", row) - galaxies.value("z_lo68", row), fill: (cell, row) => (cell.textContent = low(row) && `${low(row)} to ${high(row)}`) },
    estimate("odds", 3),
    estimate("ood_score", 2),
    ...ofFile("z_spec", galaxies.zSpec, 4),
    ...(galaxies.zSpec ? [{ ...number("dz", (row) => galaxies.dz(row), 4), value: (row) => Math.abs(galaxies.dz(row)) }] : []), // sorted by size
    { name: "flags", title: "flags", value: (row) => (galaxies.reasons.has(row) ? Infinity : galaxies.value("flags", row)), fill: inDiv((cell, row) => cell.append(...chips(row))) },
    ...ofFile("ra", galaxies.ra, 5),
    ...ofFile("dec", galaxies.dec, 5),
    ...ofFile("ebv", galaxies.ebv, 3),
  ];
}

/** The columns that are chosen; a menu of check boxes calls `change` when others are. */
export function chosenColumns(galaxies, change) {
  const all = columnsOf(galaxies), shown = new Set(JSON.parse(localStorage.getItem(KEPT)) ?? SHOWN);
  $("columns").replaceChildren(
    ...all.map(({ name, title }) => {
      const box = make("input", { type: "checkbox", checked: shown.has(name), disabled: name === "object_id" });
      box.addEventListener("change", () => {
        if (box.checked) shown.add(name);
        else shown.delete(name);
        localStorage.setItem(KEPT, JSON.stringify([...shown]));
        change(all.filter((column) => shown.has(column.name)));
      });
      return make("label", {}, box, ` ${title}`);
    }),
  );
  return all.filter((column) => shown.has(column.name));
}
