/**
 * One file on its way: finds or creates its session, has its parts sent, completes, follows the
 * verification.
 *
 * The Upload is what a page sees of it. What is only in the way for now is `trouble`, not a state.
 * The file is long so that everything that changes a state is in one place.
 */

import { combine } from "./checksums.js";
import { areSame, findEarlierTry, learnStored } from "./discovery.js";
import { asUploadError, ended, gone, UploadError } from "./errors.js";
import { fingerprint } from "./fingerprint.js";
import { parseRanges, planParts } from "./parts.js";
import { Rate } from "./rate.js";
import { offline } from "./reachability.js";
import { Route } from "./route.js";
import { Sending, SessionClosed } from "./sending.js";
import { Upload } from "./upload.js";

/** How often completion may send us back for parts before a person is asked. */
const ROUNDS = 6;
/** Between two looks at a session that is being verified, in ms, unless the gateway says. */
const POLL = 1_500;
/** How often the gateway hears what is on the way, and listeners get progress anyway, in ms. */
const TICK = 1_000;
/** The shortest time between two progress events, in ms. */
const EVENT_GAP = 80;

const ENDS = new Set(["completed", "corrupt", "rejected", "aborted", "expired"]);
const PAUSABLE = new Set(["queued", "preparing", "uploading"]);
/** Errors after which going on means a new session. */
const LOST = new Set(["session_gone", "session_not_found", "corrupt", "content_differs"]);

export class Delivery {
  #context;
  #options;
  #run = null;
  #sending = null;
  #idempotencyKey = null;
  #asked = false;
  #most = 0;
  #lastEvent = 0;
  #verified = null;
  #troubles = { device: null, gateway: null, store: null };

  // What the Upload shows; see there.
  session = null;
  state = "queued";
  error = null;
  resumed = false;
  fingerprint = null;
  upload = new Upload(this);

  parts = [];
  rate = new Rate();

  /**
   * @param {File} file
   * @param {object} options those of Uploader.upload()
   * @param {object} context what it shares with the other deliveries of its Uploader
   */
  constructor(file, options, context) {
    this.file = file;
    this.#options = options;
    this.#context = context;
    this.api = context.api;
    this.flow = context.flow;
    this.route = new Route(context.relay);
  }

