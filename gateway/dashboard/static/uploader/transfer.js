/**
 * One attempt to PUT one part to the store, by XHR, because fetch reports no progress of uploads.
 */

/** With no byte moving for this long, in ms, an attempt is given up. */
const STALL = 30_000;
/**
 * When all bytes are handed over, in ms until the answer must be there: what the system still
 * holds in its send buffers takes minutes on a slow line, and nothing reports its progress.
 */
const ANSWER = 120_000;

/** The attempt failed. `status` is 0 when there was no answer; `code` is the store's own. */
export class TransferError extends Error {
  constructor(message, { status = 0, code = "", stalled = false } = {}) {
    super(message);
    this.name = "TransferError";
    this.status = status;
    this.code = code;
    this.stalled = stalled;
  }
}

/**
 * @param {{url: string, headers: Record<string, string>}} target as signed
 * @param {Blob} blob of exactly the size that was signed; the browser sets Content-Length by it
 * @param {{signal: AbortSignal, giveUp: AbortSignal, onProgress: (bytes: number) => void}} options
 *   `signal` ends all work on the upload, `giveUp` this attempt only, as if it had stalled;
 *   `onProgress` gets the number of bytes of this attempt that are on their way
 * @returns {Promise<string | null>} the ETag, or null where the store's CORS rules hide it
 * @throws {TransferError}
 */
export function putPart({ url, headers }, blob, { signal, giveUp, onProgress }) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const request = new XMLHttpRequest();
    let timer = null;
    let over = false;
    const onAbort = () => {
      end(reject, signal.reason);
      request.abort();
    };
    const onGiveUp = () => {
      end(reject, new TransferError("No byte moved for too long.", { stalled: true }));
      request.abort();
    };
    const end = (settle, value) => {
      over = true;
      clearTimeout(timer);
      giveUp.removeEventListener("abort", onGiveUp);
      signal.removeEventListener("abort", onAbort);
      settle(value);
    };
    const watch = (limit) => {
      clearTimeout(timer);
      timer = setTimeout(onGiveUp, limit);
    };
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", ({ loaded }) => {
      if (over) return;
      watch(loaded < blob.size ? STALL : ANSWER);
      onProgress(loaded);
    });
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) {
        end(resolve, request.getResponseHeader("ETag"));
      } else {
        const code = /<Code>(\w+)<\/Code>/.exec(request.responseText)?.[1] ?? "";
        const message = `The store answered ${request.status} ${code}`.trim();
        end(reject, new TransferError(message, { status: request.status, code }));
      }
    });
    request.addEventListener("error", () => {
      end(reject, new TransferError("The store could not be reached."));
    });
    signal.addEventListener("abort", onAbort);
    giveUp.addEventListener("abort", onGiveUp);
    watch(STALL);
    request.send(blob);
  });
}
