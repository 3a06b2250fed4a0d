/**
 * The browser library: resumable, verified uploads of large files straight into object storage.
 *
 *     import { Uploader } from "https://gateway.example/static/uploader.js";
 *     const uploader = new Uploader({ getToken: () => myToken });
 *     const upload = uploader.upload(file);
 *     upload.addEventListener("progress", ({ detail }) => show(detail.fraction));
 *     upload.addEventListener("done", ({ detail }) => console.log(detail.object));
 *     upload.addEventListener("error", ({ detail }) => console.error(detail.code, detail.hint));
 *
 * Works from any origin that the gateway allows, and on plain http. It needs no build step and
 * brings nothing from elsewhere. Network failures never end an upload: it waits and goes on.
 */

import { Api } from "./uploader/api.js";
import { Delivery } from "./uploader/delivery.js";
import { Digester } from "./uploader/digester.js";
import { UploadError } from "./uploader/errors.js";
import { Flow } from "./uploader/flow.js";
import { RELAY_CHOICES } from "./uploader/route.js";
import { Upload } from "./uploader/upload.js";
import { Bell } from "./uploader/waiting.js";

export { Api, Upload, UploadError };

const PARALLEL = { least: 1, most: 8, usual: 6 };
/**
 * How many uploads may be in a stage before the next one starts. A call that completes holds one of
 * the browser's six connections to the gateway for up to ten seconds; following costs a call in a
 * second and a half.
 */
const STAGES = { completing: 3, following: 16 };

export class Uploader {
  #queue = [];
  #deliveries = new Map();
  #stages = new Map();
  #claims = new Map();
  #context;
  #most;
  #onNetwork;
  #onHide;

  /** Calls to the gateway, with the same token: `api.find`, `api.content`... */
  api;
  /** All uploads, in the order in which they were given, until they are removed. */
  uploads = [];

  /**
   * @param {{server?: string | URL, getToken?: Function, parallel?: number,
   *   simultaneous?: number, relay?: "auto" | "always" | "never"}} options
   *   `server`: the gateway's address; by default the one this module came from.
   *   `getToken({rejected})`: the bearer token, or null; may be async. Asked when it is first
   *   needed, and again when the gateway refuses the token `rejected`. If it throws, it is asked
   *   again later; if it gives null or the same token again, the upload fails with a 401.
   *   `parallel`: at most so many parts at once, 1 to 8, over all uploads.
   *   `simultaneous`: at most so many files at once; the others wait their turn.
   *   `relay`: whether bytes go through the gateway: `auto` where only it reaches the store.
   */
  constructor({
    server = new URL("..", import.meta.url),
    getToken = () => null,
    parallel = PARALLEL.usual,
    simultaneous = 2,
    relay = "auto",
  } = {}) {
    if (!(parallel >= PARALLEL.least && parallel <= PARALLEL.most)) {
      throw new RangeError(`parallel must be ${PARALLEL.least} to ${PARALLEL.most}.`);
    }
    if (!(simultaneous >= 1)) throw new RangeError("simultaneous must be at least 1.");
    if (!RELAY_CHOICES.has(relay)) throw new RangeError("relay must be auto, always or never.");
    const bell = new Bell();
    this.api = new Api(server, getToken, bell, relay);
    this.#most = { ...STAGES, sending: simultaneous };
    this.#context = {
      api: this.api,
      bell,
      relay,
      flow: new Flow(Math.floor(parallel)),
      digester: new Digester(),
      enqueue: (delivery) => this.#enqueue(delivery),
      enter: (delivery, stage) => this.#enter(delivery, stage),
      release: (delivery) => this.#release(delivery),
      claim: (delivery) => this.#claim(delivery),
    };
    this.#onNetwork = ({ type }) => {
      for (const delivery of this.#deliveries.values()) delivery.networkChanged(type === "online");
    };
    this.#onHide = () => this.#deliveries.forEach((delivery) => delivery.pageHidden());
    globalThis.addEventListener?.("online", this.#onNetwork);
    globalThis.addEventListener?.("offline", this.#onNetwork);
    globalThis.addEventListener?.("pagehide", this.#onHide);
  }

  /**
   * Starts to upload a file, or goes on with an earlier try of the same file.
   *
   * @param {File} file
   * @param {{metadata?: Record<string, string>, sessionId?: string, create?: object}} options
   *   `sessionId`: go on with this session if it is open and of the same size, whatever the
   *   fingerprint says; parts that differ are sent again. `create`: more fields for the gateway's
   *   create call (`part_size`, `checksum_algorithm`, `bucket`, `key`...).
   * @returns {Upload}
   */
  upload(file, options = {}) {
    if (!(file instanceof Blob)) throw new TypeError("upload() takes a File.");
    const delivery = new Delivery(file, options, this.#context);
    const { upload } = delivery;
    this.#deliveries.set(upload, delivery);
    this.uploads.push(upload);
    this.#enqueue(delivery);
    return upload;
  }

  /** Forgets an upload; one that is still on its way is paused. */
  remove(upload) {
    upload.pause();
    this.#deliveries.delete(upload);
    this.uploads = this.uploads.filter((other) => other !== upload);
  }

  /** Pauses everything and lets the worker go. */
  close() {
    globalThis.removeEventListener?.("online", this.#onNetwork);
    globalThis.removeEventListener?.("offline", this.#onNetwork);
    globalThis.removeEventListener?.("pagehide", this.#onHide);
    for (const upload of this.uploads) upload.pause();
    this.#context.digester.close();
  }

  #enqueue(delivery) {
    this.#queue.push(delivery);
    this.#startSoon();
  }

  /** Afterwards, so that whoever called upload() can listen before anything happens. */
  #startSoon() {
    queueMicrotask(() => {
      while (this.#queue.length > 0 && this.#hasTurn()) {
        const delivery = this.#queue.shift();
        this.#stages.set(delivery, "sending");
        delivery.start();
      }
    });
  }

  #hasTurn() {
    const count = { sending: 0, completing: 0, following: 0 };
    for (const stage of this.#stages.values()) count[stage] += 1;
    return Object.entries(count).every(([stage, number]) => number < this.#most[stage]);
  }

  /** All bytes are sent, say: the next file need not wait for the verification of this one. */
  #enter(delivery, stage) {
    // One that was released meanwhile must not take its turn back.
    if (!this.#stages.has(delivery)) return;
    this.#stages.set(delivery, stage);
    this.#startSoon();
  }

  #release(delivery) {
    this.#queue = this.#queue.filter((other) => other !== delivery);
    const { fingerprint } = delivery;
    if (this.#claims.get(fingerprint) === delivery) this.#claims.delete(fingerprint);
    this.#stages.delete(delivery);
    this.#startSoon();
  }

  /** The same file twice at once would race with itself for the same session. */
  #claim(delivery) {
    const holder = this.#claims.get(delivery.fingerprint);
    if (holder && holder !== delivery) {
      throw new UploadError("already_uploading", "This file is being uploaded already.");
    }
    this.#claims.set(delivery.fingerprint, delivery);
  }
}
