/**
 * The worker that reads and digests parts, one after the other, off the page's own thread.
 *
 * In: `{id, blob, algorithm, md5}`. Out: `{id, checksum, md5}` or `{id, error: {name, message}}`,
 * and once, at the start, `{ready: true}`.
 */

import { digestBlob } from "./checksums.js";

let last = Promise.resolve();

async function answer({ id, blob, algorithm, md5 }) {
  try {
    postMessage({ id, ...(await digestBlob(blob, algorithm, { md5 })) });
  } catch (error) {
    postMessage({ id, error: { name: error.name, message: error.message } });
  }
}

addEventListener("message", ({ data }) => {
  // In turn, so that no more than one piece of one part is in memory.
  last = last.then(() => answer(data));
});

postMessage({ ready: true });
