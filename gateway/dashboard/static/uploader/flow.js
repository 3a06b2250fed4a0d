/**
 * How many parts may be on the way at once, and when the next may start.
 *
 * Additive increase, multiplicative decrease: one more after each full round of successes, half
 * after an error. After an error nothing starts until a jittered delay is over; many parts failing
 * over one cause count as one failure. All uploads of an Uploader share one Flow, since they share
 * the line, and the browser opens no more than six connections to a host anyway (HTTP/1.1).
 */

import { Backoff, Bell } from "./waiting.js";

const START = 3;

export class Flow {
  /** Rings when a part may perhaps start. */
  bell = new Bell();
  #backoff = new Backoff();
  #most;
  #limit;
  #onTheWay = 0;
  #successes = 0;
  #opensAt = 0;
  #lastFailure = -1;

  /** @param {number} most parts at once, from 1 */
  constructor(most) {
    this.#most = most;
    this.#limit = Math.min(START, most);
  }

  /** How many parts may be on the way now. */
  get limit() {
    return this.#limit;
  }

  /** Milliseconds until the next part may start; 0 when the delay, if any, is over. */
  get closedFor() {
    return Math.max(0, this.#opensAt - performance.now());
  }

  /** Takes a place for one part; false when there is none now. Pair it with `leave`. */
  enter() {
    if (this.closedFor > 0 || this.#onTheWay >= this.#limit) return false;
    this.#onTheWay += 1;
    return true;
  }

  leave() {
    this.#onTheWay -= 1;
    this.bell.ring();
  }

  succeeded() {
    this.#backoff.reset();
    this.#opensAt = 0;
    this.#successes += 1;
    if (this.#successes >= this.#limit && this.#limit < this.#most) {
      this.#limit += 1;
      this.#successes = 0;
    }
  }

  /** @param {number} startedAt when the failed attempt began, by performance.now() */
  failed(startedAt) {
    if (startedAt < this.#lastFailure) return;
    this.#lastFailure = performance.now();
    this.#successes = 0;
    this.#limit = Math.max(1, Math.floor(this.#limit / 2));
    this.#opensAt = this.#lastFailure + this.#backoff.next();
  }

  /** Forgets the delay: the network is back, or somebody asked to try now. */
  open() {
    this.#opensAt = 0;
    this.bell.ring();
  }
}
