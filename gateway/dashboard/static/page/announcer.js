/** Tells screen readers of what changed; states, not ticks. */

const region = document.getElementById("announcer");
let timer = null;
let waiting = [];

/** Announcements that come together are read together, none swallowing another. */
export function announce(text) {
  waiting.push(text);
  timer ??= setTimeout(() => {
    region.textContent = waiting.join(". ");
    waiting = [];
    timer = null;
  }, 150);
}
