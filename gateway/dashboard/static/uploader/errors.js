/** The errors that end an upload, or tell why it waits. */

/**
 * An error with a stable code: one of the gateway's own, or one of these, found here:
 * `file_changed`, `already_uploading`, `part_damaged`, `store_refused`, `etag_hidden`,
 * `content_differs`, `relay_too_large`, `not_a_gateway`, `unexpected`. Only as trouble, which passes: `offline`,
 * `gateway_unreachable`, `gateway_blocked`, `token_unavailable`, `store_unreachable`,
 * `store_blocked`, `store_busy`, `storage_full`.
 */
export class UploadError extends Error {
  /**
   * @param {string} code stable, snake_case
   * @param {string} message what is wrong, in a sentence
   * @param {{hint?: string, status?: number, retryable?: boolean, retryAfter?: number | null,
   *   details?: object, requestId?: string, cause?: unknown}} rest
   *   `retryAfter` in seconds, as the gateway suggests it
   */
  constructor(code, message, rest = {}) {
    super(message, { cause: rest.cause });
    this.name = "UploadError";
    this.code = code;
    this.hint = rest.hint ?? "";
    this.status = rest.status ?? 0;
    this.retryable = rest.retryable ?? false;
    this.retryAfter = rest.retryAfter ?? null;
    this.details = rest.details ?? {};
    this.requestId = rest.requestId ?? "";
  }

  /** What is wrong and what to do about it, for people. */
  toString() {
    return `${this.message} ${this.hint}`.trim();
  }
}

const FILE_ERRORS = new Set(["NotReadableError", "NotFoundError", "SecurityError"]);

/** Turns what was thrown while a file was read or sent into an UploadError. */
export function asUploadError(error) {
  if (error instanceof UploadError) return error;
  if (error instanceof DOMException && FILE_ERRORS.has(error.name)) return fileChanged(error);
  return new UploadError("unexpected", "Something went wrong in this page.", {
    hint: `Reload the page and choose the file again. (${error?.message ?? error})`,
    cause: error,
  });
}

export function fileChanged(cause) {
  return new UploadError("file_changed", "The file was changed or moved while it was being sent.", {
    hint: "Choose the file again: parts that are still the same are not sent a second time.",
    cause,
  });
}

/** The session is no longer there. */
export function gone({ state }) {
  return new UploadError("session_gone", `The upload was ${state}.`, {
    hint: "What was stored of it has been deleted; start again.",
  });
}

/** The session has ended, and not in `completed`. */
export function ended(session) {
  if (session.state === "aborted" || session.state === "expired") return gone(session);
  const { error } = session;
  return new UploadError(
    session.state === "rejected" ? "rejected" : "corrupt",
    error?.message ?? "What is stored is not what was sent.",
    { hint: error?.hint, details: { session } },
  );
}
