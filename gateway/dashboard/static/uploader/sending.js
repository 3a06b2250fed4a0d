/**
 * Sends the parts of one session: reads and digests them a window ahead, has them signed with their
 * checksums bound, PUTs as many at once as the Flow lets it, acknowledges in batches.
 *
 * Where only the gateway reaches the store, parts go through it with their checksums instead, and
 * need neither be signed nor acknowledged.
 *
 * It ends when every part is stored with the bytes of this file, or throws what only a person can
 * mend. Whatever passes by itself (network, store, expired addresses) it waits out. Memory: the
 * browser streams Blobs from disk; nothing here holds a part. The file is long so that everything
 * that decides what becomes of a part is in one place.
 */

import { asUploadError, fileChanged, UploadError } from "./errors.js";
import { matches } from "./parts.js";
import { isOffline, offline, storeTrouble } from "./reachability.js";
import { putPart, TransferError } from "./transfer.js";
import { Bell } from "./waiting.js";
import { lifeOf, partsAhead } from "./window.js";

/** Most parts in one acknowledgement, and how long, in ms, one may wait for company. */
const BATCH = 100;
const BATCH_AGE = 1_000;
/** On a kick, an attempt at which no byte has moved for this long, in ms, is given up. */
const QUIET = 2_000;
/** An address with less life left than this, in ms, is signed anew before it is used. */
const MARGIN = 10_000;
/** Time in ms for which an idle line may wait until a whole batch is digested. */
const HURRY = 250;
/** How often one part may fail in a way that is its own, before a person is asked. */
const PATIENCE = { refused: 8, damaged: 5, conflicts: 5 };
const DIGEST_CODES = new Set([
  "BadDigest",
  "InvalidDigest",
  "XAmzContentChecksumMismatch",
  "digest_mismatch",
]);
/** A call for an open session found that another client has completed it. */
const CLOSED_CODES = new Set(["session_completed", "session_corrupt", "session_rejected"]);

export class Sending {
  #upload;
  #bell = new Bell();
  #queue;
  #ready = [];
  #inFlight = new Map();
  #attempts = new Set();
  #filling = false;
  #flushing = false;
  #unacknowledged = [];
  #oldest = 0;
  #failure = null;
  #signal;

  /**
   * @param {object} upload its Delivery, of which this uses `file`, `session`, `parts`, `api`, `flow`,
   *   `rate`, `route`, and `digest`, `learnStored`, `sent`, `changed`, `setTrouble`, `callOptions`,
   *   `routeChanged`
   */
  constructor(upload) {
    this.#upload = upload;
    this.#queue = upload.parts.filter((part) => !part.settled);
  }

