/** The page of the API: everything on it comes out of openapi.json. */

import { Api } from "./docs/api.js";
import { callSection } from "./docs/call.js";
import { codeBlock } from "./docs/code.js";
import { objectSection } from "./docs/schema.js";
import { paragraphs } from "./docs/text.js";
import { element, textButton } from "./page/dom.js";

// Ids with a hyphen are the page's own; those of calls are the names that the document gives them.
const content = document.getElementById("all-calls");
const contents = document.getElementById("call-menu");
const NARROW = matchMedia("(max-width: 60rem)");

async function load() {
  content.replaceChildren();
  content.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch("openapi.json");
    if (!answer.ok) throw new Error(`The gateway answers ${answer.status}.`);
    show(new Api(await answer.json()));
  } catch (error) {
    content.append(
      element(
        "div",
        { class: "notice", role: "alert", data: { tone: "danger" } },
        element("p", {}, `openapi.json cannot be read. ${error.message}`),
        textButton("Try again", load),
      ),
    );
  } finally {
    content.setAttribute("aria-busy", "false");
  }
}

function show(api) {
  const list = element("ul", { class: "contents-tags" });
  content.append(introduction(api));
  for (const { name, description, calls } of api.tags) {
    const id = `tag-${name.toLowerCase()}`;
    content.append(
      element(
        "section",
        { class: "tag", id, aria: { labelledby: `${id}-title` } },
        element("h2", { id: `${id}-title` }, name),
        ...paragraphs(description),
        ...calls.map((call) => callSection(call, api)),
      ),
    );
    list.append(
      element(
        "li",
        {},
        element("p", { class: "contents-tag" }, name),
        element("ul", {}, ...calls.map(contentsLine)),
      ),
    );
  }
  content.append(objects(api));
  list.append(element("li", {}, element("a", { class: "contents-tag", href: "#all-objects" }, "Objects")));
  document.getElementById("call-list").replaceChildren(list);
  list.addEventListener("click", ({ target }) => {
    if (NARROW.matches && target.closest("a")) contents.open = false;
  });
  follow();
  goToHash();
}

function contentsLine(call) {
  return element(
    "li",
    {},
    element(
      "a",
      { href: `#${call.id}` },
      element("span", { class: "method", data: { method: call.method } }, call.method),
      element("span", {}, call.summary),
    ),
  );
}

function introduction(api) {
  const variables =
    `export GW_SERVER=${location.origin} GW_TOKEN=...\n` +
    "export SESSION_ID=...   # session_id, as create answers it";
  return element(
    "section",
    { class: "introduction", aria: { label: "Introduction" } },
    ...paragraphs(api.description, api.ids),
    ...paragraphs("Every example below is a line for a shell that knows these:"),
    codeBlock(variables, "Shell"),
    ...paragraphs(api.security),
    ...api.common.map((parameter) =>
      element(
        "p",
        {},
        "Any request may carry ",
        element("code", {}, parameter.name),
        `: ${parameter.description[0].toLowerCase()}${parameter.description.slice(1)}`,
      ),
    ),
    element("p", { class: "fine" }, `Version ${api.version}`),
  );
}

function objects(api) {
  return element(
    "section",
    { class: "tag", id: "all-objects", aria: { labelledby: "objects-title" } },
    element("h2", { id: "objects-title" }, "Objects"),
    element("p", {}, "What answers and events are made of."),
    ...api.objects.map((name) => objectSection(name, api)),
  );
}

/** Marks the line of the call that is being read. */
function follow() {
  const lines = new Map();
  for (const line of document.querySelectorAll(".contents a")) {
    lines.set(decodeURIComponent(line.hash.slice(1)), line);
  }
  const visible = new Set();
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) visible.add(target);
        else visible.delete(target);
      }
      const sections = [...document.querySelectorAll(".call")];
      const first = sections.find((section) => visible.has(section));
      for (const [id, line] of lines) {
        if (first?.id === id) line.setAttribute("aria-current", "true");
        else line.removeAttribute("aria-current");
      }
    },
    { rootMargin: "-10% 0px -60% 0px" },
  );
  for (const section of document.querySelectorAll(".call")) watcher.observe(section);
}

/** What an address leads to may lie in something folded: unfold it, and let it be read. */
function goToHash() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let node = target; node; node = node.parentElement) {
    if (node instanceof HTMLDetailsElement) node.open = true;
  }
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}

function foldContents() {
  contents.open = !NARROW.matches;
}

NARROW.addEventListener("change", foldContents);
window.addEventListener("hashchange", goToHash);
foldContents();
await load();
