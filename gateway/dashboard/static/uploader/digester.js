/**
 * Digests Blobs in a worker; on the page's own thread where a worker cannot be started.
 *
 * A worker may not be loaded from another origin, but a blob may be a worker, and it may import a
 * module from another origin that allows it (CORS). A host page whose policy forbids both still
 * works, only less smoothly.
 */

import { digestBlob } from "./checksums.js";

const WORKER_URL = new URL("./digest-worker.js", import.meta.url);
/** A worker that has not said a word after this long, in ms, is taken for one that cannot start. */
const START_LIMIT = 10_000;

export class Digester {
  #starting = null;
  #waiting = new Map();
  #next = 0;

  /** As `digestBlob`. */
  async digest(blob, algorithm, { md5 = false } = {}) {
    for (;;) {
      this.#starting ??= this.#start();
      const starting = this.#starting;
      const worker = await starting;
      if (this.#starting === null) throw closed();
      // It may have died since it was asked for.
      if (starting !== this.#starting) continue;
      if (worker === null) return digestBlob(blob, algorithm, { md5 });
      return this.#ask(worker, { blob, algorithm, md5 });
    }
  }

  #ask(worker, task) {
    const id = (this.#next += 1);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, task });
      worker.postMessage({ id, ...task });
    });
  }

  /** Resolves with a worker that is running, or with null where none can be had. */
  #start() {
    const address = workerAddress();
    const starting = new Promise((resolve) => {
      let worker = null;
      const giveUp = () => {
        clearTimeout(timer);
        worker?.terminate();
        resolve(null);
        // Nothing of a worker that was closed, and perhaps followed by another.
        if (this.#starting === starting) this.#takeOver();
      };
      const timer = setTimeout(giveUp, START_LIMIT);
      try {
        worker = new Worker(address, { type: "module", name: "checksums" });
      } catch {
        queueMicrotask(giveUp);
        return;
      }
      worker.addEventListener("error", giveUp);
      worker.addEventListener("messageerror", giveUp);
      worker.addEventListener("message", ({ data }) => {
        if (!data.ready) {
          this.#settle(data);
          return;
        }
        clearTimeout(timer);
        resolve(worker);
      });
    });
    starting.then(() => URL.revokeObjectURL(address));
    return starting;
  }

  #settle({ id, error, checksum, md5 }) {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new DOMException(error.message, error.name));
    else waiting?.resolve({ checksum, md5 });
  }

  /** The worker is gone: what it was asked for is done here, and everything after it. */
  #takeOver() {
    this.#starting = Promise.resolve(null);
    const left = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { resolve, task } of left) {
      resolve(digestBlob(task.blob, task.algorithm, { md5: task.md5 }));
    }
  }

  close() {
    this.#starting?.then((worker) => worker?.terminate());
    this.#starting = null;
    for (const { reject } of this.#waiting.values()) {
      reject(closed());
    }
    this.#waiting.clear();
  }
}

function closed() {
  return new DOMException("The uploader was closed.", "AbortError");
}

function workerAddress() {
  if (WORKER_URL.origin === globalThis.location?.origin) return WORKER_URL.href;
  const source = `import ${JSON.stringify(WORKER_URL.href)};`;
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}
