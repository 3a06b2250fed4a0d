/**
 * Which way the bytes of one upload take: straight to the store, or through the gateway.
 *
 * A browser may reach the gateway and not the store: for its network, or because the store's CORS
 * rules do not let the page in, which looks the same. That is told apart from a store that is down
 * for everybody, which relaying would not help: the gateway is asked whether it reaches the store,
 * and the store is tried once more. An upload that has begun to be relayed stays so to its end.
 */

import { answersAtAll, isOffline } from "./reachability.js";

export const RELAY_CHOICES = new Set(["auto", "always", "never"]);
/** Time in ms for which a store that has answered counts as reachable, whatever fails meanwhile. */
const SILENCE = 60_000;

export class Route {
  #choice;
  #answeredAt = -Infinity;
  #failedAt = -Infinity;
  #failures = 0;
  #asking = null;

  /** Whether bytes go through the gateway. */
  relayed;
  /** Why (UploadError `store_unreachable` or `store_blocked`), once it was found out. */
  cause = null;
  /** Whether a first failure may have been an accident, and the next attempt will tell. */
  undecided = false;

  /** @param {"auto" | "always" | "never"} choice */
  constructor(choice) {
    this.#choice = choice;
    this.relayed = choice === "always";
  }

  /** Whether this page has ever read an answer of the store. */
  get hasAnswered() {
    return this.#answeredAt > -Infinity;
  }

  storeAnswered() {
    this.#answeredAt = performance.now();
    this.#failures = 0;
  }

  /**
   * Decides, after an attempt at the store without an answer, whether to relay from now on.
   *
   * @param {import("./errors.js").UploadError} trouble what was found in the way
   * @param {number} startedAt when the attempt began, by performance.now()
   * @param {{gatewayReaches: () => Promise<boolean>, signal: AbortSignal}} options
   *   `gatewayReaches` asks the gateway whether it reaches the store
   */
  async avoidsStore(trouble, startedAt, { gatewayReaches, signal }) {
    const now = performance.now();
    const known = now - this.#answeredAt < SILENCE;
    if (this.#choice !== "auto" || this.relayed || known || !trouble.details.origin) {
      return this.relayed;
    }
    // Many parts failing over one cause are one failure, and lead to one question.
    if (startedAt >= this.#failedAt) this.#failures += 1;
    else if (this.#asking === null) return this.relayed;
    this.#failedAt = now;
    this.#asking ??= this.#ask(trouble, gatewayReaches, signal).finally(() => {
      this.#asking = null;
    });
    await this.#asking;
    return this.relayed;
  }

  async #ask(trouble, gatewayReaches, signal) {
    this.undecided = false;
    if (!(await gatewayReaches()) || isOffline()) return;
    // In this order: a store that has just come back for everybody answers now. One that answers,
    // and takes nothing from this page a second time, will not the third time either.
    const forbids = trouble.code === "store_blocked" && this.#failures > 1;
    if (!forbids && (await answersAtAll(trouble.details.origin, signal))) {
      this.undecided = this.#failures === 1;
      return;
    }
    signal.throwIfAborted();
    this.relayed = true;
    this.cause = trouble;
  }
}
