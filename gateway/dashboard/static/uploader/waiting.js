/** Waiting: for a time, for a change, for the network; always until a signal ends it. */

/** Delays in ms that grow from one failure to the next, spread so that clients do not march. */
export class Backoff {
  #base;
  #cap;
  #failures = 0;

  constructor({ base = 500, cap = 30_000 } = {}) {
    this.#base = base;
    this.#cap = cap;
  }

  next() {
    const full = Math.min(this.#cap, this.#base * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 30);
    return full * (0.5 + Math.random() / 2);
  }

  reset() {
    this.#failures = 0;
  }
}

/** Lets any number of waiters know that something changed. */
export class Bell extends EventTarget {
  ring() {
    this.dispatchEvent(new Event("ring"));
  }

  /**
   * Resolves when the bell rings, or after `limit` ms; rejects with the signal's reason.
   *
   * @param {{limit?: number, signal?: AbortSignal}} options without a limit, only the bell or the
   *   signal end the wait
   */
  wait({ limit = Infinity, signal } = {}) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const timer = Number.isFinite(limit) ? setTimeout(() => end(resolve), limit) : null;
      const onRing = () => end(resolve);
      const onAbort = () => end(reject, signal.reason);
      const end = (settle, value) => {
        clearTimeout(timer);
        this.removeEventListener("ring", onRing);
        signal?.removeEventListener("abort", onAbort);
        settle(value);
      };
      this.addEventListener("ring", onRing);
      signal?.addEventListener("abort", onAbort);
    });
  }
}

/**
 * Runs `act` with a signal that aborts after `ms`, or with `signal` if there is one.
 *
 * @param {number} ms
 * @param {AbortSignal | undefined} signal
 * @param {(limit: AbortSignal) => Promise<any>} act
 */
export async function withLimit(ms, signal, act) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), ms);
  const onAbort = () => limit.abort();
  signal?.addEventListener("abort", onAbort);
  try {
    signal?.throwIfAborted();
    return await act(limit.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
