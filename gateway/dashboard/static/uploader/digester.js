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
  #worker = null;
  #waiting = new Map();
  #next = 0;

  /** As `digestBlob`. */
  async digest(blob, algorithm, { md5 = false } = {}) {
    this.#worker ??= startWorker(({ data }) => this.#settle(data));
    const worker = await this.#worker;
    if (worker === null) return digestBlob(blob, algorithm, { md5 });
    const id = (this.#next += 1);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ id, blob, algorithm, md5 });
    });
  }

  #settle({ id, error, checksum, md5 }) {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new DOMException(error.message, error.name));
    else waiting?.resolve({ checksum, md5 });
  }

  close() {
    this.#worker?.then((worker) => worker?.terminate());
    this.#worker = null;
    for (const { reject } of this.#waiting.values()) {
      reject(new DOMException("The uploader was closed.", "AbortError"));
    }
    this.#waiting.clear();
  }
}

/** Resolves with a worker that is running, or with null. */
function startWorker(onMessage) {
  return new Promise((resolve) => {
    let worker;
    const giveUp = () => {
      worker?.terminate();
      resolve(null);
    };
    const timer = setTimeout(giveUp, START_LIMIT);
    try {
      worker = new Worker(workerAddress(), { type: "module", name: "checksums" });
    } catch {
      clearTimeout(timer);
      giveUp();
      return;
    }
    worker.addEventListener("error", () => {
      clearTimeout(timer);
      giveUp();
    });
    worker.addEventListener("message", (event) => {
      if (!event.data.ready) {
        onMessage(event);
        return;
      }
      clearTimeout(timer);
      resolve(worker);
    });
  });
}

function workerAddress() {
  if (WORKER_URL.origin === globalThis.location?.origin) return WORKER_URL;
  const source = `import ${JSON.stringify(WORKER_URL.href)};`;
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}
