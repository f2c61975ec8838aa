// Requests to the service that sent this page.

const ARRAYS = { FP32: Float32Array, FP64: Float64Array, INT32: Int32Array };
const ATTEMPTS = 4;
const BYTES = { "Content-Type": "application/octet-stream" }; // a browser would name a type by the file's name

/** What went wrong, in the words of the service. */
export class ServiceError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

class Service {
  key = ""; // in memory only
  columns = []; // of the estimates
  onWait = () => {};

  /** Ask, again while the service is full; throws ServiceError. */
  async ask(path, options = {}) {
    const headers = { ...options.headers, ...(this.key ? { Authorization: `Bearer ${this.key}` } : {}) };
    for (let attempt = 1; ; attempt += 1) {
      let answer;
      try {
        answer = await fetch(path, { ...options, headers });
      } catch {
        throw new ServiceError("The service does not answer. Is it still running?");
      }
      if (answer.ok) return answer;
      const text = await answer.text();
      if ((answer.status !== 429 && answer.status !== 503) || attempt === ATTEMPTS) throw new ServiceError(words(text, answer), answer.status);
      const seconds = Math.min(Number(answer.headers.get("Retry-After")) || attempt, 10);
      this.onWait(`The service is busy: trying again in ${seconds} s.`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    }
  }

  async model() {
    return (await this.ask("model")).json();
  }

  /** The flags in words, and whether positions on the sky can be looked up. */
  async options() {
    return (await this.ask("ui/options.json")).json();
  }

  /** The cutout at a position on the sky, or of an object by its name, as a .npz file. */
  async sky(position) {
    const headers = { "Content-Type": "application/json" };
    return (await this.ask("sky", { method: "POST", headers, body: JSON.stringify({ position }) })).blob();
  }

  async metrics() {
    return (await this.ask("metrics")).text();
  }

  /** Any file of cutouts as a .npz file in the layout of the model, and what was assumed of it. */
  async convert(file) {
    const answer = await this.ask("cutouts", { method: "POST", headers: BYTES, body: file });
    return { blob: await answer.blob(), assumed: answer.headers.get("x-photoz-assumed") ?? "" };
  }

  /** Estimates of some rows, by column; https://github.com/kserve/open-inference-protocol with binary tensors. */
  async infer(card, { images, ebv }, rows) {
    const n = rows.length, pixels = images.pick(rows);
    const tensors = [{ name: "images", shape: [n, ...images.shape.slice(1)], datatype: images.kind.datatype, bytes: pixels }];
    if (ebv) tensors.push({ name: "ebv", shape: [n], datatype: "FP32", bytes: new Blob([Float32Array.from(rows, (row) => ebv[row])]) });
    const inputs = tensors.map(({ bytes, ...input }) => ({ ...input, parameters: { binary_data_size: bytes.size } }));
    const outputs = this.columns.map((name) => ({ name, parameters: { binary_data: true } }));
    const json = JSON.stringify({ inputs, outputs });
    const head = new TextEncoder().encode(json.padEnd(8 * Math.ceil(json.length / 8)));
    const answer = await this.ask(`v2/models/${encodeURIComponent(card.name)}/infer`, {
      method: "POST",
      headers: { "Inference-Header-Content-Length": head.length, ...BYTES },
      body: new Blob([head, ...tensors.map(({ bytes }) => bytes)]),
    });
    const { version, columns } = decodeTensors(await answer.arrayBuffer(), Number(answer.headers.get("Inference-Header-Content-Length")));
    if (version !== card.version) throw new ServiceError(`The service now has another model, version ${version}. Load the page and the file again.`, 409);
    return columns;
  }

  /** An evaluation, as JSON, HTML or a plot. */
  async evaluate(body, accept, plot = "") {
    const headers = { Accept: accept, "Content-Type": "application/x-npz" };
    return this.ask(`evaluate${plot ? `?plot=${plot}` : ""}`, { method: "POST", headers, body });
  }

  /** The path at which other programs find such a table for some minutes. */
  async share(body, accept, about) {
    return JSON.parse(await (await this.table(body, accept, { ...about, share: true })).text()).path;
  }

  /** Columns in a .npz file as a table in another format, which says of itself what `about` does. */
  async table(body, accept, about) {
    return (await this.ask(`table?${new URLSearchParams(about)}`, { method: "POST", headers: { ...BYTES, Accept: accept }, body })).blob();
  }
}

export const service = new Service();

function words(text, answer) {
  try {
    return JSON.parse(text).error;
  } catch {
    return `The service answered ${answer.status} ${answer.statusText}.`;
  }
}

function decodeTensors(buffer, headerLength) {
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 0, headerLength)));
  let at = headerLength;
  const columns = Object.fromEntries(
    head.outputs.map(({ name, datatype, parameters }) => {
      const bytes = buffer.slice(at, (at += parameters.binary_data_size));
      return [name, new ARRAYS[datatype](bytes)];
    }),
  );
  return { version: head.model_version, columns };
}
