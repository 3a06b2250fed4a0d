/**
 * The gateway's native API, as the browser uses it: one method a call, JSON in and out.
 *
 * A call that fails for a passing reason (no network, 429, 5xx, an answer marked retryable) is
 * tried again with growing, jittered delays, for as long as its signal lets it: only the user
 * knows when to give up. Every other refusal is an UploadError.
 */

import { UploadError } from "./errors.js";
import { answersAtAll, gatewayTrouble } from "./reachability.js";
import { getBlob, putPart, TransferError } from "./transfer.js";
import { Backoff, Bell, withLimit } from "./waiting.js";

/** In ms: how long one attempt may take, unless a call says otherwise. */
const TIMEOUT = 30_000;
/** How long the gateway may take to look into the store, in ms. */
const LOOK = 8_000;
/** How often a 500, which the gateway calls its own mistake, is tried before it is believed. */
const MISTAKES = 5;
/** The longest that an answer's Retry-After is obeyed, in ms. */
const LONGEST_DELAY = 300_000;
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504, 507]);

export class Api {
  #server;
  #getToken;
  /** Undefined until it was asked for. */
  #token;
  #rejected = null;
  #asking = null;
  #answered = false;
  #bell;
  #relay;
  /** The gateway's clock minus ours, in ms, as its last answer had it. */
  clockOffset = 0;

  /**
   * @param {string | URL} server the gateway's address, with its path if it has one
   * @param {(why: {rejected: string | null}) => string | null | Promise<string | null>} getToken
   *   asked before the first call, and again when the gateway refuses the token `rejected`; null
   *   or the same token again ends the call with a 401, while a failure counts as a passing one
   * @param {Bell} bell rings to end all delays between attempts at once
   * @param {"auto" | "always" | "never"} relay whether downloads go through the gateway
   */
  constructor(server, getToken, bell = new Bell(), relay = "auto") {
    const url = new URL(server, globalThis.location?.href);
    this.#server = url.href.endsWith("/") ? url.href : `${url.href}/`;
    this.#getToken = getToken;
    this.#bell = bell;
    this.#relay = relay;
  }

  create(body, idempotencyKey, options) {
    return this.call("POST", "uploads", {
      body,
      headers: { "Idempotency-Key": idempotencyKey },
      ...options,
    });
  }

  find(query, options) {
    return this.call("GET", "uploads", { query, ...options });
  }

  status(id, options) {
    return this.call("GET", `uploads/${id}`, options);
  }

  parts(id, query, options) {
    return this.call("GET", `uploads/${id}/parts`, { query, ...options });
  }

  /** @param {number | null} expiresIn the addresses' life in seconds; null: the gateway's choice */
  sign(id, parts, expiresIn, options) {
    const body = { parts, ...(expiresIn !== null && { expires_in: expiresIn }) };
    return this.call("POST", `uploads/${id}/parts/sign`, { body, ...options });
  }

  acknowledge(id, parts, options) {
    return this.call("POST", `uploads/${id}/parts`, { body: { parts }, ...options });
  }

  progress(id, inFlight, options) {
    const body = { in_flight: inFlight };
    return this.call("POST", `uploads/${id}/progress`, { body, once: true, ...options });
  }

  complete(id, parts, options) {
    return this.call("POST", `uploads/${id}/complete`, {
      query: { wait: 10 },
      body: { parts },
      timeout: 60_000,
      ...options,
    });
  }

  abort(id, options) {
    return this.call("DELETE", `uploads/${id}`, options);
  }

  content(id, options) {
    return this.call("GET", `uploads/${id}/content`, options);
  }

  /** Whether the gateway reaches the store now: listing an open session's parts makes it look. */
  async reachesStore(id, signal) {
    try {
      await this.parts(id, { limit: 1 }, { once: true, timeout: LOOK, signal });
      return true;
    } catch {
      signal?.throwIfAborted();
      return false;
    }
  }

