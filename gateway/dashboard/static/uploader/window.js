/**
 * How many parts are signed ahead, and for how long their addresses live: what will be used, and
 * not much more. An address is a key to the store for as long as it lives.
 */

/** Seconds of sending, at the measured rate, that are signed ahead. */
const AHEAD = 10;
/** Most parts ahead: they are digested first, and should still be in the file cache when sent. */
const MOST = 32;
/** Shortest life in seconds: time for a slow gateway's answer, a preflight, a line that falters. */
const LEAST_LIFE = 60;
/** By how much the line may become slower than it was measured, before an address is wasted. */
const SLACK = 3;

/**
 * @param {{rate: number | null, partSize: number, limit: number}} line `rate` in bytes a second,
 *   null while unknown; `limit` parts may be on the way at once
 * @returns {number} of parts, from 1; without a rate, another round of what may be on the way
 */
export function partsAhead({ rate, partSize, limit }) {
  if (!rate || partSize === 0) return limit;
  return Math.min(MOST, Math.max(1, Math.ceil((rate * AHEAD) / partSize)));
}

/**
 * @param {number | null} rate as above
 * @param {number} bytes that are to be sent before the last of these addresses is used up: a proxy
 *   may hold a part back until it has all of it, so its own bytes count
 * @returns {number | null} whole seconds; null, which is the gateway's own choice, without a rate
 */
export function lifeOf(rate, bytes) {
  // Not above what any store takes, seven days (laws.md); the gateway caps it much lower.
  return rate ? Math.min(604_800, Math.ceil(LEAST_LIFE + (SLACK * bytes) / rate)) : null;
}
