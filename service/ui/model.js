// The model card in words.

import { make } from "./state.js";

function list(pairs) {
  return make("dl", {}, ...pairs.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function scoreTable(scores) {
  const metrics = [...new Set(Object.values(scores).flatMap((found) => Object.keys(found)))];
  const head = make("tr", {}, ...["method", ...metrics].map((name) => make("th", { scope: "col" }, name)));
  const rows = Object.entries(scores).map(([method, found]) =>
    make("tr", {}, make("td", {}, method), ...metrics.map((name) => make("td", {}, found[name] ? `${found[name].value.toFixed(4)} ± ${found[name].error.toFixed(4)}` : ""))),
  );
  return make("div", { className: "wide", tabIndex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

const QUANTITIES = { z_mean: "z_mean", z_width68: "width of the 68 % interval", ood_score: "ood_score" };

/** How far the estimates since the start are from those of the reference galaxies: the largest difference of the fractions. */
function drift(metrics) {
  const read = (name) => [...metrics.matchAll(new RegExp(`^${name}\\{le="([^"]+)",quantity="(\\w+)"\\} (\\S+)`, "gm"))];
  const counts = new Map([...metrics.matchAll(/^photoz_estimates_count\{quantity="(\w+)"\} (\S+)/gm)].map(([, quantity, n]) => [quantity, Number(n)]));
  const seen = new Map(read("photoz_estimates_bucket").map(([, le, quantity, n]) => [`${quantity} ${Number(le)}`, Number(n)]));
  const most = new Map();
  for (const [, le, quantity, fraction] of read("photoz_reference_fraction")) {
    const n = counts.get(quantity);
    if (n) most.set(quantity, Math.max(most.get(quantity) ?? 0, Math.abs(seen.get(`${quantity} ${Number(le)}`) / n - Number(fraction))));
  }
  return [...most].map(([quantity, distance]) => [QUANTITIES[quantity] ?? quantity, `${distance.toFixed(3)} of ${counts.get(quantity).toLocaleString("en")} galaxies`]);
}

/** Show the card, and from the metrics how far the estimates of late are from those of the test galaxies. */
export function showCard(parent, card, metrics) {
  const { image, grid, training, test, inputs, architecture } = card;
  const drifted = drift(metrics);
  const ebv = !inputs.ebv ? "not used" : inputs.ebv_assumed === null ? "used; where it is not given, p(z) is broader" : `used; where it is not given, ${inputs.ebv_assumed} mag`;
  parent.replaceChildren(
    make("h2", {}, `${card.name} ${card.version}`),
    list([
      ["made", new Date(card.created).toISOString().slice(0, 10)],
      ["takes", `cutouts of ${image.size}x${image.size} pixels of ${image.pixel_scale} arcsec, bands ${image.bands.join(", ")}, in ${image.unit}`],
      ["E(B-V)", ebv],
      ["gives", `p(z) in ${grid.n_bins} bins from 0 to ${grid.z_max}`],
      ["network", `${architecture.name}, ${architecture.parameters.toLocaleString("en")} parameters`],
      ["trained on", `${training.n_train.toLocaleString("en")} galaxies of ${training.z_range[0].toFixed(3)} < z < ${training.z_range[1].toFixed(3)}: ${training.data}`],
      ["licence", card.licence],
    ]),
    ...(card.caveats.length ? [make("h2", {}, "Limits"), make("ul", {}, ...card.caveats.map((caveat) => make("li", {}, caveat)))] : []),
    ...(test ? [make("h2", {}, "Scores"), make("p", {}, `of ${test.n_galaxies.toLocaleString("en")} galaxies: ${test.data}`), scoreTable(test.scores)] : []),
    ...(drifted.length
      ? [make("h2", {}, "Drift"), make("p", {}, "Largest difference between the cumulative distributions of what was asked since the service started and of the galaxies of the card: 0 is none, 1 is the most."), list(drifted)]
      : []),
  );
}
