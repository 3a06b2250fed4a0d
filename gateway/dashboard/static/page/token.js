/**
 * The access token: from the address's fragment, which no server ever sees, into sessionStorage.
 *
 * The fragment is taken out of the address at once, so that it is neither copied nor kept in the
 * history.
 */

const KEY = "gateway-token";

/** @returns {boolean} whether there was one */
export function takeTokenFromAddress() {
  // By hand: URLSearchParams would read the plus signs of a base64 token as blanks.
  const found = /(?:^#|&)token=([^&]*)/.exec(location.hash);
  if (!found) return false;
  history.replaceState(history.state, "", location.pathname + location.search);
  saveToken(decode(found[1]));
  return true;
}

export function savedToken() {
  return sessionStorage.getItem(KEY);
}

export function saveToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
