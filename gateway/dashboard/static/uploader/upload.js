/**
 * One upload as a page sees it: its state, its figures, its events, and what may be asked of it.
 *
 * Events, each with a `detail`: `progress` (as the property), `state` ({state, trouble, error,
 * relayed}),
 * `done` (the session) and `error` (UploadError). The work is done by its Delivery.
 */
export class Upload extends EventTarget {
  #delivery;

  /** Made by Uploader.upload(). */
  constructor(delivery) {
    super();
    this.#delivery = delivery;
  }

  get file() {
    return this.#delivery.file;
  }

  /**
   * `queued`, `preparing`, `uploading`, `completing`, `verifying`, `completed`, `paused`, `failed`,
   * `aborting` or `aborted`.
   */
  get state() {
    return this.#delivery.state;
  }

  /** Why nothing moves just now (UploadError), though it goes on by itself; else null. */
  get trouble() {
    return this.#delivery.trouble;
  }

  /** Why it failed (UploadError), else null. */
  get error() {
    return this.#delivery.error;
  }

  /** The session as the gateway last showed it, or null. */
  get session() {
    return this.#delivery.session;
  }

  /**
   * `sent` counts what is stored and on its way, and never falls; `stored` only what is stored with
   * the bytes of this file; `fraction` is what of the file is sent, 0 to 1; `speed` (bytes/s) and
   * `secondsLeft` are null while unknown; `verified` is the fraction read back while verifying,
   * else null; `relayed` as the property below.
   */
  get progress() {
    return this.#delivery.progress;
  }

  /** Whether the bytes go through the gateway, since the store cannot be reached from here. */
  get relayed() {
    return this.#delivery.route.relayed;
  }

  /** Why they do (UploadError `store_unreachable` or `store_blocked`), else null. */
  get relayCause() {
    return this.#delivery.route.cause;
  }

  /** Whether an earlier try was found and is being continued. */
  get resumed() {
    return this.#delivery.resumed;
  }

  /** What the gateway knows this file by; null until it is computed. */
  get fingerprint() {
    return this.#delivery.fingerprint;
  }

  /** Stops at once; what is stored stays. Without effect once all bytes are sent. */
  pause() {
    this.#delivery.pause();
  }

  /** Goes on after pause() or an error. */
  resume() {
    this.#delivery.resume();
  }

  /**
   * Gives the upload up and has its parts deleted.
   *
   * @returns {Promise<void>} settled when the gateway has answered; the state is then `aborted`, or
   *   `failed` when another client has completed it before
   */
  abort() {
    return this.#delivery.abort();
  }

  /** Ends all waiting between attempts, and attempts at which nothing moves. */
  retryNow() {
    this.#delivery.retryNow();
  }
}
