// The first screen: what the model says of the sample's galaxies, and what it was trained on.

import { Galaxies } from "./galaxies.js";
import { openArrays } from "./npz.js";
import { service } from "./service.js";
import { $, fixed, make, state } from "./state.js";
import { draw, rgbBands, sparkline } from "./thumbnails.js";

export async function sampleFile() {
  return new File([await (await service.ask("ui/sample.npz")).blob()], "sample.npz");
}

/** Show the caveats of the model, and an answer for each galaxy of the sample if the model takes it; a click calls `open(row)`. */
export async function welcome(open) {
  const { card } = state, { training, caveats } = card, [low, high] = training.z_range.map((z) => z.toFixed(2));
  $("caveats").textContent = [...caveats, `Its training galaxies have redshifts from ${low} to ${high}.`].join(" ");
  $("caveats").hidden = false;
  if ($("sample").hidden || $("answers").children.length) return;
  const galaxies = await Galaxies.of(await openArrays(await sampleFile()), card);
  await galaxies.predictNext((rows) => service.infer(card, galaxies, rows));
  const cards = await Promise.all(galaxies.names.map((_, row) => answer(galaxies, row)));
  cards.forEach((button, row) => button.addEventListener("click", () => open(row)));
  $("answers").replaceChildren(...cards);
  $("answered").hidden = false;
}

async function answer(galaxies, row) {
  const { image: { size, bands }, grid } = state.card;
  const canvas = make("canvas"), z = `z = ${fixed(galaxies.value("z_mean", row), 3)} ± ${fixed(galaxies.value("z_std", row), 3)}`;
  draw(canvas, await galaxies.pixels(row), size, bands.length, rgbBands(bands));
  canvas.setAttribute("aria-hidden", true);
  const button = make("button", { title: `Open the sample with ${galaxies.names[row]}` }, canvas, sparkline(galaxies.pdf(row), galaxies.zSpec?.[row], grid.z_max), make("b", {}, z));
  if (galaxies.zSpec) button.append(make("span", { className: "true" }, `z_spec ${fixed(galaxies.zSpec[row], 3)}`));
  return button;
}
