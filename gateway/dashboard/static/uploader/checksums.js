/**
 * The checksum algorithms of the gateway, by the names it uses, over bytes, Blobs and parts.
 *
 * Runs in a worker as well as in a page. Values are base64 of the big-endian bytes, as S3 writes
 * them. A Blob is read as a stream: memory does not grow with its size.
 */

import { crc32, crc32c, crc64nvme, POLYNOMIALS } from "./crc.js";
import { Md5, Sha256 } from "./hashes.js";

export const ALGORITHMS = {
  crc64nvme,
  crc32c,
  crc32,
  sha256: () => new Sha256(),
};

/** What the browser's own SHA-256 is given in one piece, since it cannot hash a stream. */
const SUBTLE_LIMIT = 64 * 2 ** 20;

export function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Digests a Blob.
 *
 * @param {Blob} blob
 * @param {string} algorithm a key of ALGORITHMS
 * @param {{md5?: boolean}} options whether to compute the MD5 in the same reading
 * @returns {Promise<{checksum: string, md5: string | null}>} base64, and hex or null
 * @throws {DOMException} NotReadableError when the file on disk changed or went away
 */
export async function digestBlob(blob, algorithm, { md5 = false } = {}) {
  if (!Object.hasOwn(ALGORITHMS, algorithm)) {
    throw new RangeError(`The checksum algorithm ${algorithm} is not known here.`);
  }
  if (algorithm === "sha256" && !md5 && blob.size <= SUBTLE_LIMIT && globalThis.crypto?.subtle) {
    const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
    return { checksum: toBase64(new Uint8Array(digest)), md5: null };
  }
  const hasher = ALGORITHMS[algorithm]();
  const second = md5 ? new Md5() : null;
  // A stream reads ahead: about twice as fast as slices read one after the other.
  const reader = blob.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    hasher.update(value);
    second?.update(value);
  }
  return { checksum: toBase64(hasher.digest()), md5: second ? toHex(second.digest()) : null };
}

/** Multiplies two polynomials over GF(2), reflected, modulo the CRC's own. */
function multiply(left, right, { bits, polynomial }) {
  let product = 0n;
  let factor = right;
  for (let mask = 1n << (bits - 1n); mask > 0n; mask >>= 1n) {
    if (left & mask) product ^= factor;
    factor = factor & 1n ? (factor >> 1n) ^ polynomial : factor >> 1n;
  }
  return product;
}

/** x to the power of 8 × bytes: what appending that many bytes does to a CRC before them. */
function shiftOf(bytes, field) {
  let power = 1n << (field.bits - 1n);
  let square = 1n << (field.bits - 9n);
  for (let left = BigInt(bytes); left > 0n; left >>= 1n) {
    if (left & 1n) power = multiply(power, square, field);
    square = multiply(square, square, field);
  }
  return power;
}

/**
 * The checksum of a whole file out of those of its parts, without reading it again.
 *
 * @param {string} algorithm
 * @param {{checksum: string, size: number}[]} parts in their order
 * @returns {string | null} base64, or null where the algorithm cannot be joined (sha256)
 */
export function combine(algorithm, parts) {
  const field = POLYNOMIALS[algorithm];
  if (!field || parts.length === 0) return null;
  const shifts = new Map();
  let whole = 0n;
  for (const { checksum, size } of parts) {
    if (!shifts.has(size)) shifts.set(size, shiftOf(size, field));
    let value = 0n;
    for (const char of atob(checksum)) value = (value << 8n) | BigInt(char.charCodeAt(0));
    whole = multiply(whole, shifts.get(size), field) ^ value;
  }
  const bytes = new Uint8Array(Number(field.bits / 8n));
  for (let at = bytes.length - 1; at >= 0; at -= 1) {
    bytes[at] = Number(whole & 255n);
    whole >>= 8n;
  }
  return toBase64(bytes);
}
