/**
 * The list of one's sessions, live: asked again every two seconds while the page is visible.
 *
 * Rows are kept and changed in place, so that the keyboard focus and the reader's place survive.
 */

import { announce } from "./announcer.js";
import { Bar } from "./bar.js";
import { confirmCancel } from "./confirm.js";
import { element, setText, textButton } from "./dom.js";
import { formatAgo, formatBytes, formatBytesOf, percent } from "./format.js";
import { failureWords, sessionWords } from "./words.js";

const PAGE = 20;
/** The most that the gateway lists in one answer: what is kept live; older rows stay as seen. */
const LIVE = 200;
const EVERY = 2_000;
const SLOWEST = 20_000;
/** Bytes on the way, or a change within this many ms, mean that somebody is at it right now. */
const RECENT = 8_000;

export class SessionList {
  #api;
  #actions;
  #rows = new Map();
  #nodes;
  #wanted = PAGE;
  #cursor = null;
  #timer = null;
  #loading = false;
  #again = false;
  #failures = 0;

  /**
   * @param {import("../uploader.js").Api} api
   * @param {{here: (sessionId: string) => object | undefined,
   *   wasHere: (sessionId: string) => boolean, goOn: (session: object) => void,
   *   download: (sessionId: string) => Promise<void>, unauthenticated: () => void,
   *   reached: () => void}} actions
   */
  constructor(api, actions) {
    this.#api = api;
    this.#actions = actions;
    const find = (id) => document.getElementById(id);
    this.#nodes = {
      section: find("sessions"),
      list: find("rows"),
      empty: find("sessions-empty"),
      problem: find("sessions-problem"),
      more: find("more"),
    };
    this.#nodes.more.addEventListener("click", () => this.#showMore());
    document.addEventListener("visibilitychange", () => this.refresh());
    addEventListener("online", () => this.refresh());
  }

  /** Asks now, and from then on by itself. */
  async refresh() {
    clearTimeout(this.#timer);
    if (document.hidden) return;
    if (this.#loading) {
      this.#again = true;
      return;
    }
    this.#loading = true;
    try {
      await this.#load();
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      this.#showProblem(error);
      if (error.status === 401) return;
    } finally {
      this.#loading = false;
    }
    const pause = Math.min(SLOWEST, EVERY * 2 ** this.#failures);
    this.#timer = setTimeout(() => this.refresh(), this.#again ? 0 : pause);
    this.#again = false;
  }

  async #load() {
    const limit = Math.min(LIVE, this.#wanted);
    const { uploads, next_cursor: next } = await this.#api.find({ limit }, { once: true });
    if (this.#wanted <= LIVE || next === null) this.#cursor = next;
    this.#nodes.section.hidden = false;
    this.#nodes.problem.hidden = true;
    this.#actions.reached();
    const kept = this.#wanted > LIVE ? [...this.#rows.keys()] : [];
    this.#show(uploads, kept);
  }

  async #showMore() {
    const before = this.#rows.size;
    this.#nodes.more.disabled = true;
    try {
      const query = { limit: PAGE, cursor: this.#cursor };
      const { uploads, next_cursor: next } = await this.#api.find(query, { once: true });
      this.#wanted += PAGE;
      this.#cursor = next;
      const fresh = uploads.filter(({ session_id: id }) => !this.#rows.has(id));
      for (const session of fresh) this.#nodes.list.append(this.#row(session).element);
      this.#nodes.more.hidden = next === null;
      announce(`${fresh.length} more uploads`);
      this.#nodes.list.children[before]?.focus();
    } catch (error) {
      this.#showProblem(error);
    } finally {
      this.#nodes.more.disabled = false;
    }
  }

  #show(sessions, kept) {
    const { list, empty, more } = this.#nodes;
    const listed = new Set([...sessions.map(({ session_id: id }) => id), ...kept]);
    for (const [id, row] of this.#rows) {
      if (listed.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    sessions.forEach((session, at) => {
      const row = this.#row(session);
      if (list.children[at] !== row.element) list.insertBefore(row.element, list.children[at]);
    });
    list.hidden = listed.size === 0;
    empty.hidden = listed.size > 0;
    more.hidden = this.#cursor === null;
  }

  #row(session) {
    const { session_id: id } = session;
    let row = this.#rows.get(id);
    if (!row) {
      row = new Row(session, this.#api, this.#actions, () => this.refresh());
      this.#rows.set(id, row);
    }
    row.show(session);
    return row;
  }

  #showProblem(error) {
    const { problem, empty, list, more, section } = this.#nodes;
    if (error.status === 401) {
      section.hidden = true;
      this.#actions.unauthenticated();
      return;
    }
    empty.hidden = true;
    more.hidden = more.hidden || list.hidden;
    problem.hidden = false;
    const offline = error.code === "offline";
    const text = error.retryable
      ? `${offline ? "You are offline." : "The gateway does not answer."} Looking again by itself.`
      : failureWords(error).text;
    setText(problem, text);
  }
}

class Row {
  #api;
  #actions;
  #refresh;
  #session;
  #shown = "";
  #parts;

  constructor(session, api, actions, refresh) {
    this.#api = api;
    this.#actions = actions;
    this.#refresh = refresh;
    const name = session.filename;
    this.#parts = {
      state: element("span", { class: "chip" }),
      when: element("time", {}),
      detail: element("span", {}),
      bar: new Bar(`Progress of ${name}`),
      buttons: element("div", { class: "row-buttons" }),
      meta: element("p", { class: "meta" }),
      problem: element("p", { class: "row-problem", hidden: true }),
    };
    const { state, when, detail, bar, buttons, meta, problem } = this.#parts;
    meta.append(detail, " · ", when);
    this.element = element(
      "li",
      { class: "row", tabIndex: -1, aria: { label: name } },
      element(
        "div",
        { class: "row-line" },
        element("p", { class: "name", title: name }, name),
        state,
      ),
      element("div", { class: "row-line" }, meta, buttons),
      bar.element,
      problem,
    );
  }

  show(session) {
    this.#session = session;
    const now = Date.now() + this.#api.clockOffset;
    // An upload of this window knows better than the gateway what it is doing.
    const here = this.#actions.here(session.session_id);
    const recent = now - Date.parse(session.updated_at) < RECENT;
    const moves = here?.state !== "paused" && !here?.trouble;
    const elsewhere = session.in_flight_bytes > 0 || recent;
    // What was sent from this window stopped when the page was left, whatever was seen of it last.
    const active = here ? moves : elsewhere && !this.#actions.wasHere(session.session_id);
    const { state, when, detail, bar } = this.#parts;
    this.element.dataset.state = session.state;
    const created = new Date(session.created_at);
    when.dateTime = session.created_at;
    when.title = created.toLocaleString();
    setText(when, formatAgo(created.getTime(), now));
    const open = session.state === "open";
    setText(state, sessionWords(session, active, here));
    state.dataset.active = String(open && active);
    setText(detail, this.#detail(session));
    const inPlay = open || session.state === "completing" || session.state === "verifying";
    bar.element.hidden = !inPlay;
    if (inPlay && session.size !== null) this.#showBar(session);
    this.#showButtons(session, here !== undefined, active);
  }

  #detail({ state, size, received_bytes: received, fraction, error }) {
    if (state === "open" && size !== null) return `${formatBytesOf(received, size)} stored`;
    if (state === "verifying" && fraction !== null) {
      return `${formatBytes(size)} · ${Math.floor(fraction * 100)}\u00a0% read back`;
    }
    if ((state === "corrupt" || state === "rejected") && error) {
      return `${formatBytes(size)} · set aside, not handed out`;
    }
    return formatBytes(size);
  }

  #showBar({ size, received_bytes: received, state }) {
    const share = size === 0 ? Number(state !== "open") : received / size;
    const done = size === 0 ? share * 100 : percent(received, size);
    this.#parts.bar.set(share, share, done, `${done} percent stored`);
  }

  #showButtons(session, here, active) {
    const kind = `${session.state} ${here} ${active}`;
    if (kind === this.#shown) return;
    this.#shown = kind;
    const { buttons } = this.#parts;
    const focused = buttons.contains(document.activeElement);
    buttons.replaceChildren();
    const { filename: name, session_id: id } = session;
    const add = (label, act) => {
      const button = textButton(label, act, "button small quiet");
      button.setAttribute("aria-label", `${label}: ${name}`);
      buttons.append(button);
    };
    if (session.state === "open" && here) {
      buttons.append(element("span", { class: "fine" }, "In this window, see above"));
    } else if (session.state === "open") {
      if (!active && session.size !== null) {
        add("Choose the file to go on", () => this.#actions.goOn(session));
      }
      add("Cancel", () => this.#cancel());
    } else if (session.state === "completed") {
      add("Download", () => this.#try(() => this.#actions.download(id)));
    }
    if (focused) (buttons.querySelector("button") ?? this.element).focus();
  }

  async #cancel() {
    if (!(await confirmCancel(this.#session.filename))) return;
    await this.#try(() => this.#api.abort(this.#session.session_id, { once: true }));
    announce(`${this.#session.filename}: cancelled`);
    this.#refresh();
  }

  async #try(act) {
    const { problem } = this.#parts;
    problem.hidden = true;
    try {
      await act();
    } catch (error) {
      problem.hidden = false;
      setText(problem, `${failureWords(error).title}. ${failureWords(error).text}`);
    }
  }
}
