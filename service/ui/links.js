// Links to what other sites show at a position on the sky. Nothing is sent to them before a click.

import { make } from "./state.js";

const SITES = {
  "Legacy Surveys": (ra, dec) => `https://www.legacysurvey.org/viewer?ra=${ra}&dec=${dec}&layer=ls-dr10&zoom=15&mark=${ra},${dec}`,
  SkyServer: (ra, dec) => `https://skyserver.sdss.org/dr18/VisualTools/navi?ra=${ra}&dec=${dec}&scale=0.2`,
  "Aladin Lite": (ra, dec) => `https://aladin.cds.unistra.fr/AladinLite/?target=${encodeURIComponent(`${ra} ${dec}`)}&fov=0.03`,
};

/** Links for a position in degrees, ICRS; none if it is not known. */
export function skyLinks(ra, dec) {
  if (!Number.isFinite(ra) || !Number.isFinite(dec)) return [];
  return Object.entries(SITES).map(([name, url]) => make("a", { href: url(ra.toFixed(6), dec.toFixed(6)), target: "_blank", rel: "noreferrer" }, name));
}