  /**
   * Sends one part through the gateway, which records it.
   *
   * @param {string} id
   * @param {import("./parts.js").Part} part with its checksum
   * @param {Blob} blob
   * @param {{algorithm: string, signal: AbortSignal, giveUp: AbortSignal,
   *   onProgress: (bytes: number) => void}} attempt as in `putPart` of transfer.js
   * @returns {Promise<string | null>} the ETag
   * @throws {UploadError | TransferError} TransferError where there was no answer
   */
  relayPart(id, part, blob, { algorithm, ...attempt }) {
    const url = new URL(`uploads/${id}/parts/${part.number}`, this.#server);
    if (part.replace) url.searchParams.set("replace", 1);
    const digest = { [`x-amz-checksum-${algorithm}`]: part.checksum };
    return this.#authorized((token) => {
      const headers = { ...bearer(token), ...digest };
      return putPart({ url: url.href, headers }, blob, { ...attempt, refusal: relayRefusal });
    });
  }

  /**
   * Where a link of a page must lead to download a completed upload: to the store, by an address
   * that needs no token; where that cannot be reached from here, to a Blob that has come through
   * the gateway.
   *
   * @param {string} id
   * @param {{signal?: AbortSignal, onProgress?: (got: {loaded: number, total: number,
   *   filename: string}) => void}} options `onProgress` is called only while bytes are relayed
   * @returns {Promise<{href: string, filename: string, relayed: boolean}>} `href` is to be given to
   *   `URL.revokeObjectURL` when it was used and `relayed`
   * @throws {UploadError}
   */
  async link(id, { signal, onProgress } = {}) {
    const { url, filename, size: total } = await this.content(id, { once: true, signal });
    const direct = async () => this.#relay === "never" || answersAtAll(new URL(url).origin, signal);
    if (this.#relay !== "always" && (await direct())) {
      return { href: url, filename, relayed: false };
    }
    signal?.throwIfAborted();
    const source = new URL(`uploads/${id}/content?relay=1`, this.#server).href;
    const tell = (loaded) => onProgress?.({ loaded, total, filename });
    tell(0);
    try {
      const blob = await this.#authorized((token) => {
        const options = { signal, onProgress: tell, refusal: relayRefusal };
        return getBlob({ url: source, headers: bearer(token) }, options);
      });
      return { href: URL.createObjectURL(blob), filename, relayed: true };
    } catch (cause) {
      if (!(cause instanceof TransferError)) throw cause;
      throw await gatewayTrouble(this.#server, { answered: true, cause, signal });
    }
  }

  /**
   * @param {string} method
   * @param {string} path below the server's address
   * @param {{query?: object, body?: object, headers?: object, signal?: AbortSignal,
   *   timeout?: number, once?: boolean, keepalive?: boolean,
   *   onTrouble?: (trouble: UploadError | null) => void}} options
   *   `once`: no second attempt; `keepalive`: outlives the page; `onTrouble` hears of each failed
   *   attempt, and null when it is over
   * @returns {Promise<any>} the answer's JSON, with `retryAfter` (seconds) where the answer had it
   * @throws {UploadError}
   */
  async call(method, path, { query = {}, once = false, onTrouble, signal, ...request } = {}) {
    const url = new URL(path, this.#server);
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== undefined) url.searchParams.set(name, value);
    }
    const backoff = new Backoff();
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await this.#authorized((token) =>
          this.#attempt(method, url, token, { signal, ...request }),
        );
        if (attempt > 1) onTrouble?.(null);
        return answer;
      } catch (error) {
        signal?.throwIfAborted();
        if (once || !(error instanceof UploadError) || !error.retryable) throw error;
        if (error.status === 500 && attempt >= MISTAKES) throw error;
        const suggested = Math.min(LONGEST_DELAY, (error.retryAfter ?? 0) * 1000);
        const delay = Math.max(backoff.next(), suggested);
        onTrouble?.(error);
        await this.#bell.wait({ limit: delay, signal });
      }
    }
  }

  async #authorized(attempt) {
    const used = this.#token === undefined ? await this.#ask(this.#rejected) : this.#token;
    try {
      return await attempt(used);
    } catch (error) {
      if (error.status !== 401) throw error;
      // Another call may have brought a new token while this one was on its way.
      const fresh = this.#token === used ? await this.#ask(used) : this.#token;
      if (fresh !== used && fresh !== undefined) {
        return await attempt(fresh);
      }
      this.#rejected = used;
      this.#token = undefined;
      throw error;
    }
  }

  /** Asks the page for a token: once, however many calls are waiting for it. */
  #ask(rejected) {
    this.#asking ??= this.#askPage(rejected).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #askPage(rejected) {
    try {
      this.#token = (await this.#getToken({ rejected })) ?? null;
    } catch (cause) {
      const hint = `getToken() failed: ${cause?.message ?? cause}`;
      const rest = { hint, retryable: true, cause };
      throw new UploadError("token_unavailable", "The page could not get a token.", rest);
    }
    return this.#token;
  }

  async #attempt(method, url, token, { body, headers, timeout = TIMEOUT, keepalive, signal }) {
    const options = {
      method,
      headers: {
        Accept: "application/json",
        ...(body && { "Content-Type": "application/json" }),
        ...bearer(token),
        ...headers,
      },
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      keepalive: keepalive ?? false,
    };
    try {
      return await withLimit(timeout, signal, async (limit) => {
        const sent = performance.now();
        const response = await fetch(url, { ...options, signal: limit });
        this.#answered = true;
        this.#learnClock(response, performance.now() - sent);
        return read(response);
      });
    } catch (cause) {
      signal?.throwIfAborted();
      if (cause instanceof UploadError) throw cause;
      throw await gatewayTrouble(this.#server, { answered: this.#answered, cause, signal });
    }
  }

  #learnClock(response, elapsed) {
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (!Number.isNaN(date)) this.clockOffset = date + elapsed / 2 - Date.now();
  }
}

function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function read(response) {
  const json = parse(await response.text());
  const retryAfter = secondsOf(response.headers.get("Retry-After"));
  if (response.ok && json !== null) return retryAfter === null ? json : { ...json, retryAfter };
  throw refusal(response.status, json, retryAfter);
}

/** The error of an answer to bytes that were, or should have been, relayed. */
function relayRefusal(request) {
  const { status, responseText } = request;
  const json = parse(responseText);
  if (status === 413 && !json?.code) {
    const message = "Something before the gateway takes no bodies of a part's size.";
    return new UploadError("relay_too_large", message, {
      hint: "The proxy before the gateway must allow larger ones (nginx: client_max_body_size).",
      status,
    });
  }
  return refusal(status, json, secondsOf(request.getResponseHeader("Retry-After")));
}

function parse(text) {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    // Something between us and the gateway answered in its place; it becomes an error.
    return null;
  }
}

function secondsOf(text) {
  const seconds = Number.parseInt(text ?? "", 10);
  return Number.isNaN(seconds) ? null : seconds;
}

function refusal(status, json, retryAfter) {
  if (json?.code) {
    return new UploadError(json.code, json.message, {
      hint: json.hint,
      status,
      retryable: json.retryable || PASSING.has(status),
      retryAfter,
      details: json.details,
      requestId: json.request_id,
    });
  }
  if (PASSING.has(status)) {
    const message = "The gateway does not answer.";
    return new UploadError("gateway_unreachable", message, { status, retryable: true, retryAfter });
  }
  return new UploadError("not_a_gateway", `The server's answer (${status}) is not the gateway's.`, {
    hint: "Check the gateway's address.",
    status,
  });
}
