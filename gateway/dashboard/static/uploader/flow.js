/**
 * How many parts may be on the way at once, whose turn it is, and when the next may start.
 *
 * Additive increase, multiplicative decrease: one more after each full round of successes, half
 * after an error. After an error nothing starts until a jittered delay is over; many parts failing
 * over one cause count as one failure. All uploads of an Uploader share one Flow, since they share
 * the line, and the browser opens no more than six connections to a host anyway (HTTP/1.1). A place
 * goes to the upload that has the fewest, and of several to the one that was served longest ago.
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
  #guests = new Map();
  #served = 0;

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

  /** Whether a part could start now, whosever it is. */
  get hasRoom() {
    return this.closedFor === 0 && this.#onTheWay < this.#limit;
  }

  /** @param {object} guest who will ask for places, until `quit` */
  join(guest) {
    this.#guests.set(guest, { onTheWay: 0, servedAt: 0, hungry: false });
  }

  quit(guest) {
    this.#guests.delete(guest);
    this.bell.ring();
  }

  /** Takes a place for one part; false when there is none now. Pair it with `leave`. */
  enter(guest) {
    const entry = this.#guests.get(guest);
    if (!this.hasRoom || !this.#isNext(entry)) {
      entry.hungry = true;
      return false;
    }
    entry.hungry = false;
    entry.onTheWay += 1;
    entry.servedAt = this.#served += 1;
    this.#onTheWay += 1;
    // Others that were told to wait for this one have their turn in what is left.
    if (this.hasRoom) this.bell.ring();
    return true;
  }

  /** Has nothing to send just now: others need not wait for it. */
  pass(guest) {
    const entry = this.#guests.get(guest);
    if (!entry.hungry) return;
    entry.hungry = false;
    this.bell.ring();
  }

  leave(guest) {
    this.#onTheWay -= 1;
    const entry = this.#guests.get(guest);
    if (entry) entry.onTheWay -= 1;
    this.bell.ring();
  }

  /** @param {number} startedAt when the attempt began, by performance.now() */
  succeeded(startedAt) {
    // One that began before the last failure says nothing about the line since then.
    if (startedAt < this.#lastFailure) return;
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

  #isNext(entry) {
    for (const other of this.#guests.values()) {
      if (other === entry || !other.hungry) continue;
      if (other.onTheWay < entry.onTheWay) return false;
      if (other.onTheWay === entry.onTheWay && other.servedAt < entry.servedAt) return false;
    }
    return true;
  }
}
