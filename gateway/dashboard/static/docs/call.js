/** One call: what it takes, what it answers, how it fails. */

import { element } from "../page/dom.js";
import { nameOf } from "./api.js";
import { codeBlock, jsonBlock } from "./code.js";
import { bodyFields, fields, parameterRow } from "./schema.js";
import { inline, paragraphs } from "./text.js";

const PROBLEM = "application/problem+json";

export function callSection(call, api) {
  const title = `${call.id}-title`;
  return element(
    "section",
    { class: "panel call", id: call.id, tabIndex: -1, aria: { labelledby: title } },
    element(
      "p",
      { class: "address" },
      element("span", { class: "method", data: { method: call.method } }, call.method),
      element("code", {}, ...path(call.path)),
      call.isPublic ? element("span", { class: "note-word" }, "public") : null,
    ),
    element("h3", { id: title }, element("a", { class: "anchor", href: `#${call.id}` }, call.summary)),
    ...(call.description === call.summary ? [] : paragraphs(call.description)),
    ...call.samples.flatMap(({ label, source }) => [
      label === "curl" ? null : element("h4", {}, label),
      codeBlock(source, `${label}: ${call.summary}`),
    ]).filter(Boolean),
    parameters(call, api),
    body(call, api),
    answers(call, api),
    events(call, api),
    errors(call, api),
  );
}

/** Lets a long path break after its slashes. */
function path(text) {
  return text.split(/(?<=\/)/).flatMap((piece) => [piece, element("wbr")]);
}

function block(title, ...children) {
  return element("div", { class: "block" }, element("h4", {}, title), ...children);
}

function parameters(call, api) {
  if (!call.parameters.length) return null;
  const rows = call.parameters.map((parameter) => parameterRow(parameter, api));
  return block("Parameters", element("dl", { class: "fields" }, ...rows));
}

function body(call, api) {
  if (!call.body) return null;
  const { schema, examples } = Object.values(call.body.content)[0];
  const about = api.resolve(schema).description;
  return block(
    call.body.required ? "Body" : "Body, optional",
    ...(about ? paragraphs(about) : []),
    bodyFields(schema, api),
    ...Object.values(examples ?? {}).map(({ summary, value }) => fold(summary, jsonBlock(value, summary))),
  );
}

function answers(call, api) {
  const found = call.responses.filter(({ content, status }) => !isError({ content, status }));
  return block("Answers", ...found.map((response) => answer(call, response, api)));
}

function isError({ content, status }) {
  const types = Object.keys(content ?? {});
  return Number(status) >= 400 && types.every((type) => type === PROBLEM);
}

function answer(call, response, api) {
  const { status, description, headers, content } = response;
  const bodies = Object.entries(content ?? {}).filter(([type]) => type !== PROBLEM);
  const own = Object.entries(headers ?? {}).filter(([name]) => !EVERYWHERE.has(name));
  const inside = [
    own.length
      ? element(
          "dl",
          { class: "fields" },
          ...own.map(([name, header]) => headerRow(name, api.resolve(header), api)),
        )
      : null,
    ...bodies.flatMap(([type, { schema, example }]) => [
      element("p", { class: "type" }, mediaType(type), ...named(schema, api)),
      ...(api.resolve(schema).properties ? [fields(schema, api)] : []),
      ...(example === undefined ? [] : [jsonBlock(example, `Example of ${call.summary}`)]),
    ]),
  ].filter(Boolean);
  const line = [
    element("span", { class: "status", data: { class: status[0] } }, status),
    element("span", {}, ...inline(description)),
  ];
  const id = `${call.id}-${status}`;
  if (!inside.length) return element("p", { class: "plain-answer", id }, ...line);
  return element("details", { class: "answer", id }, element("summary", {}, ...line), ...inside);
}

/** What every answer carries is told in the introduction. */
const EVERYWHERE = new Set(["X-Request-Id", "Date"]);

function named(schema, api) {
  const name = nameOf(schema);
  return name && api.objects.includes(name)
    ? [" ", element("a", { href: `#object-${name}` }, name)]
    : [];
}

function mediaType(type) {
  return type === "*/*" ? "Bytes of the file's own type" : element("code", {}, type);
}

function headerRow(name, header, api) {
  return element(
    "div",
    { class: "field" },
    element(
      "dt",
      {},
      element("code", { class: "field-name" }, name),
      element("span", { class: "note-word" }, "header"),
    ),
    element("dd", {}, ...inline(header.description ?? "")),
  );
}

function events(call, api) {
  if (!call.events.length) return null;
  const rows = call.events.map(([name, schema]) =>
    element(
      "div",
      { class: "field" },
      element("dt", {}, element("code", { class: "field-name" }, `event: ${name}`)),
      element("dd", {}, "data: ", ...named(schema, api)),
    ),
  );
  return block("Events", element("dl", { class: "fields" }, ...rows));
}

function errors(call, api) {
  const found = call.responses.filter(({ content }) => content?.[PROBLEM]);
  if (!found.length) return null;
  return block(
    "Errors",
    ...found.map((response) => {
      const codes = codesOf(response.content[PROBLEM].schema);
      const more = codes.length > 1 ? `${codes.length} codes` : codes[0].const;
      return element(
        "details",
        { class: "answer", id: `${call.id}-error-${response.status}` },
        element(
          "summary",
          {},
          element("span", { class: "status", data: { class: response.status[0] } }, response.status),
          element("span", {}, more),
        ),
        element(
          "dl",
          { class: "fields" },
          ...codes.map(({ const: code, description }) =>
            element(
              "div",
              { class: "field" },
              element("dt", {}, element("code", { class: "field-name" }, code)),
              element("dd", {}, ...inline(description)),
            ),
          ),
        ),
      );
    }),
  );
}

function codesOf(schema) {
  return schema.allOf.flatMap((one) => one.properties?.code?.oneOf ?? []);
}

function fold(title, ...children) {
  return element("details", { class: "answer" }, element("summary", {}, title), ...children);
}
