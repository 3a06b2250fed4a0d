/**
 * Which session a file goes to: one that an earlier try has left, or none.
 *
 * A fingerprint only proposes. An open session is safe to continue, because each part is compared
 * before it is skipped. One that takes no more parts is only adopted after every part was compared.
 */

import { matches, planParts } from "./parts.js";

const PAGE = 1_000;

/**
 * @param {object} upload an Upload with a fingerprint: its `file`, `api`, `digest`, `callOptions`
 * @param {string | null} sessionId a session that was chosen by a person; it is continued when it
 *   is open and of the file's size
 * @returns {Promise<{session: object, parts: object[]} | null>} parts with what is `known` of them
 */
export async function findEarlierTry(upload, sessionId, signal) {
  const { api, file } = upload;
  if (sessionId) {
    const session = await api.status(sessionId, upload.callOptions(signal));
    const fits = session.size === file.size && session.state === "open";
    return fits ? withParts(upload, session, signal) : null;
  }
  const query = { fingerprint: upload.fingerprint, state: "open,completing,verifying", limit: 50 };
  const { uploads } = await api.find(query, upload.callOptions(signal));
  const candidates = uploads.filter(({ size }) => size === file.size);
  const open = candidates.filter(({ state }) => state === "open");
  if (open.length > 0) {
    const most = (best, next) => (next.received_bytes > best.received_bytes ? next : best);
    return withParts(upload, open.reduce(most), signal);
  }
  for (const session of candidates) {
    const found = await withParts(upload, session, signal);
    if (await areSame(upload, found, signal)) return found;
  }
  return null;
}

async function withParts(upload, session, signal) {
  const parts = planParts(session);
  await learnStored(upload, session, parts, signal);
  return { session, parts };
}

/** Asks what is stored, and lays it beside every part that is not settled. */
export async function learnStored(upload, session, parts, signal) {
  for (const part of parts) part.known = null;
  let cursor = null;
  do {
    const query = { cursor, limit: PAGE };
    const page = await upload.api.parts(session.session_id, query, upload.callOptions(signal));
    for (const { part_number: number, ...known } of page.parts) {
      const part = parts[number - 1];
      if (part && !part.settled) part.known = known;
    }
    cursor = page.next_cursor ?? null;
  } while (cursor !== null);
}

/** Compares the parts that are not settled with what is known; settles those that are the same. */
export async function areSame(upload, { session, parts }, signal) {
  for (const part of parts.filter(({ settled }) => !settled)) {
    if (part.known === null) return false;
    await upload.digest(part, session, signal);
    if (!matches(part, session.part_etag_is_md5)) return false;
    part.settled = true;
    part.etag = part.known.etag;
    part.known = null;
    upload.changed();
  }
  return true;
}
