// Reads .npy and .npz files in pieces, and writes .npz files. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

const KINDS = {
  f2: { size: 2, datatype: "FP16" },
  f4: { size: 4, datatype: "FP32", array: Float32Array },
  f8: { size: 8, datatype: "FP64", array: Float64Array },
  i1: { size: 1, datatype: "INT8", array: Int8Array },
  u1: { size: 1, datatype: "UINT8", array: Uint8Array },
  b1: { size: 1, datatype: "BOOL", array: Uint8Array },
  i2: { size: 2, datatype: "INT16", array: Int16Array },
  u2: { size: 2, datatype: "UINT16", array: Uint16Array },
  i4: { size: 4, datatype: "INT32", array: Int32Array },
  u4: { size: 4, datatype: "UINT32", array: Uint32Array },
  i8: { size: 8, datatype: "INT64", array: BigInt64Array },
  u8: { size: 8, datatype: "UINT64", array: BigUint64Array },
};

/** An array in a file, of which rows are read when they are wanted. */
export class ArrayFile {
  /** @param {Blob} blob the bytes of a .npy file */
  static async open(blob) {
    const start = new DataView(await blob.slice(0, 12).arrayBuffer());
    if (start.byteLength < 10 || start.getUint32(0) !== 0x934e554d) throw new Error("not a .npy file");
    const [offset, length] = start.getUint8(6) > 1 ? [12, start.getUint32(8, true)] : [10, start.getUint16(8, true)];
    const header = await blob.slice(offset, offset + length).text();
    const descr = header.match(/'descr':\s*'([^']+)'/)?.[1];
    const shape = header.match(/'shape':\s*\(([^)]*)\)/)?.[1].split(",").filter((part) => part.trim()).map(Number);
    if (!descr || !shape) throw new Error("an array of a type that this page cannot read");
    const array = new ArrayFile(blob.slice(offset + length), descr, shape, /'fortran_order':\s*True/.test(header));
    if (array.data.size < array.rowBytes * (shape[0] ?? 1)) throw new Error("an array that ends too early");
    return array;
  }

  constructor(data, descr, shape, fortran) {
    this.data = data;
    this.descr = descr;
    this.shape = shape;
    this.text = /^[<>|][US]\d+$/.test(descr);
    this.kind = this.text ? { size: Number(descr.slice(2)) * (descr[1] === "U" ? 4 : 1) } : KINDS[descr.slice(1)];
    this.utf32 = descr[1] === "U";
    this.swapped = descr[0] === ">";
    this.readable = Boolean(this.kind) && !(fortran && shape.length > 1);
    this.rowBytes = this.kind ? this.kind.size * shape.slice(1).reduce((a, b) => a * b, 1) : 0;
  }

  /** The bytes of some rows. */
  rows(first, last) {
    return this.data.slice(first * this.rowBytes, last * this.rowBytes);
  }

  /** The bytes of rows that are listed in ascending order. */
  pick(rows) {
    const runs = [];
    for (const row of rows) {
      if (runs.at(-1)?.[1] === row) runs.at(-1)[1] += 1;
      else runs.push([row, row + 1]);
    }
    return new Blob(runs.map(([first, last]) => this.rows(first, last)));
  }

  /** The bytes of some rows, each number in the order of this computer. */
  async bytes(first, last) {
    const bytes = await this.rows(first, last).arrayBuffer(), size = this.utf32 ? 4 : this.kind.size;
    if (this.swapped) for (let at = 0; at < bytes.byteLength; at += size) new Uint8Array(bytes, at, size).reverse();
    return bytes;
  }

  /** The rows of a column that are listed, as `npzBlob` takes them. */
  async column(rows) {
    const all = new Uint8Array(await this.data.arrayBuffer()), size = this.rowBytes, array = new Uint8Array(rows.length * size);
    rows.forEach((row, at) => array.set(all.subarray(row * size, (row + 1) * size), at * size));
    return { array, shape: [rows.length], descr: this.descr };
  }

  /** Some rows as numbers. */
  async numbers(first = 0, last = this.shape[0] ?? 1) {
    const bytes = await this.bytes(first, last);
    if (this.kind.datatype === "FP16") return Float32Array.from(new Uint16Array(bytes), half);
    const values = new this.kind.array(bytes);
    return typeof values[0] === "bigint" ? Float64Array.from(values, Number) : values;
  }

  /** A column as text. */
  async strings() {
    const bytes = await this.bytes(0, this.shape[0]);
    if (this.kind.datatype === "BOOL") return Array.from(new Uint8Array(bytes), (value) => (value ? "True" : "False"));
    if (this.kind.datatype?.endsWith("64")) return Array.from(new this.kind.array(bytes), decimal);
    if (!this.text) return Array.from(await this.numbers(), decimal);
    const decode = (start) => {
      if (!this.utf32) return new TextDecoder().decode(new Uint8Array(bytes, start, this.kind.size)).replace(/\0+$/, "");
      const codes = new Uint32Array(bytes.slice(start, start + this.kind.size));
      return String.fromCodePoint(...codes.filter((code) => code));
    };
    return Array.from({ length: this.shape[0] }, (_, row) => decode(row * this.kind.size));
  }
}

