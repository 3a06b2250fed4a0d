/** Bytes a second over the last seconds, by what has left this machine. */

const WINDOW = 8_000;
/** Below this many ms of measuring, a rate would be a guess. */
const LEAST = 1_500;

export class Rate {
  #samples = [];
  #total = 0;

  add(bytes) {
    this.#total += bytes;
    const now = performance.now();
    const last = this.#samples.at(-1);
    if (last && now - last.at < 100) last.total = this.#total;
    else this.#samples.push({ at: now, total: this.#total });
    while (this.#samples.length > 2 && now - this.#samples[1].at > WINDOW) this.#samples.shift();
  }

  /** Starts again, as after a pause. */
  clear() {
    this.#samples = [{ at: performance.now(), total: this.#total }];
  }

  /** Bytes a second, or null while it cannot be said. */
  get perSecond() {
    const first = this.#samples[0];
    if (!first) return null;
    const elapsed = performance.now() - first.at;
    return elapsed < LEAST ? null : ((this.#total - first.total) * 1000) / elapsed;
  }
}
