/** The little CommonMark that the document uses: paragraphs, and code between backticks. */

import { element } from "../page/dom.js";

/** Returns the paragraphs of a text; names among `links` lead to what they name. */
export function paragraphs(text, links) {
  return text.split(/\n\s*\n/).map((paragraph) => element("p", {}, ...inline(paragraph, links)));
}

/** Returns the pieces of a line. */
export function inline(text, links = new Set()) {
  return text.split(/(`[^`]*`)/).map((piece) => {
    if (!/^`[^`]+`$/.test(piece)) return piece;
    const words = piece.slice(1, -1);
    const code = element("code", {}, words);
    return links.has(words) ? element("a", { href: `#${words}` }, code) : code;
  });
}
