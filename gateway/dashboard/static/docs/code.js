/** A block of code, with a button that copies it where the browser lets pages do that. */

import { element, textButton } from "../page/dom.js";

const COPIED_MS = 1500;

export function codeBlock(source, label) {
  // It scrolls, so the keyboard must be able to get there.
  const block = element("pre", { tabIndex: 0, aria: { label } }, element("code", {}, source));
  const figure = element("div", { class: "code" }, block);
  if (navigator.clipboard) {
    const button = textButton("Copy", copy, "button small quiet copy");
    figure.append(button);
    async function copy() {
      try {
        await navigator.clipboard.writeText(source);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(block);
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
    }
  }
  return figure;
}

export function jsonBlock(value, label) {
  return codeBlock(typeof value === "string" ? value : JSON.stringify(value, null, 2), label);
}