  get progress() {
    const total = this.file.size;
    const settled = this.parts.reduce((sum, part) => sum + (part.settled ? part.size : 0), 0);
    const stored = this.state === "completed" ? total : settled;
    this.#most = Math.max(this.#most, stored + (this.#sending?.bytesInFlight ?? 0));
    const speed = this.state === "uploading" && !this.trouble ? this.rate.perSecond : null;
    const sent = Math.min(total, this.#most);
    const whole = this.state === "completed" ? 1 : 0;
    return {
      total,
      sent,
      stored,
      fraction: total > 0 ? sent / total : whole,
      speed,
      secondsLeft: speed ? (total - sent) / speed : null,
      verified: this.#verified,
      relayed: this.route.relayed,
    };
  }

  pause() {
    if (!PAUSABLE.has(this.state)) return;
    const sending = this.#sending;
    this.#halt("paused");
    // What has been stored is told all the same, so that the status shows it.
    sending?.flush().catch(() => {});
    this.#report({});
  }

  resume() {
    if (this.state !== "paused" && this.state !== "failed") return;
    if (this.error && LOST.has(this.error.code)) this.#forget();
    this.error = null;
    this.#setState("queued");
    this.#context.enqueue(this);
  }

  /** The device says that it has lost the network, or has it back. */
  networkChanged(online) {
    if (!["preparing", "uploading", "completing", "verifying"].includes(this.state)) return;
    if (online) {
      this.setTrouble("device", null);
      this.retryNow();
    } else {
      this.setTrouble("device", offline());
    }
  }

  /** The page is going away, and what is on the way with it. */
  pageHidden() {
    if (this.#sending) this.#report({}, { keepalive: true });
  }

  retryNow() {
    this.#sending?.kick();
    this.flow.open();
    this.#context.bell.ring();
  }

  async abort() {
    if (["aborting", "aborted", "completed"].includes(this.state)) return;
    this.#halt("aborting");
    try {
      if (this.session === null && this.#asked) await this.#create();
      if (this.session !== null && !ENDS.has(this.session.state)) {
        await this.api.abort(this.session.session_id, this.callOptions());
      }
      this.#setState("aborted");
    } catch (error) {
      if (["session_gone", "session_not_found"].includes(error.code)) this.#setState("aborted");
      else this.#fail(asUploadError(error));
    }
  }

  /** Called by the Uploader when it is this upload's turn. */
  async start() {
    const run = new AbortController();
    this.#run = run;
    this.rate.clear();
    const tick = setInterval(() => this.#tick(), TICK);
    try {
      this.#setState("preparing");
      await this.#prepare(run.signal);
      this.#finish(await this.#deliver(run.signal));
    } catch (error) {
      // A pause or an abort ended the run, and has set the state itself.
      if (!run.signal.aborted) this.#fail(asUploadError(error));
    } finally {
      clearInterval(tick);
      run.abort();
      if (this.#run === run) this.#context.release(this);
    }
  }

  async #prepare(signal) {
    this.fingerprint ??= await fingerprint(this.file);
    signal.throwIfAborted();
    this.#context.claim(this);
    if (this.session === null) {
      const found = await findEarlierTry(this, this.#options.sessionId ?? null, signal);
      this.resumed = found !== null;
      this.session = found?.session ?? (await this.#create(signal));
      this.parts = found?.parts ?? planParts(this.session);
    } else {
      this.session = await this.api.status(this.session.session_id, this.callOptions(signal));
    }
    if (["aborted", "expired"].includes(this.session.state)) throw gone(this.session);
  }

  async #create(signal) {
    this.#idempotencyKey ??= randomKey();
    this.#asked = true;
    const { file } = this;
    const body = {
      filename: file.name || "file",
      size: file.size,
      content_type: file.type || "application/octet-stream",
      fingerprint: this.fingerprint,
      ...(this.#options.metadata && { metadata: this.#options.metadata }),
      ...this.#options.create,
    };
    this.session = await this.api.create(body, this.#idempotencyKey, this.callOptions(signal));
    return this.session;
  }

  async #deliver(signal) {
    for (let round = 0; round < ROUNDS; round += 1) {
      const session = await this.#sendAll(signal);
      if (session.state === "completed") return this.#compare(session, signal);
      if (ENDS.has(session.state)) throw ended(session);
    }
    throw new UploadError("parts_missing", "The store keeps losing parts of this upload.", {
      hint: "Try again; if it lasts, whoever runs the gateway must look.",
    });
  }

  /** One round: send what is not stored, complete, follow. Returns the session as it is then. */
  async #sendAll(signal) {
    let { session } = this;
    if (session.state === "open") {
      this.#context.enter(this, "sending");
      this.#setState("uploading");
      this.#sending = new Sending(this);
      try {
        await this.#sending.run(signal);
      } catch (error) {
        if (!(error instanceof SessionClosed)) throw error;
      } finally {
        this.#sending = null;
      }
      this.#context.enter(this, "completing");
      this.#setState("completing");
      session = await this.#complete(signal);
    }
    return this.#follow(session, signal);
  }

  async #complete(signal) {
    const parts = this.parts
      .filter((part) => part.settled)
      .map(({ number, etag, checksum }) => ({ part_number: number, etag, checksum }));
    try {
      return await this.api.complete(this.session.session_id, parts, this.callOptions(signal));
    } catch (error) {
      if (error.code !== "parts_missing" && error.code !== "part_conflict") throw error;
      await this.#unsettle(error, signal);
      return { ...this.session, state: "open" };
    }
  }

  /** Marks what completion found missing or changed, to be compared and perhaps sent again. */
  async #unsettle(error, signal) {
    const { missing, wrong_size: wrongSize, changed, parts } = error.details;
    const listed = [missing, wrongSize, changed].flatMap(parseRanges);
    const numbers = new Set([...listed, ...(Array.isArray(parts) ? parts : [])]);
    const affected = this.parts.filter(({ number }) => numbers.size === 0 || numbers.has(number));
    for (const part of affected) {
      part.settled = false;
      part.replace = true;
    }
    await this.learnStored(signal);
  }

  async #follow(session, signal) {
    let seen = session;
    this.#context.enter(this, "following");
    while (seen.state === "completing" || seen.state === "verifying") {
      this.session = seen;
      this.#verified = seen.state === "verifying" ? seen.fraction : null;
      this.#setState(seen.state);
      this.#emitProgress(true);
      const limit = seen.retryAfter ? seen.retryAfter * 1000 : POLL;
      await this.#context.bell.wait({ limit, signal });
      seen = await this.api.status(seen.session_id, this.callOptions(signal));
    }
    this.session = seen;
    return seen;
  }

  /**
   * Whether what was completed is this file: another client may have had a hand in it. The store's
   * checksum of the whole object is compared here too, though the gateway has done so already.
   */
  async #compare(session, signal) {
    const { parts } = this;
    const unsure = parts.some((part) => !part.settled);
    if (unsure) await this.learnStored(signal);
    if (!unsure || (await areSame(this, { session, parts }, signal))) {
      const stored = session.object?.checksums?.[session.checksum_algorithm];
      const own = stored ? combine(session.checksum_algorithm, parts) : null;
      if (own === null || own === stored) return session;
    }
    throw new UploadError("content_differs", "The upload was completed with other content.", {
      hint: "Another client completed the same upload; send this file as a new one.",
    });
  }

  #finish(session) {
    this.session = session;
    this.#troubles = { device: null, gateway: null, store: null };
    this.#verified = null;
    this.state = "completed";
    this.#emitProgress(true);
    this.parts = [];
    this.#notify();
    this.upload.dispatchEvent(new CustomEvent("done", { detail: session }));
  }

