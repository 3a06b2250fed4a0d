/**
 * The gateway's native API, as the browser uses it: one method a call, JSON in and out.
 *
 * A call that fails for a passing reason (no network, 429, 5xx, an answer marked retryable) is
 * tried again with growing, jittered delays, for as long as its signal lets it: only the user
 * knows when to give up. Every other refusal is an UploadError.
 */

import { UploadError } from "./errors.js";
import { Backoff, Bell } from "./waiting.js";

/** In ms: how long one attempt may take, unless a call says otherwise. */
const TIMEOUT = 30_000;
/** How often a 500, which the gateway calls its own mistake, is tried before it is believed. */
const MISTAKES = 5;
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504, 507]);

export class Api {
  #server;
  #getToken;
  #token;
  /** Ring it to end all delays between attempts at once. */
  bell = new Bell();
  /** The gateway's clock minus ours, in ms, as its last answer had it. */
  clockOffset = 0;

  /**
   * @param {string | URL} server the gateway's address, with its path if it has one
   * @param {(why: {rejected: string | null}) => string | null | Promise<string | null>} getToken
   *   asked before the first call, and again when the gateway refuses the token `rejected`
   */
  constructor(server, getToken) {
    const url = new URL(server, globalThis.location?.href);
    this.#server = url.href.endsWith("/") ? url.href : `${url.href}/`;
    this.#getToken = getToken;
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

  sign(id, parts, options) {
    return this.call("POST", `uploads/${id}/parts/sign`, { body: { parts }, ...options });
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
        const answer = await this.#authorized(method, url, { signal, ...request });
        if (attempt > 1) onTrouble?.(null);
        return answer;
      } catch (error) {
        signal?.throwIfAborted();
        if (once || !(error instanceof UploadError) || !error.retryable) throw error;
        if (error.status === 500 && attempt >= MISTAKES) throw error;
        const delay = Math.max(backoff.next(), (error.retryAfter ?? 0) * 1000);
        onTrouble?.(error);
        await this.bell.wait({ limit: delay, signal });
      }
    }
  }

  async #authorized(method, url, request) {
    this.#token ??= (await this.#getToken({ rejected: null })) ?? null;
    const used = this.#token;
    try {
      return await this.#attempt(method, url, request);
    } catch (error) {
      if (error.status !== 401) throw error;
      // Another call may have brought a new token while this one was on its way.
      if (this.#token === used) this.#token = (await this.#getToken({ rejected: used })) ?? null;
      if (this.#token === used) {
        this.#token = undefined;
        throw error;
      }
      return this.#attempt(method, url, request);
    }
  }

  async #attempt(method, url, { body, headers, timeout = TIMEOUT, keepalive = false, signal }) {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), timeout);
    const onAbort = () => limit.abort();
    signal?.addEventListener("abort", onAbort);
    try {
      signal?.throwIfAborted();
      const sent = performance.now();
      const response = await fetch(url, {
        method,
        headers: {
          Accept: "application/json",
          ...(body && { "Content-Type": "application/json" }),
          ...(this.#token && { Authorization: `Bearer ${this.#token}` }),
          ...headers,
        },
        body: body && JSON.stringify(body),
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        keepalive,
        signal: limit.signal,
      });
      this.#learnClock(response, performance.now() - sent);
      return await read(response);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof UploadError) throw error;
      const offline = globalThis.navigator?.onLine === false;
      throw new UploadError(
        offline ? "offline" : "gateway_unreachable",
        offline ? "This device is offline." : "The gateway does not answer.",
        { retryable: true, cause: error },
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #learnClock(response, elapsed) {
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (!Number.isNaN(date)) this.clockOffset = date + elapsed / 2 - Date.now();
  }
}

async function read(response) {
  const text = await response.text();
  let json = null;
  try {
    json = text === "" ? {} : JSON.parse(text);
  } catch {
    // Something between us and the gateway answered in its place; below it becomes an error.
  }
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const retryAfter = Number.isNaN(seconds) ? null : seconds;
  if (response.ok && json !== null) return retryAfter === null ? json : { ...json, retryAfter };
  const { status } = response;
  if (json?.code) {
    throw new UploadError(json.code, json.message, {
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
    throw new UploadError("gateway_unreachable", message, { status, retryable: true, retryAfter });
  }
  throw new UploadError("not_a_gateway", `The server's answer (${status}) is not the gateway's.`, {
    hint: "Check the gateway's address.",
    status,
  });
}
