/** Schemas in words: the fields of an object, their types and limits. */

import { element } from "../page/dom.js";
import { nameOf } from "./api.js";
import { inline, paragraphs } from "./text.js";

const WORDS = { string: "text", integer: "whole number", boolean: "true or false" };
const whole = new Intl.NumberFormat("en");

/** One object with an address of its own, which types link to. */
export function objectSection(name, api) {
  const schema = api.document.components.schemas[name];
  return element(
    "section",
    { class: "panel object", id: `object-${name}`, tabIndex: -1 },
    element("h3", {}, element("a", { class: "anchor", href: `#object-${name}` }, name)),
    ...(schema.description ? paragraphs(schema.description, api) : []),
    fields(schema, api),
  );
}

/** The fields of an object; those of objects within it that only occur here are told in place. */
export function fields(schema, api, nested = () => false) {
  const resolved = api.resolve(schema);
  const required = new Set(resolved.required ?? []);
  const rows = Object.entries(resolved.properties ?? {}).map(([name, field]) => {
    const inner = innerObject(field, api);
    return field_(name, field, required.has(name), api, inner && nested(inner) ? inner : null, nested);
  });
  if (rows.length) return element("dl", { class: "fields" }, ...rows);
  return element("p", { class: "type" }, ...type(resolved, api));
}

/** A parameter, in the form of a field. */
export function parameterRow(parameter, api) {
  const { name, schema, required, description } = parameter;
  const where = parameter.in === "path" ? "in the path" : parameter.in;
  return row(name, schema, [where, ...(required ? ["required"] : [])], description, api);
}

function field_(name, field, required, api, inner, nested) {
  const made = row(name, field, required ? ["required"] : [], api.resolve(field).description, api);
  if (inner) made.append(element("dd", { class: "nested" }, fields(inner, api, nested)));
  return made;
}

function row(name, schema, notes, description, api) {
  // Required is what matters; that a field of an answer is always there is no news.
  return element(
    "div",
    { class: "field" },
    element(
      "dt",
      {},
      element("code", { class: "field-name" }, name),
      element("span", { class: "type" }, ...type(schema, api)),
      ...notes.map((note) => element("span", { class: "note-word", data: { note } }, note)),
    ),
    element("dd", {}, ...inline([description, limits(schema, api)].filter(Boolean).join("; "), api)),
  );
}

function innerObject(field, api) {
  const of = [field, field.items, ...(field.anyOf ?? []), ...(field.anyOf ?? []).map((one) => one.items)];
  return of.find((one) => nameOf(one) && api.resolve(one).properties) ?? null;
}

/** Returns the type as words and links. */
function type(schema, api) {
  const name = nameOf(schema);
  if (name) {
    return api.objects.includes(name)
      ? [element("a", { href: `#object-${name}` }, name)]
      : ["object"];
  }
  if (schema.anyOf) return join(schema.anyOf.map((one) => type(one, api)), " or ");
  if (schema.const !== undefined) return [element("code", {}, String(schema.const))];
  if (schema.enum) return join(schema.enum.map((one) => [element("code", {}, String(one))]), ", ");
  const types = [schema.type ?? "anything"].flat();
  return join(types.map((one) => typeWord(one, schema, api)), " or ");
}

function typeWord(one, schema, api) {
  if (one === "array") return ["list of ", ...type(schema.items ?? {}, api)];
  if (one !== "object") return [WORDS[one] ?? one];
  const values = schema.additionalProperties || Object.values(schema.patternProperties ?? {})[0];
  return values && values !== true ? ["object of ", ...type(values, api)] : ["object"];
}

function limits(schema, api) {
  const { minimum, maximum, maxLength, maxItems, pattern, default: preset } = resolvedLimits(schema, api);
  const found = [];
  if (minimum !== undefined && maximum !== undefined) {
    found.push(`${whole.format(minimum)} to ${whole.format(maximum)}`);
  } else if (minimum !== undefined && minimum > 0) found.push(`from ${whole.format(minimum)}`);
  if (maxLength !== undefined) found.push(`at most ${whole.format(maxLength)} characters`);
  if (maxItems !== undefined) found.push(`at most ${whole.format(maxItems)}`);
  if (pattern) found.push(`\`${pattern}\``);
  if (preset !== undefined) found.push(`\`${JSON.stringify(preset)}\` without`);
  return found.join("; ");
}

function resolvedLimits(schema, api) {
  const of = [api.resolve(schema), ...(schema.anyOf ?? [])];
  return Object.assign({}, ...of.filter((one) => !nameOf(one)).reverse());
}

function join(pieces, between) {
  return pieces.flatMap((piece, index) => (index ? [between, ...piece] : piece));
}
