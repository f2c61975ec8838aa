// Lines to copy to a shell or to Python, which do with a file what the page does; names of files are quoted.

const PLAIN = /^[\w@%+=:,./-]+$/;
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu; // control characters, line ends and marks of direction

/** A word of a command line for bash, zsh and other shells that know $'', which holds control characters as octal. */
export function shell(text) {
  if (PLAIN.test(text)) return text;
  if (text.search(UNSEEN) < 0) return `'${text.replaceAll("'", "'\\''")}'`;
  const octal = (char) => [...new TextEncoder().encode(char)].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
  return `$'${text.replace(/[\\']/g, "\\$&").replace(UNSEEN, octal)}'`;
}

/** A string of Python. */
export function python(text) {
  return JSON.stringify(text).replace(UNSEEN, (char) => `\\U${char.codePointAt(0).toString(16).padStart(8, "0")}`);
}

/** The name of a file as an argument, which would be an option if it began with a dash. */
const pathOf = (name) => (name.startsWith("-") ? `./${name}` : name);

export function predictionCode(name, url) {
  const path = pathOf(name);
  return `curl --data-binary ${shell(`@${path}`)} -H 'Accept: application/fits' -o redshifts.fits ${shell(`${url}/predict_file?pdf=true`)}

photoz predict ${shell(path)} --url ${shell(url)} --pdf -o redshifts.fits     # or .vot, .csv, .parquet, .qp.hdf5

from photoz.io.reader import open_cutouts
from photoz_client import PhotozClient

with open_cutouts(${python(path)}) as cutouts, PhotozClient(${python(url)}) as client:
    result = client.predict(cutouts.images, ebv=cutouts.columns.get("ebv"), pdf=True)
result.write("redshifts.fits")`;
}

export function evaluationCode(name, url) {
  const path = pathOf(name);
  return `curl --data-binary ${shell(`@${path}`)} ${shell(`${url}/evaluate`)}
curl --data-binary ${shell(`@${path}`)} -o scatter.png ${shell(`${url}/evaluate?plot=scatter`)}

photoz evaluate ${shell(path)} --url ${shell(url)} --report report.html`;
}
