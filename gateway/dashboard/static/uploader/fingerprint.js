/**
 * What makes this browser recognise a file that it has begun to send before.
 *
 * A hash over name, size, modification time and sampled blocks. It only finds a candidate: a
 * resumed upload compares the checksum of every part before it skips one, so a fingerprint that
 * matches by mistake costs time, never a mixture.
 */

import { toHex } from "./checksums.js";
import { crc32c, crc64nvme } from "./crc.js";

const BLOCK = 64 * 2 ** 10;
const BLOCKS = 8;

/**
 * @param {File} file
 * @returns {Promise<string>} the same for the same file, in every browser and at every time
 */
export async function fingerprint(file) {
  const hashers = [crc64nvme(), crc32c()];
  const identity = JSON.stringify([file.name, file.size, file.lastModified]);
  const update = (bytes) => hashers.forEach((hasher) => hasher.update(bytes));
  update(new TextEncoder().encode(identity));
  for (const start of blockStarts(file.size)) {
    update(new Uint8Array(await file.slice(start, start + BLOCK).arrayBuffer()));
  }
  return `web1:${hashers.map((hasher) => toHex(hasher.digest())).join("")}`;
}

/** Evenly spread, the first at the beginning and the last at the end; all of a small file. */
function blockStarts(size) {
  if (size <= BLOCK * BLOCKS) {
    return Array.from({ length: Math.ceil(size / BLOCK) }, (_, index) => index * BLOCK);
  }
  const step = (size - BLOCK) / (BLOCKS - 1);
  return Array.from({ length: BLOCKS }, (_, index) => Math.floor(index * step));
}
