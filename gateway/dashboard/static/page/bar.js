/**
 * A progress bar that moves smoothly and never backwards.
 *
 * Two layers: what has left this machine, and, stronger, what is stored. Each follows its true
 * value by a share of the distance every frame; with reduced motion it jumps there.
 */

import { element } from "./dom.js";

/** Time in ms in which about two thirds of a distance are made up. */
const EASE = 180;
const CLOSE = 0.0005;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Bar {
  #layers;
  #targets = [0, 0];
  #shown = [0, 0];
  #frame = null;
  #last = 0;

  /** @param {string} label what is in progress, for screen readers */
  constructor(label) {
    this.#layers = ["sent", "stored"].map((kind) => element("div", { class: `bar-${kind}` }));
    this.element = element(
      "div",
      {
        class: "bar",
        role: "progressbar",
        aria: { label, valuemin: "0", valuemax: "100", valuenow: "0" },
      },
      ...this.#layers,
    );
  }

  /**
   * @param {number} sent fraction, 0 to 1
   * @param {number} stored fraction, at most `sent`
   * @param {number} percent whole number, for screen readers
   * @param {string} text the same in words
   */
  set(sent, stored, percent, text) {
    this.#targets = [sent, stored].map((value, at) => Math.max(value, this.#targets[at]));
    const now = Math.max(percent, Number(this.element.getAttribute("aria-valuenow")));
    this.element.setAttribute("aria-valuenow", String(now));
    this.element.setAttribute("aria-valuetext", text);
    if (still.matches) this.#draw(this.#targets);
    else this.#frame ??= requestAnimationFrame((time) => this.#start(time));
  }

  /** For another upload in the same place: the one way back. */
  reset() {
    this.#targets = [0, 0];
    this.element.setAttribute("aria-valuenow", "0");
    this.#draw([0, 0]);
  }

  #start(time) {
    this.#last = time;
    this.#frame = requestAnimationFrame((next) => this.#step(next));
  }

  #step(time) {
    const share = 1 - Math.exp(-(time - this.#last) / EASE);
    this.#last = time;
    const next = this.#shown.map((value, at) => {
      const distance = this.#targets[at] - value;
      return distance < CLOSE ? this.#targets[at] : value + distance * share;
    });
    this.#draw(next);
    const settled = next.every((value, at) => value === this.#targets[at]);
    this.#frame = settled ? null : requestAnimationFrame((again) => this.#step(again));
  }

  #draw(values) {
    this.#shown = values;
    values.forEach((value, at) => {
      this.#layers[at].style.transform = `scaleX(${value.toFixed(5)})`;
    });
  }
}
