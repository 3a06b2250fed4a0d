/** Asks before something is deleted. */

import { setText } from "./dom.js";

const dialog = document.getElementById("confirm");
const text = document.getElementById("confirm-text");

for (const button of dialog.querySelectorAll("button")) {
  button.addEventListener("click", () => dialog.close(button.value));
}

/** @returns {Promise<boolean>} whether to go ahead; Escape means no */
export function confirmCancel(name) {
  setText(text, `What has been stored of “${name}” will be deleted.`);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "cancel"), {
      once: true,
    });
  });
}
