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
    ...(schema.description ? paragraphs(schema.description) : []),
    fields(schema, api),
  );
}

/**
 * The fields of an object of an answer: all are there, unless it says otherwise.
 * @returns {HTMLElement}
 */
export function fields(schema, api) {
  return fieldList(schema, api, (name, field, required) =>
    row(name, field, required ? [] : ["not always"], api.resolve(field).description, api),
  );
}

/** The fields of a body, those of the objects in it included: they have no place of their own. */
export function bodyFields(schema, api) {
  return fieldList(schema, api, (name, field, required) => {
    const notes = required ? ["required"] : [];
    const made = row(name, field, notes, api.resolve(field).description, api);
    const inner = innerObject(field, api);
    if (inner) made.append(element("dd", { class: "nested" }, bodyFields(inner, api)));
    return made;
  });
}

function fieldList(schema, api, makeRow) {
  const { properties, required } = api.resolve(schema);
  const rows = Object.entries(properties ?? {}).map(([name, field]) =>
    makeRow(name, field, required?.includes(name) ?? false),
  );
  return element("dl", { class: "fields" }, ...rows);
}

/** A parameter, in the form of a field. */
export function parameterRow(parameter, api) {
  const { name, schema, required, description } = parameter;
  const where = parameter.in === "path" ? "in the path" : parameter.in;
  return row(name, schema, [where, ...(required ? ["required"] : [])], description, api);
}

function row(name, schema, notes, description, api) {
  const bounds = limits(schema, api);
  return element(
    "div",
    { class: "field" },
    element(
      "dt",
      {},
      element("code", { class: "field-name" }, name),
      element("span", { class: "type" }, ...type(schema, api), ...inline(bounds && `, ${bounds}`)),
      ...notes.map((note) => element("span", { class: "note-word", data: { note } }, note)),
    ),
    element("dd", {}, ...inline(description ?? "")),
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
  if (schema.format === "date-time") return ["time"];
  if (schema.format === "binary") return ["bytes"];
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
  // A time is one, however it is spelled.
  if (pattern && !api.resolve(schema).format) found.push(`\`${pattern}\``);
  if (preset !== undefined) found.push(`\`${JSON.stringify(preset)}\` if left out`);
  return found.join(", ");
}

function resolvedLimits(schema, api) {
  const of = [api.resolve(schema), ...(schema.anyOf ?? [])];
  return Object.assign({}, ...of.filter((one) => !nameOf(one)).reverse());
}

function join(pieces, between) {
  return pieces.flatMap((piece, index) => (index ? [between, ...piece] : piece));
}
