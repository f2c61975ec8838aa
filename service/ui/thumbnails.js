// Pictures of cutouts, RGB as by Lupton et al. 2004 (PASP 116, 133), and small plots of p(z).

import { element } from "./chart.js";

const SOFTENING = 8, STRETCH = 15; // the stretch is in units of the noise
const MASKED = [255, 0, 255, 255];

/** Which bands are red, green and blue. */
export function rgbBands(bands) {
  for (const choice of [["i", "r", "g"], ["z", "r", "g"]]) {
    const found = choice.map((band) => bands.indexOf(band));
    if (!found.includes(-1)) return found;
  }
  const last = bands.length - 1;
  return [last, Math.floor(last / 2), 0];
}

/** Draw a cutout, (size, size, n_bands) numbers, on a canvas: three of its bands, or one in grey; say whether pixels are masked. */
export function draw(canvas, pixels, size, nBands, bands, brightness = 1) {
  const colours = bands.length === 1 ? [bands[0], bands[0], bands[0]] : bands;
  const scale = colours.map((band) => brightness / (STRETCH * noise(pixels, size, nBands, band)));
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d"), image = context.createImageData(size, size);
  let isMasked = false;
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const from = ((size - 1 - y) * size + x) * nBands, to = 4 * (y * size + x); // the first row is the lowest
      if (colours.some((band) => !Number.isFinite(pixels[from + band]))) {
        image.data.set(MASKED, to);
        isMasked = true;
        continue;
      }
      const light = colours.map((band, colour) => Math.max(0, pixels[from + band] * scale[colour]));
      const mean = (light[0] + light[1] + light[2]) / 3;
      const factor = mean ? (255 * Math.asinh(SOFTENING * mean)) / (SOFTENING * mean * 0.5) : 0;
      const most = Math.max(255, ...light.map((value) => value * factor)) / 255;
      for (let colour = 0; colour < 3; colour += 1) image.data[to + colour] = (light[colour] * factor) / most;
      image.data[to + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return isMasked;
}

/** 1.4826 times the median absolute deviation of the border's pixels. */
function noise(pixels, size, nBands, band) {
  const border = [];
  for (let at = 0; at < size; at += 1) {
    for (const place of [at, (size - 1) * size + at, at * size, at * size + size - 1]) {
      const value = pixels[place * nBands + band];
      if (Number.isFinite(value)) border.push(value);
    }
  }
  const middle = median(border);
  return 1.4826 * median(border.map((value) => Math.abs(value - middle))) || 1e-6;
}

function median(values) {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

/** A small p(z), and z_spec as a line where it is known. */
export function sparkline(pdf, zSpec, zMax) {
  const svg = element("svg", { viewBox: "0 0 120 36", preserveAspectRatio: "none", class: "sparkline", "aria-hidden": true }), most = pdf.reduce((a, b) => Math.max(a, b), 1e-9);
  const points = Array.from(pdf, (mass, bin) => `${((bin + 0.5) * 120) / pdf.length},${(35 - (33 * mass) / most).toFixed(1)}`).join(" ");
  svg.append(element("polyline", { points: `0,35 ${points} 120,35`, fill: "var(--plot-1)", "fill-opacity": 0.25, stroke: "var(--plot-1)", "stroke-width": 1.5 }));
  const x = (zSpec / zMax) * 120;
  if (Number.isFinite(x)) svg.append(element("line", { x1: x, x2: x, y1: 0, y2: 36, stroke: "var(--plot-true)", "stroke-width": 1.5 }));
  return svg;
}
