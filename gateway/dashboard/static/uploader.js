/**
 * The browser library: resumable, verified uploads of large files straight into object storage.
 *
 *     import { Uploader } from "https://gateway.example/static/uploader.js";
 *     const uploader = new Uploader({ getToken: () => myToken });
 *     const upload = uploader.upload(file);
 *     upload.addEventListener("progress", ({ detail }) => show(detail.sent / detail.total));
 *     upload.addEventListener("done", ({ detail }) => console.log(detail.object));
 *     upload.addEventListener("error", ({ detail }) => console.error(detail.code, detail.hint));
 *
 * Works from any origin that the gateway allows, and on plain http. It needs no build step and
 * brings nothing from elsewhere. Network failures never end an upload: it waits and goes on.
 */

import { Api } from "./uploader/api.js";
import { Digester } from "./uploader/digester.js";
import { UploadError } from "./uploader/errors.js";
import { Flow } from "./uploader/flow.js";
import { Upload } from "./uploader/upload.js";

export { Api, Upload, UploadError };

const PARALLEL = { least: 1, most: 8, usual: 6 };

export class Uploader {
  #queue = [];
  #running = new Set();
  #claims = new Map();
  #context;
  #simultaneous;
  #onNetwork;
  #onHide;

  /** Calls to the gateway, with the same token: `api.find`, `api.content`... */
  api;
  /** All uploads, in the order in which they were given, until they are removed. */
  uploads = [];

  /**
   * @param {{server?: string | URL, getToken?: Function, parallel?: number,
   *   simultaneous?: number}} options
   *   `server`: the gateway's address; by default the one this module came from.
   *   `getToken({rejected})`: the bearer token, or null; may be async. Asked again when the gateway
   *   refuses the token `rejected`.
   *   `parallel`: at most so many parts at once, 1 to 8, over all uploads.
   *   `simultaneous`: at most so many files at once; the others wait their turn.
   */
  constructor({
    server = new URL("..", import.meta.url),
    getToken = () => null,
    parallel = PARALLEL.usual,
    simultaneous = 2,
  } = {}) {
    if (!(parallel >= PARALLEL.least && parallel <= PARALLEL.most)) {
      throw new RangeError(`parallel must be ${PARALLEL.least} to ${PARALLEL.most}.`);
    }
    if (!(simultaneous >= 1)) throw new RangeError("simultaneous must be at least 1.");
    this.api = new Api(server, getToken);
    this.#simultaneous = simultaneous;
    this.#context = {
      api: this.api,
      flow: new Flow(Math.floor(parallel)),
      digester: new Digester(),
      enqueue: (upload) => this.#enqueue(upload),
      release: (upload) => this.#release(upload),
      yieldTurn: (upload) => this.#yieldTurn(upload),
      claim: (upload) => this.#claim(upload),
    };
    this.#onNetwork = ({ type }) => {
      for (const upload of this.uploads) upload.networkChanged(type === "online");
    };
    this.#onHide = () => this.uploads.forEach((upload) => upload.pageHidden());
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
    const upload = new Upload(file, options, this.#context);
    this.uploads.push(upload);
    this.#enqueue(upload);
    return upload;
  }

  /** Forgets an upload that is over. */
  remove(upload) {
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

  #enqueue(upload) {
    this.#queue.push(upload);
    // Afterwards, so that whoever called upload() can listen before anything happens.
    queueMicrotask(() => this.#startNext());
  }

  #startNext() {
    while (this.#running.size < this.#simultaneous && this.#queue.length > 0) {
      const upload = this.#queue.shift();
      this.#running.add(upload);
      upload.start();
    }
  }

  #release(upload) {
    this.#queue = this.#queue.filter((other) => other !== upload);
    if (this.#claims.get(upload.fingerprint) === upload) this.#claims.delete(upload.fingerprint);
    this.#yieldTurn(upload);
  }

  /** All bytes are sent: the next file need not wait for the verification of this one. */
  #yieldTurn(upload) {
    this.#running.delete(upload);
    queueMicrotask(() => this.#startNext());
  }

  /** The same file twice at once would race with itself for the same session. */
  #claim(upload) {
    const holder = this.#claims.get(upload.fingerprint);
    if (holder && holder !== upload) {
      throw new UploadError("already_uploading", "This file is being uploaded already.");
    }
    this.#claims.set(upload.fingerprint, upload);
  }
}