  /** Part number to bytes on the way. */
  get inFlight() {
    return Object.fromEntries(this.#inFlight);
  }

  get bytesInFlight() {
    let sum = 0;
    for (const bytes of this.#inFlight.values()) sum += bytes;
    return sum;
  }

  /** Gives up the attempts at which nothing moves, as after the network was away; they go again. */
  kick() {
    const now = performance.now();
    for (const attempt of this.#attempts) {
      if (now - attempt.movedAt > QUIET) attempt.giveUp.abort();
    }
  }

  async run(signal) {
    this.#signal = signal;
    const { flow } = this.#upload;
    const ring = () => this.#bell.ring();
    flow.join(this);
    flow.bell.addEventListener("ring", ring);
    try {
      while (!this.#isOver()) {
        if (this.#failure) throw this.#failure;
        this.#fill();
        this.#flushWhenDue();
        if (this.#ready.length > 0 && flow.enter(this)) {
          this.#start(this.#ready.shift());
          continue;
        }
        if (this.#ready.length === 0) flow.pass(this);
        await this.#bell.wait({ limit: Math.max(50, flow.closedFor || BATCH_AGE), signal });
      }
    } finally {
      flow.quit(this);
      flow.bell.removeEventListener("ring", ring);
    }
  }

  #isOver() {
    // An attempt is there until it was decided what becomes of its part.
    const idle = !this.#filling && !this.#flushing && this.#attempts.size === 0;
    const nothing = this.#queue.length + this.#ready.length + this.#unacknowledged.length === 0;
    return idle && nothing && this.#failure === null;
  }

  /** Digests and signs the next parts of the window, while earlier ones are on the way. */
  #fill() {
    const { flow, rate, session } = this.#upload;
    const line = { rate: rate.perSecond, partSize: session.part_size, limit: flow.limit };
    const ahead = partsAhead(line);
    // Half a window at a time, so that each part does not cost a call of its own.
    if (this.#filling || this.#queue.length === 0 || this.#ready.length > ahead / 2) return;
    this.#filling = true;
    this.#fillBy(ahead - this.#ready.length)
      .catch((error) => this.#fail(error))
      .finally(() => {
        this.#filling = false;
        this.#bell.ring();
      });
  }

  async #fillBy(count) {
    const { flow } = this.#upload;
    const startedAt = performance.now();
    const batch = [];
    while (batch.length < count && this.#queue.length > 0) {
      const idle = this.#ready.length === 0 && flow.hasRoom;
      if (batch.length > 0 && idle && performance.now() - startedAt > HURRY) break;
      const part = this.#queue.shift();
      await this.#upload.digest(part, this.#upload.session, this.#signal);
      if (part.known !== null && this.#adopt(part)) continue;
      batch.push(part);
    }
    if (this.#upload.route.relayed) this.#ready.push(...batch);
    else if (batch.length > 0) await this.#sign(batch);
  }

  /** Skips a part whose stored bytes are those of the file; else marks it to be replaced. */
  #adopt(part) {
    const { known } = part;
    const same = matches(part, this.#upload.session.part_etag_is_md5);
    part.known = null;
    part.replace = !same;
    if (!same) return false;
    part.etag = known.etag;
    this.#settle(part);
    if (known.checksum === null) this.#acknowledgeLater(part);
    return true;
  }

  async #sign(batch) {
    const { api, session } = this.#upload;
    const wanted = batch.map((part) => ({
      part_number: part.number,
      checksum: part.checksum,
      ...(part.replace && { replace: true }),
    }));
    let answer;
    try {
      const life = lifeOf(this.#upload.rate.perSecond, this.#bytesBefore(batch));
      answer = await api.sign(session.session_id, wanted, life, this.#options());
    } catch (error) {
      if (error.code !== "part_conflict") throw error;
      await this.#reconsider(batch, error);
      return;
    }
    const now = performance.now();
    const targets = new Map(answer.parts.map((target) => [target.part_number, target]));
    for (const part of batch) {
      const { url, headers, expires_at: expiresAt } = targets.get(part.number);
      // Measured from the server's own clock: ours may be wrong by hours.
      const life = Date.parse(expiresAt) - Date.parse(answer.server_time);
      const useful = Math.max(life - MARGIN, life / 2);
      part.target = { url, headers: headers ?? {}, deadline: now + useful };
      this.#ready.push(part);
    }
  }

  /** Bytes still to be sent until the last part of a batch has been. */
  #bytesBefore(batch) {
    const sum = (parts) => parts.reduce((total, { size }) => total + size, 0);
    const onTheWay = [...this.#inFlight.keys()].map((number) => this.#upload.parts[number - 1]);
    return sum(onTheWay) - this.bytesInFlight + sum(this.#ready) + sum(batch);
  }

  /** After a conflict: asks what is stored by now, and puts these parts back to be compared. */
  async #reconsider(batch, error) {
    for (const part of batch) this.#count(part, "conflicts", error);
    await this.#upload.learnStored(this.#signal);
    for (const part of batch) this.#again(part);
  }

  #again(part) {
    this.#queue.unshift(part);
    this.#bell.ring();
  }

  #start(part) {
    const { api, file, flow, route, session } = this.#upload;
    const { relayed } = route;
    if (!relayed && performance.now() > part.target.deadline) {
      flow.leave(this);
      this.#again(part);
      return;
    }
    const startedAt = performance.now();
    const attempt = { giveUp: new AbortController(), movedAt: startedAt, relayed };
    this.#attempts.add(attempt);
    this.#inFlight.set(part.number, 0);
    const onProgress = (bytes) => {
      attempt.movedAt = performance.now();
      const before = this.#inFlight.get(part.number) ?? 0;
      this.#inFlight.set(part.number, bytes);
      this.#upload.sent(Math.max(0, bytes - before));
    };
    const body = file.slice(part.start, part.start + part.size);
    const options = { signal: this.#signal, giveUp: attempt.giveUp.signal, onProgress };
    const algorithm = session.checksum_algorithm;
    const sent = relayed
      ? api.relayPart(session.session_id, part, body, { ...options, algorithm })
      : putPart(part.target, body, { ...options, strange: !route.hasAnswered });
    sent
      .then(
        (etag) => this.#stored(part, etag, attempt, startedAt),
        (error) =>
          relayed
            ? this.#relayMissed(part, error, startedAt)
            : this.#missed(part, error, startedAt),
      )
      .catch((error) => this.#fail(error))
      .finally(() => {
        this.#attempts.delete(attempt);
        flow.leave(this);
        this.#bell.ring();
      });
  }

  async #stored(part, etag, { relayed }, startedAt) {
    try {
      part.etag = etag ?? (await this.#askEtag(part));
    } finally {
      this.#inFlight.delete(part.number);
    }
    if (!relayed) this.#upload.route.storeAnswered();
    this.#upload.flow.succeeded(startedAt);
    this.#upload.setTrouble("store", null);
    this.#settle(part);
    if (!relayed) this.#acknowledgeLater(part);
  }

  /** Where the store's CORS rules hide the ETag, the gateway can still see it. */
  async #askEtag(part) {
    const { api, session } = this.#upload;
    const query = { cursor: part.number - 1, limit: 1 };
    const { parts } = await api.parts(session.session_id, query, this.#options());
    if (parts[0]?.part_number === part.number) return parts[0].etag;
    throw new UploadError("etag_hidden", "The store does not show this page what it has stored.", {
      hint: "Its CORS rules must expose the ETag header.",
    });
  }

  async #missed(part, error, startedAt) {
    this.#inFlight.delete(part.number);
    this.#upload.changed();
    this.#signal.throwIfAborted();
    const { flow, route } = this.#upload;
    const { status, code } = error;
    if (status === 0) await this.#probeFile(part);
    else route.storeAnswered();
    if (DIGEST_CODES.has(code)) {
      this.#count(part, "damaged", error);
      part.checksum = null;
    } else if (status === 404) {
      await this.#probeSession();
      flow.failed(startedAt);
    } else if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
      // Most of all 403: the address has expired, by the store's clock. A new one costs nothing.
      this.#count(part, "refused", error);
      part.target = null;
      if (part.counts.refused > 1) flow.failed(startedAt);
    } else {
      flow.failed(startedAt);
      await this.#goAround(part, error, startedAt);
    }
    // A store may refuse and hang up in mid-body, which looks like a network failure here: the
    // address is trusted for a second attempt, not for a third.
    if (status === 0) part.counts.lost += 1;
    if (status === 0 && part.counts.lost === 1) this.#ready.unshift(part);
    else this.#again(part);
  }

  /** Says what is in the way of the store, unless there is another way from now on. */
  async #goAround(part, error, startedAt) {
    const { api, flow, route, session } = this.#upload;
    const signal = this.#signal;
    if (route.relayed) return;
    const trouble = await storeTrouble(part.target.url, error, {
      taken: route.hasAnswered,
      signal,
    });
    const gatewayReaches = () => api.reachesStore(session.session_id, signal);
    if (!(await route.avoidsStore(trouble, startedAt, { gatewayReaches, signal }))) {
      if (!route.undecided) this.#upload.setTrouble("store", trouble);
      return;
    }
    // What hangs before the store would only keep others from their turn.
    for (const attempt of this.#attempts) if (!attempt.relayed) attempt.giveUp.abort();
    this.#upload.routeChanged();
    flow.open();
  }

  async #relayMissed(part, error, startedAt) {
    this.#inFlight.delete(part.number);
    this.#upload.changed();
    this.#signal.throwIfAborted();
    if (error.code === "part_conflict") {
      await this.#reconsider([part], error);
      return;
    }
    if (DIGEST_CODES.has(error.code)) {
      this.#count(part, "damaged", error);
      part.checksum = null;
    } else {
      const unheard = error instanceof TransferError;
      if (!unheard && !error.retryable) throw error;
      if (unheard) await this.#probeFile(part);
      this.#upload.flow.failed(startedAt);
      const nobody = () => new UploadError("gateway_unreachable", "The gateway does not answer.");
      this.#upload.setTrouble("store", unheard ? (isOffline() ? offline() : nobody()) : error);
    }
    this.#again(part);
  }

  /** A file that was changed on disk fails like the network does; one byte tells them apart. */
  async #probeFile(part) {
    const { file } = this.#upload;
    try {
      await file.slice(part.start, part.start + 1).arrayBuffer();
    } catch (error) {
      throw fileChanged(error);
    }
  }

  /** The store does not know the multipart upload: completed or aborted, by whomever. */
  async #probeSession() {
    const { api, session } = this.#upload;
    const now = await api.status(session.session_id, this.#options());
    if (now.state !== "open") throw new SessionClosed();
  }

  #count(part, what, cause) {
    part.counts[what] += 1;
    if (part.counts[what] < PATIENCE[what]) return;
    if (what === "damaged") {
      throw new UploadError("part_damaged", `Part ${part.number} arrives damaged every time.`, {
        hint: "Something between here and the store changes the bytes; try another network.",
        cause,
      });
    }
    if (what === "conflicts") throw cause;
    throw new UploadError("store_refused", `The store refuses part ${part.number}.`, {
      hint: `Its answer was ${cause.status} ${cause.code}; whoever runs the gateway must look.`,
      status: cause.status,
      cause,
    });
  }

  #settle(part) {
    part.settled = true;
    part.target = null;
    part.counts = { refused: 0, damaged: 0, lost: 0, conflicts: part.counts.conflicts };
    this.#upload.changed();
  }

