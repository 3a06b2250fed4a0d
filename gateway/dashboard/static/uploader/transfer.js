/**
 * One attempt to send one part, to the store or to the gateway, or to fetch a file. By XHR, because
 * fetch reports no progress of uploads, and of downloads only to whoever holds their bytes.
 */

/** With no byte moving for this long, in ms, an attempt is given up. */
const STALL = 30_000;
/** The same where nothing is known to be there: a network that swallows everything is no news. */
const FIRST_STALL = 15_000;
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
 * @param {{signal: AbortSignal, giveUp: AbortSignal, onProgress: (bytes: number) => void,
 *   strange?: boolean, refusal?: (request: XMLHttpRequest) => Error}} options
 *   `signal` ends all work on the upload, `giveUp` this attempt only, as if it had stalled;
 *   `onProgress` gets the number of bytes of this attempt that are on their way; `strange`: nobody
 *   has answered there yet; `refusal` makes the error of an answer that is no success
 * @returns {Promise<string | null>} the ETag, or null where the store's CORS rules hide it
 * @throws {TransferError}
 */
export function putPart(
  { url, headers },
  blob,
  { signal, giveUp, onProgress, strange = false, refusal = storeRefusal },
) {
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
        end(reject, refusal(request));
      }
    });
    request.addEventListener("error", () => {
      end(reject, new TransferError("There was no answer."));
    });
    signal.addEventListener("abort", onAbort);
    giveUp.addEventListener("abort", onGiveUp);
    watch(strange ? FIRST_STALL : STALL);
    request.send(blob);
  });
}

function storeRefusal({ status, responseText }) {
  const code = /<Code>(\w+)<\/Code>/.exec(responseText)?.[1] ?? "";
  const message = `The store answered ${status} ${code}`.trim();
  return new TransferError(message, { status, code });
}

/**
 * Fetches a file as a Blob, which browsers keep on disk where it is large.
 *
 * @param {{url: string, headers: Record<string, string>}} source
 * @param {{signal?: AbortSignal, onProgress?: (bytes: number) => void,
 *   refusal: (answer: {status: number, responseText: string}) => Error}} options
 * @returns {Promise<Blob>}
 * @throws {TransferError}
 */
export function getBlob({ url, headers }, { signal, onProgress, refusal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer = null;
    const onAbort = () => end(reject, signal.reason);
    const end = (settle, value) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      settle(value);
      request.abort();
    };
    const fail = () => end(reject, new TransferError("There was no answer, or it broke off."));
    const watch = () => {
      clearTimeout(timer);
      timer = setTimeout(fail, STALL);
    };
    request.open("GET", url);
    request.responseType = "blob";
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.addEventListener("progress", ({ loaded }) => {
      watch();
      onProgress?.(loaded);
    });
    request.addEventListener("error", fail);
    request.addEventListener("load", async () => {
      const { status, response } = request;
      if (status === 200) end(resolve, response);
      else {
        const responseText = await response.text();
        const getResponseHeader = (name) => request.getResponseHeader(name);
        end(reject, refusal({ status, responseText, getResponseHeader }));
      }
    });
    if (signal?.aborted) {
      end(reject, signal.reason);
      return;
    }
    signal?.addEventListener("abort", onAbort);
    watch();
    request.send();
  });
}