  /** Computes a part's checksum, once; its MD5 too where only that can be compared. */
  async digest(part, session, signal) {
    const { file } = this;
    const needsMd5 = part.known?.checksum === null && session.part_etag_is_md5 && !part.md5;
    if (part.checksum !== null && !needsMd5) return;
    const blob = file.slice(part.start, part.start + part.size);
    const algorithm = session.checksum_algorithm;
    const found = await this.#context.digester.digest(blob, algorithm, { md5: needsMd5 });
    signal.throwIfAborted();
    part.checksum = found.checksum;
    part.md5 = found.md5 ?? part.md5;
  }

  /** Asks anew what is stored of the parts that are not settled. */
  learnStored(signal) {
    return learnStored(this, this.session, this.parts, signal);
  }

  sent(bytes) {
    this.rate.add(bytes);
    // A store on this very machine is reached without any network.
    this.setTrouble("device", null);
    this.setTrouble("store", null);
    this.#emitProgress(false);
  }

  changed() {
    this.#emitProgress(false);
  }

  /** The bytes take another way: what was measured of the first does not count any more. */
  routeChanged() {
    this.#troubles.store = null;
    this.rate.clear();
    this.#notify();
    this.#emitProgress(true);
  }

  /** Why nothing moves just now (UploadError), though it goes on by itself; else null. */
  get trouble() {
    const { device, gateway, store } = this.#troubles;
    return device ?? gateway ?? store;
  }

  /** @param {"device" | "gateway" | "store"} side which one is, or no longer is, in the way */
  setTrouble(side, error) {
    const before = this.trouble?.code;
    this.#troubles[side] = error;
    if (this.trouble?.code === before) return;
    this.rate.clear();
    this.#notify();
  }

  /** For a call to the gateway; without a signal it goes on when the upload is paused. */
  callOptions(signal) {
    return { signal, onTrouble: (error) => this.setTrouble("gateway", error) };
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.#notify();
  }

  #notify() {
    const { state, trouble, error } = this;
    const detail = { state, trouble, error, relayed: this.route.relayed };
    this.upload.dispatchEvent(new CustomEvent("state", { detail }));
  }

  #emitProgress(always) {
    const now = performance.now();
    if (!always && now - this.#lastEvent < EVENT_GAP) return;
    this.#lastEvent = now;
    this.upload.dispatchEvent(new CustomEvent("progress", { detail: this.progress }));
  }

  #tick() {
    this.#emitProgress(true);
    if (this.state === "uploading" && this.#sending) this.#report(this.#sending.inFlight);
  }

  /** For prompt progress elsewhere only: lost, it is no loss. */
  #report(inFlight, options) {
    if (this.session?.state !== "open") return;
    this.api.progress(this.session.session_id, inFlight, options).catch(() => {});
  }

  #halt(state) {
    const run = this.#run;
    this.#run = null;
    this.#context.release(this);
    this.#troubles = { device: null, gateway: null, store: null };
    this.#setState(state);
    run?.abort(new DOMException(`The upload is ${state}.`, "AbortError"));
  }

  #fail(error) {
    this.#troubles = { device: null, gateway: null, store: null };
    this.error = error;
    if (error.details?.session) this.session = error.details.session;
    this.#context.release(this);
    this.#setState("failed");
    this.upload.dispatchEvent(new CustomEvent("error", { detail: error }));
  }

  #forget() {
    this.session = null;
    this.parts = [];
    this.#idempotencyKey = null;
    this.#asked = false;
    this.#options = { ...this.#options, sessionId: null };
    this.#most = 0;
  }
}

/** crypto.randomUUID does not exist on plain http; this does. */
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
}
