/** The parts of one upload, as this browser sees them. */

/**
 * @typedef {object} Part
 * @property {number} number from 1
 * @property {number} start first byte in the file
 * @property {number} size bytes
 * @property {string | null} checksum base64, of this file's bytes; null until they were read
 * @property {string | null} md5 hex, where it was needed
 * @property {string | null} etag of the stored part
 * @property {boolean} settled stored, with the bytes of this file
 * @property {{size: number, etag: string, checksum: string | null} | null} known what the gateway
 *   says is stored under this number; not yet compared
 * @property {boolean} replace whether other bytes are stored, and these are meant to replace them
 * @property {{url: string, headers: object, deadline: number} | null} target where to PUT it, and
 *   until when by performance.now()
 * @property {{refused: number, damaged: number, lost: number, conflicts: number}} counts of
 *   failures that concern this part alone
 */

/** @returns {Part[]} */
export function planParts({ size, part_size: partSize, part_count: partCount }) {
  const count = partCount ?? Math.max(1, Math.ceil(size / partSize));
  return Array.from({ length: count }, (_, index) => {
    const start = index * partSize;
    return {
      number: index + 1,
      start,
      size: Math.min(partSize, size - start),
      checksum: null,
      md5: null,
      etag: null,
      settled: false,
      known: null,
      replace: false,
      target: null,
      counts: { refused: 0, damaged: 0, lost: 0, conflicts: 0 },
    };
  });
}

/**
 * Whether what is stored is what this file holds, by checksum; by MD5 where the store's ETags are
 * known to be that and no checksum was kept. Needs `part.checksum` (and `part.md5`).
 */
export function matches(part, etagIsMd5) {
  const { known } = part;
  if (known === null || known.size !== part.size) return false;
  if (known.checksum !== null) return known.checksum === part.checksum;
  return etagIsMd5 && part.md5 !== null && known.etag.replaceAll('"', "") === part.md5;
}

/** "3-5,9" as [3, 4, 5, 9]: how the gateway writes part numbers. */
export function parseRanges(text) {
  if (!text) return [];
  return text.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}