  #acknowledgeLater(part) {
    if (this.#unacknowledged.length === 0) this.#oldest = performance.now();
    this.#unacknowledged.push(part);
  }

  #flushWhenDue() {
    if (this.#flushing || this.#unacknowledged.length === 0) return;
    const idle = this.#queue.length + this.#ready.length + this.#inFlight.size === 0;
    const old = performance.now() - this.#oldest >= BATCH_AGE;
    if (!old && this.#unacknowledged.length < BATCH && (!idle || this.#filling)) return;
    this.#flushing = true;
    this.#flushBatch()
      .catch((error) => this.#fail(error))
      .finally(() => {
        this.#flushing = false;
        this.#bell.ring();
      });
  }

  /** Tells what is stored and not yet told, when a pause has cut `run` short. */
  async flush() {
    while (this.#unacknowledged.length > 0) await this.#flushBatch();
  }

  async #flushBatch() {
    const { api, session } = this.#upload;
    const batch = this.#unacknowledged.splice(0, BATCH);
    this.#oldest = performance.now();
    const told = batch.map(({ number, etag, checksum }) => ({
      part_number: number,
      etag,
      checksum,
    }));
    try {
      // Not under the run's signal: what is stored is worth telling, pause or no pause.
      await api.acknowledge(session.session_id, told, this.#upload.callOptions());
    } catch (error) {
      if (error.code !== "part_conflict") throw error;
      for (const part of batch) part.settled = false;
      await this.#reconsider(batch, error);
    }
  }

  #options() {
    return this.#upload.callOptions(this.#signal);
  }

  #fail(error) {
    if (this.#signal.aborted) return;
    const closed = error instanceof SessionClosed || CLOSED_CODES.has(error.code);
    this.#failure ??= closed ? new SessionClosed() : asUploadError(error);
    this.#bell.ring();
  }
}

/** The session left the state `open` while parts were sent: somebody else had a hand in it. */
export class SessionClosed extends Error {}
