/** Which sessions this window has sent parts of, across reloads. */

const KEY = "gateway-sessions";
const MOST = 100;

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}

export function wasHere(sessionId) {
  return read().includes(sessionId);
}

export function rememberHere(sessionId) {
  const known = read();
  if (known.includes(sessionId)) return;
  sessionStorage.setItem(KEY, JSON.stringify([sessionId, ...known].slice(0, MOST)));
}
