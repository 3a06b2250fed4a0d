/** The card of one upload in this window: what it is, how far, what is in its way, what to do. */

import { announce } from "./announcer.js";
import { Bar } from "./bar.js";
import { confirmCancel } from "./confirm.js";
import { element, iconButton, setText, textButton } from "./dom.js";
import { formatBytes, formatBytesOf, formatDuration, percent } from "./format.js";
import { icon } from "./icons.js";
import {
  AGAIN_LABELS,
  failureWords,
  relayWords,
  stateWords,
  troubleWords,
  VERIFIED,
} from "./words.js";

const STOPPABLE = new Set(["queued", "preparing", "uploading"]);
const OVER = new Set(["completed", "failed", "aborted"]);
const ICONS = { completed: "check", failed: "alert", paused: "pause", queued: "waiting" };
/** Numbers in text change at most this often, in ms: a figure that flickers cannot be read. */
const TEXT_GAP = 400;

export class Card {
  #upload;
  #actions;
  #bar;
  #parts = {};
  #announced = 0;
  #lastText = 0;
  #buttons;
  #lastState = "";

  /**
   * @param {import("../uploader.js").Upload} upload
   * @param {{remove: (card: Card) => void, chooseAgain: (card: Card) => void,
   *   download: (sessionId: string) => Promise<void>}} actions
   * @param {string | null} note said below the name, as about a file that was not the expected one
   */
  constructor(upload, actions, note = null) {
    this.#upload = upload;
    this.#actions = actions;
    const { name, size } = upload.file;
    this.#bar = new Bar(`Upload of ${name}`);
    this.#buttons = {
      pause: iconButton(`Pause ${name}`, icon("pause"), () => this.#upload.pause()),
      resume: iconButton(`Resume ${name}`, icon("resume"), () => this.#upload.resume()),
      cancel: iconButton(`Cancel ${name}`, icon("close"), () => this.#cancel()),
      remove: iconButton(`Remove ${name} from this view`, icon("close"), () => this.#remove()),
    };
    this.#parts = {
      badge: element("span", { class: "badge" }, icon("file")),
      state: element("span", { class: "state" }),
      amount: element("span", { class: "amount" }),
      pace: element("span", { class: "pace" }),
      notice: element("div", { class: "notice", hidden: true }),
      relayed: element("p", { class: "note", hidden: true }),
    };
    this.element = element(
      "li",
      { class: "card", tabIndex: -1, aria: { label: name } },
      this.#parts.badge,
      element(
        "div",
        { class: "card-head" },
        element("p", { class: "name", title: name }, name),
        element("p", { class: "meta" }, `${formatBytes(size)} · `, this.#parts.state),
      ),
      element("div", { class: "card-buttons" }, ...Object.values(this.#buttons)),
      this.#bar.element,
      element("p", { class: "figures" }, this.#parts.amount, this.#parts.pace),
      this.#parts.relayed,
      this.#parts.notice,
      note === null ? null : element("p", { class: "note" }, note),
    );
    upload.addEventListener("progress", () => this.#showProgress(false));
    upload.addEventListener("state", () => this.#showState());
    this.#showState();
  }

  get upload() {
    return this.#upload;
  }

  #showState() {
    const { state, trouble, error, file } = this.#upload;
    // A new session begins at nothing.
    if (state === "queued" && this.#upload.progress.sent === 0) this.#bar.reset();
    this.element.dataset.state = trouble ? "waiting" : state;
    const words = trouble ? troubleWords(trouble).title : stateWords(this.#upload);
    setText(this.#parts.state, words);
    this.#parts.badge.replaceChildren(icon(trouble ? "waiting" : (ICONS[state] ?? "file")));
    this.#showButtons(state);
    this.#showNotice(state, trouble, error);
    this.#showProgress(true);
    const said = error ? failureWords(error).title : words;
    if (said !== this.#lastState && state !== "queued" && state !== "preparing") {
      announce(`${file.name}: ${said}`);
    }
    this.#lastState = said;
    // After the state, which would take its place where it is read out.
    this.#showRelayed(state);
  }

  #showButtons(state) {
    const shown = {
      pause: STOPPABLE.has(state),
      resume: state === "paused",
      cancel: STOPPABLE.has(state) || state === "paused",
      remove: OVER.has(state),
    };
    const buttons = Object.values(this.#buttons);
    const focused = buttons.find((button) => button === document.activeElement);
    for (const [name, button] of Object.entries(this.#buttons)) button.hidden = !shown[name];
    // The button that was pressed makes way for its counterpart: the focus goes there, or waits on
    // the card until there is one.
    if (focused?.hidden || document.activeElement === this.element) {
      (buttons.find((button) => !button.hidden) ?? this.element).focus();
    }
  }

  #showNotice(state, trouble, error) {
    const { notice } = this.#parts;
    notice.hidden = !trouble && !error && state !== "completed";
    if (notice.hidden) return;
    notice.replaceChildren();
    if (trouble) {
      notice.dataset.tone = "warn";
      notice.append(
        element("p", {}, troubleWords(trouble).text),
        textButton("Try now", () => this.#upload.retryNow()),
      );
    } else if (error) {
      this.#showFailure(failureWords(error), error);
    } else {
      this.#showReceipt();
    }
  }

  #showRelayed(state) {
    const { relayed, relayCause, file } = this.#upload;
    const note = this.#parts.relayed;
    const before = note.hidden;
    note.hidden = !relayed || OVER.has(state);
    if (note.hidden) return;
    setText(note, relayWords(relayCause));
    if (before) announce(`${file.name}: ${note.textContent}`);
  }

  #showFailure({ title, text, again }, error) {
    const { notice, state } = this.#parts;
    notice.dataset.tone = "danger";
    setText(state, title);
    notice.append(element("p", {}, text));
    // What somebody must look up in the log; the rest explains itself.
    if (error.requestId && (error.status >= 500 || error.status === 422)) {
      notice.append(element("p", { class: "fine" }, `Request ${error.requestId}`));
    }
    if (again === null) return;
    const act = () => {
      if (again === "choose") this.#actions.chooseAgain(this);
      else this.#upload.resume();
    };
    notice.append(textButton(AGAIN_LABELS[again], act));
  }

  #showReceipt() {
    const { session } = this.#upload;
    const { notice } = this.#parts;
    notice.dataset.tone = "good";
    const stored = Object.entries(session.object?.checksums ?? {})[0];
    notice.append(
      element("p", {}, VERIFIED[session.verified_by] ?? ""),
      ...(stored ? [element("p", { class: "fine" }, stored.join(" "))] : []),
      textButton("Download", () => this.#download(session.session_id)),
    );
  }

  async #download(sessionId) {
    const { notice } = this.#parts;
    notice.querySelector(".download-problem")?.remove();
    try {
      await this.#actions.download(sessionId);
    } catch (error) {
      const { title, text } = failureWords(error);
      notice.append(element("p", { class: "download-problem" }, `${title}. ${text}`));
    }
  }

  #showProgress(now) {
    const { progress, state, error } = this.#upload;
    const { total, sent, stored, speed, secondsLeft } = progress;
    const done = percent(sent, total);
    const share = (bytes) => (total === 0 ? (state === "completed" ? 1 : 0) : bytes / total);
    const value = total === 0 && state !== "completed" ? 0 : done;
    const spoken = `${value} percent, ${stateWords(this.#upload)}`;
    this.#bar.set(share(sent), share(stored), value, spoken);
    if (state === "verifying") setText(this.#parts.state, stateWords(this.#upload));
    this.#announceQuarters(done, state);
    const time = performance.now();
    if (!now && time - this.#lastText < TEXT_GAP) return;
    this.#lastText = time;
    // While nothing moves, only what is stored counts: that is what is there after a restart.
    const still = state === "paused" || state === "failed" || state === "aborted";
    const amount = still
      ? `${formatBytesOf(stored, total)} stored`
      : `${value}\u00a0% · ${formatBytesOf(sent, total)}`;
    // What is completed says so; what has to start again has nothing stored any more.
    const moot = state === "completed" || (error && failureWords(error).again === "restart");
    setText(this.#parts.amount, moot ? "" : amount);
    const pace = [];
    if (speed !== null) pace.push(`${formatBytes(speed)}/s`);
    if (secondsLeft !== null && speed > 0) pace.push(`${formatDuration(secondsLeft)} left`);
    setText(this.#parts.pace, pace.join(" · "));
  }

  #announceQuarters(done, state) {
    const quarter = Math.floor(done / 25);
    if (state !== "uploading" || quarter <= this.#announced || quarter === 4) return;
    this.#announced = quarter;
    announce(`${this.#upload.file.name}: ${quarter * 25} percent`);
  }

  async #cancel() {
    const { file, session } = this.#upload;
    const worthAsking = session !== null && this.#upload.progress.sent > 0;
    if (worthAsking && !(await confirmCancel(file.name))) return;
    await this.#upload.abort();
    if (this.#upload.state === "aborted") this.#remove();
  }

  #remove() {
    this.#actions.remove(this);
  }
}