/** A number as text, as Python's; empty if it is unknown. */
export function decimal(value) {
  return Number.isNaN(value) ? "" : String(value).replace("Infinity", "inf");
}

/** A number of half precision from its bits. */
function half(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The arrays of a .npy file, then called `images`, or of a .npz file, by name. */
export async function openArrays(file) {
  const magic = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (magic[0] === 0x93) return { images: await ArrayFile.open(file) };
  if (magic[0] !== 0x50 || magic[1] !== 0x4b) throw new Error("neither .npy nor .npz");
  const found = {};
  for (const { name, blob } of await entries(file)) found[name.replace(/\.npy$/, "")] = await ArrayFile.open(blob);
  return found;
}

async function entries(file) {
  const tail = new DataView(await file.slice(Math.max(0, file.size - 65557)).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error("a .npz file that ends too early");
  const count = tail.getUint16(end + 10, true), size = tail.getUint32(end + 12, true), offset = tail.getUint32(end + 16, true);
  if (offset === 0xffffffff) throw new Error("a .npz file of more than 4 GB");
  const directory = new DataView(await file.slice(offset, offset + size).arrayBuffer());
  const found = [];
  for (let at = 0, number = 0; number < count; number += 1) {
    const method = directory.getUint16(at + 10, true);
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((place) => directory.getUint16(at + place, true));
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, at + 46, nameLength));
    const packed = packedSize(directory, at, nameLength, extraLength), local = directory.getUint32(at + 42, true);
    const head = new DataView(await file.slice(local, local + 30).arrayBuffer());
    const start = local + 30 + head.getUint16(26, true) + head.getUint16(28, true);
    const blob = file.slice(start, start + packed);
    found.push({ name, blob: method ? await inflate(blob) : blob });
    at += 46 + nameLength + extraLength + commentLength;
  }
  return found;
}

/** numpy writes sizes of 64 bits, in the extra field. */
function packedSize(directory, at, nameLength, extraLength) {
  const size = directory.getUint32(at + 20, true);
  if (size !== 0xffffffff) return size;
  const end = at + 46 + nameLength + extraLength;
  for (let place = at + 46 + nameLength; place < end; place += 4 + directory.getUint16(place + 2, true)) {
    const both = directory.getUint32(at + 24, true) === 0xffffffff;
    if (directory.getUint16(place, true) === 1) return Number(directory.getBigUint64(place + (both ? 12 : 4), true));
  }
  throw new Error("a .npz file without sizes");
}

async function inflate(blob) {
  return new Response(blob.stream().pipeThrough(new DecompressionStream("deflate-raw"))).blob();
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let sum = -1;
  for (const byte of bytes) sum = (sum >>> 8) ^ CRC[(sum ^ byte) & 255];
  return ~sum >>> 0;
}

const DESCR = new Map([[Float32Array, "<f4"], [Float64Array, "<f8"], [Int32Array, "<i4"]]);

function npyBytes(array, shape, descr = DESCR.get(array.constructor)) {
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  let header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${dims}), }`;
  header = header.padEnd(header.length + 63 - ((header.length + 10) % 64)) + "\n";
  const bytes = new Uint8Array(10 + header.length + array.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), 10 + header.length);
  return bytes;
}

/** Write typed arrays, or bytes of a type `descr`, `{name: {array, shape, descr}}`, as a .npz file. */
export function npzBlob(arrays) {
  const parts = [], directory = [];
  let offset = 0;
  for (const [name, { array, shape, descr }] of Object.entries(arrays)) {
    const bytes = npyBytes(array, shape, descr), file = new TextEncoder().encode(`${name}.npy`);
    const common = new DataView(new ArrayBuffer(26)); // of both headers, from "version needed" on
    common.setUint16(0, 20, true);
    common.setUint32(10, crc32(bytes), true);
    common.setUint32(14, bytes.length, true);
    common.setUint32(18, bytes.length, true);
    common.setUint16(22, file.length, true);
    const place = new DataView(new ArrayBuffer(14));
    place.setUint32(10, offset, true);
    parts.push(Uint8Array.of(0x50, 0x4b, 3, 4), common, file, bytes);
    directory.push(Uint8Array.of(0x50, 0x4b, 1, 2, 20, 0), common, place, file);
    offset += 30 + file.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.byteLength, 0), count = Object.keys(arrays).length;
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, count, true);
  end.setUint16(10, count, true);
  end.setUint32(12, size, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...directory, end], { type: "application/x-npz" });
}
