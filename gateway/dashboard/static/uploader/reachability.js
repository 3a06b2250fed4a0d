/** What is in the way when a request fails without an answer: the network, the host, or a rule. */

import { UploadError } from "./errors.js";
import { withLimit } from "./waiting.js";

/** How long, in ms, a host may take to show that it is there. */
const LIMIT = 10_000;
const FULL_CODES = new Set(["XMinioStorageFull", "QuotaExceeded", "InsufficientStorage"]);

/**
 * Whether a host answers at all, whatever it says. A browser tells a page no more about a request
 * that CORS forbids than about one that never arrived; this tells the two apart.
 */
export async function answersAtAll(url, signal) {
  try {
    await withLimit(LIMIT, signal, (limit) =>
      fetch(url, { mode: "no-cors", cache: "no-store", credentials: "omit", signal: limit }),
    );
    return true;
  } catch {
    return false;
  }
}

export function isOffline() {
  return globalThis.navigator?.onLine === false;
}

export function offline(rest) {
  return new UploadError("offline", "This device is offline.", rest);
}

/**
 * @param {string} url where a part was to be put
 * @param {import("./transfer.js").TransferError} error
 * @param {{taken: boolean, signal: AbortSignal}} rest `taken`: whether it has taken a part of this
 *   page before, so that no rule can be in the way
 * @returns {Promise<UploadError>} why the store did not take it, though it may later
 */
export async function storeTrouble(url, { status, code, stalled, message }, { taken, signal }) {
  if (isOffline()) return offline();
  if (status === 507 || FULL_CODES.has(code)) {
    return new UploadError("storage_full", "The store has no room left.");
  }
  if (status !== 0) return new UploadError("store_busy", message);
  const { origin } = new URL(url);
  if (!stalled && !taken && (await answersAtAll(origin, signal))) {
    return new UploadError("store_blocked", `The browser may not send to ${origin}.`, {
      hint: "The store's CORS rules must allow this page's address, PUT, and any header.",
      details: { origin },
    });
  }
  return new UploadError("store_unreachable", `The store at ${origin} does not answer.`, {
    details: { origin },
  });
}

/**
 * @param {string} server the gateway's address
 * @param {boolean} answered whether this page has ever read an answer of it
 * @returns {Promise<UploadError>} why the gateway was not heard
 */
export async function gatewayTrouble(server, { answered, cause, signal }) {
  const rest = { retryable: true, cause };
  if (isOffline()) return offline(rest);
  const { origin, protocol } = new URL(server);
  const own = globalThis.location;
  if (!answered && own && own.origin !== origin) {
    if (await answersAtAll(server, signal)) {
      return new UploadError("gateway_blocked", `${origin} does not let this page in.`, {
        ...rest,
        hint: `The gateway's cors_origins must name ${own.origin}.`,
        details: { origin },
      });
    }
    if (own.protocol === "https:" && protocol === "http:") {
      rest.hint = "A page on https cannot call a gateway on http.";
    }
  }
  return new UploadError("gateway_unreachable", "The gateway does not answer.", rest);
}
