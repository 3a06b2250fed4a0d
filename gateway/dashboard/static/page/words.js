/** What the page says: one place, so that the same thing is always called the same. */

const HOLDS = "Nothing that is stored is lost.";

/** In the way for now; each goes on by itself. */
const TROUBLES = {
  offline: ["You are offline", "It goes on by itself when the connection is back."],
  gateway_unreachable: ["The gateway does not answer", `Trying again. ${HOLDS}`],
  store_unreachable: ["The storage does not answer", `Trying again. ${HOLDS}`],
  store_busy: ["The storage is busy", `Trying again, more slowly. ${HOLDS}`],
  storage_full: ["The storage is full", "It goes on by itself when there is room again."],
  rate_limited: ["Too many requests", "It goes on by itself in a moment."],
};

const NEEDS_TOKEN = {
  title: "Access token needed",
  text: "Enter it above, and the upload goes on.",
  again: "resume",
};

/** Ended it; `again` is what may be offered: resume, restart, choose, or null. */
const FAILURES = {
  unauthenticated: NEEDS_TOKEN,
  invalid_token: NEEDS_TOKEN,
  forbidden: { title: "Not allowed", again: "resume" },
  session_gone: {
    title: "This upload is no longer there",
    text: "It expired or was cancelled elsewhere, and what was stored of it has been deleted.",
    again: "restart",
  },
  session_not_found: {
    title: "This upload is no longer there",
    text: "The gateway does not know it any more.",
    again: "restart",
  },
  file_changed: {
    title: "The file was changed or moved",
    text: "Choose it again. Parts that are still the same are not sent a second time.",
    again: "choose",
  },
  corrupt: {
    title: "The stored file is damaged",
    text:
      "What the storage holds is not what was sent. It has been set aside and is not handed out.",
    again: "restart",
  },
  // What was refused, and what is taken here, the gateway says.
  rejected: { title: "The file was not accepted", again: null },
  file_type_not_allowed: { title: "Files of this kind are not accepted", again: null },
  content_not_allowed: { title: "The file was not accepted", again: null },
  file_too_large: { title: "The file is too large", again: null },
  already_uploading: {
    title: "This file is on its way already",
    text: "See the other entry in this window.",
    again: null,
  },
  content_differs: {
    title: "Completed with other content",
    text: "Another window or program finished this upload with a file that is not the same.",
    again: "restart",
  },
};

/** @returns {{title: string, text: string}} */
export function troubleWords({ code, message, hint, details }) {
  if (code === "store_blocked") {
    return {
      title: "The storage does not let this page in",
      text:
        `${details.origin} answers, but refuses to take files from here. Whoever runs it must ` +
        "allow this page's address in its CORS rules; then it goes on by itself.",
    };
  }
  const known = TROUBLES[code];
  if (known) return { title: known[0], text: known[1] };
  return { title: "The gateway is not ready", text: `${message} ${hint} Trying again.`.trim() };
}

/** Why a file goes through the gateway. */
export function relayWords(cause) {
  const why =
    cause?.code === "store_blocked"
      ? "The storage takes no files from this page directly"
      : "Your network cannot reach the storage directly";
  return `${why}; the file goes through the server, which may be slower.`;
}

/** Of a download that comes through the gateway. */
export function relayedDownloadWords(name) {
  return `Your network cannot reach the storage directly; ${name} comes through the server.`;
}

/** @returns {{title: string, text: string, again: "resume" | "restart" | "choose" | null}} */
export function failureWords({ code, message, hint }) {
  const words = FAILURES[code] ?? { title: "This did not work", again: "resume" };
  return { ...words, text: words.text ?? `${message} ${hint}`.trim() };
}

export const AGAIN_LABELS = {
  resume: "Try again",
  restart: "Start again",
  choose: "Choose the file again",
};

export function stateWords(upload) {
  const verified = upload.progress.verified;
  return {
    queued: "Waiting for its turn",
    preparing: "Looking for an earlier try",
    uploading: upload.resumed ? "Going on where it stopped" : "Uploading",
    completing: "Putting the parts together",
    verifying:
      verified === null ? "Checking" : `Reading it back to check: ${Math.floor(verified * 100)}\u00a0%`,
    completed: "Stored and verified",
    paused: "Paused",
    failed: "Stopped",
    aborting: "Cancelling",
    aborted: "Cancelled",
  }[upload.state];
}

/** What a `verified_by` means, for people. */
export const VERIFIED = {
  client_parts: "The storage holds exactly the bytes that were read here, checked part by part.",
  client_file: "The stored bytes match the checksum that was given for the whole file.",
  gateway: "The storage holds exactly the bytes that the server received, checked part by part.",
  store: "The storage vouches for its own copy; there was no checksum from here to compare with.",
};

const SESSION_STATES = {
  open: "Unfinished",
  completing: "Putting together",
  verifying: "Being checked",
  completed: "Verified",
  corrupt: "Damaged",
  rejected: "Rejected",
  aborted: "Cancelled",
  expired: "Expired",
};

/** A session's state in the list; `here` is its upload in this window, if there is one. */
export function sessionWords({ state, verified_by: by }, active, here) {
  if (state === "open" && here?.state === "paused") return "Paused";
  if (state === "open" && here?.trouble) return "Waiting";
  if (state === "open" && active) return "Uploading";
  if (state === "completed" && by === "store") return "Stored";
  return SESSION_STATES[state];
}
