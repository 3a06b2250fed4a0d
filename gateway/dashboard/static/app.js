/** The upload page: files in, cards up, the list below. All the work is the library's. */

import { announce } from "./page/announcer.js";
import { Card } from "./page/card.js";
import { element, setText } from "./page/dom.js";
import { formatBytesOf, percent } from "./page/format.js";
import { rememberHere, wasHere } from "./page/memory.js";
import { SessionList } from "./page/sessions.js";
import { saveToken, savedToken, takeTokenFromAddress } from "./page/token.js";
import { relayedDownloadWords } from "./page/words.js";
import { Uploader } from "./uploader.js";

takeTokenFromAddress();

const find = (id) => document.getElementById(id);
const drop = find("drop");
const picker = find("picker");
const cardList = find("cards");
const active = find("active");
const notices = find("notices");
const uploader = new Uploader({ getToken: savedToken });
const cards = new Set();
const downloading = new Set();
/** What the next chosen file is for: a session of the list, or a card that lost its file. */
let expected = null;

const sessions = new SessionList(uploader.api, {
  here: (id) =>
    [...cards]
      .map(({ upload }) => upload)
      .find((upload) => upload.session?.session_id === id && isBusy(upload)),
  wasHere,
  goOn: (session) => choose({ session }),
  download,
  unauthenticated: () => askToken(savedToken() !== null),
  reached: () => hideTokenForm(),
});

function isBusy({ state }) {
  return !["completed", "failed", "aborted"].includes(state);
}

function addFiles(files, { sessionId = null, note = null } = {}) {
  notices.replaceChildren();
  const added = files.map((file) => {
    const upload = uploader.upload(file, { sessionId });
    const card = new Card(upload, { remove, chooseAgain, download }, note);
    cards.add(card);
    upload.addEventListener("state", () => onState(upload));
    upload.addEventListener("progress", showTitle);
    return card.element;
  });
  cardList.prepend(...added);
  active.hidden = cards.size === 0;
  if (files.length === 1) announce(`${files[0].name} added`);
  if (files.length > 1) announce(`${files.length} files added`);
}

function onState(upload) {
  showTitle();
  if (upload.state === "uploading") rememberHere(upload.session.session_id);
  if (upload.error?.status === 401) askToken(savedToken() !== null);
  sessions.refresh();
}

function remove(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  const focused = card.element.contains(document.activeElement);
  card.element.remove();
  cards.delete(card);
  uploader.remove(card.upload);
  active.hidden = cards.size === 0;
  if (focused) (next ?? find("choose")).focus();
  showTitle();
  sessions.refresh();
}

function choose(what) {
  expected = what;
  picker.multiple = what === null;
  picker.value = "";
  picker.click();
}

function chooseAgain(card) {
  choose({ card });
}

/** The file chosen for a session goes on with it if it can be the same; else it is a new upload. */
function onChosen(files) {
  const wanted = expected;
  expected = null;
  if (files.length === 0) return;
  if (wanted === null) {
    addFiles(files);
    return;
  }
  const session = wanted.session ?? wanted.card.upload.session;
  if (wanted.card) remove(wanted.card);
  const [file] = files;
  const fits = session && file.size === session.size && file.name === session.filename;
  if (fits) {
    addFiles([file], { sessionId: session.session_id });
  } else {
    const note = session
      ? `It is not the file of the unfinished upload “${session.filename}”, so it is a new one.`
      : null;
    addFiles([file], { note });
  }
}

/**
 * Asks for an address that needs no token, and goes there: a link could not carry the token. Where
 * the storage cannot be reached from here, the file comes through the gateway, and is then saved.
 */
async function download(sessionId) {
  if (downloading.has(sessionId)) return;
  downloading.add(sessionId);
  let notice = null;
  const onProgress = ({ loaded, total, filename }) => {
    if (notice === null) {
      notice = element("p", { class: "notice", data: { tone: "warn" } });
      notices.append(notice);
      announce(`${filename} comes through the server`);
    }
    setText(notice, `${relayedDownloadWords(filename)} ${formatBytesOf(loaded, total)}.`);
  };
  try {
    const { href, filename, relayed } = await uploader.api.link(sessionId, { onProgress });
    const link = element("a", { href, rel: "noreferrer" });
    if (relayed) link.download = filename;
    link.click();
    // The browser has taken the file over by then.
    if (relayed) setTimeout(() => URL.revokeObjectURL(href), 60_000);
  } finally {
    downloading.delete(sessionId);
    notice?.remove();
  }
}

function askToken(rejected) {
  const form = find("token-form");
  setText(
    find("token-why"),
    rejected
      ? "The gateway did not accept the token. Check it, or ask your administrator for a new one."
      : "Your administrator has given you one. It stays in this window only.",
  );
  find("sessions").hidden = true;
  if (!form.hidden) return;
  form.hidden = false;
  announce("Access token needed");
  find("token").focus();
}

function hideTokenForm() {
  find("token-form").hidden = true;
}

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  saveToken(find("token").value.trim());
  find("token").value = "";
  hideTokenForm();
  goOnWithToken();
});

function goOnWithToken() {
  for (const { upload } of cards) if (upload.error?.status === 401) upload.resume();
  sessions.refresh();
}

addEventListener("hashchange", () => {
  if (takeTokenFromAddress()) goOnWithToken();
});

function showTitle() {
  const busy = [...cards].map(({ upload }) => upload).filter(isBusy);
  const [sent, total] = busy.reduce(
    ([a, b], { progress }) => [a + progress.sent, b + progress.total],
    [0, 0],
  );
  document.title = busy.length === 0 ? "Uploads" : `${percent(sent, total)} % · Uploads`;
}

find("choose").addEventListener("click", () => choose(null));
picker.addEventListener("change", () => onChosen([...picker.files]));

function hasFiles(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  drop.dataset.over = "true";
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) delete drop.dataset.over;
});
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  delete drop.dataset.over;
  const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
  const folders = items.filter((item) => item.webkitGetAsEntry?.()?.isDirectory);
  const files = items.filter((item) => !folders.includes(item)).map((item) => item.getAsFile());
  addFiles(files);
  if (folders.length > 0) {
    const text = "Folders cannot be uploaded as such. Open the folder and drop the files in it.";
    notices.replaceChildren(element("p", { class: "notice", data: { tone: "warn" } }, text));
    announce(text);
  }
});

sessions.refresh();
