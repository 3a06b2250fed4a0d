/** The little CommonMark that the document uses: paragraphs, and code between backticks. */

import { element } from "../page/dom.js";

/** Returns the paragraphs of a text. */
export function paragraphs(text, api) {
  return text.split(/\n\s*\n/).map((paragraph) => element("p", {}, ...inline(paragraph, api)));
}

/** Returns the pieces of a line; the name of a call becomes a link to it. */
export function inline(text, api) {
  return text.split(/(`[^`]*`)/).map((piece) => {
    if (!/^`[^`]+`$/.test(piece)) return piece;
    const words = piece.slice(1, -1);
    const code = element("code", {}, words);
    return api.ids?.has(words) ? element("a", { href: `#${words}` }, code) : code;
  });
}
