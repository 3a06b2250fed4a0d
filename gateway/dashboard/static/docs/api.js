/** The document, made easy to walk: references followed, calls by tag. */

// What makes a thing comes before what looks at it.
const METHODS = ["post", "get", "head", "put", "patch", "delete"];

export class Api {
  constructor(document) {
    this.document = document;
    this.version = document.info.version;
    this.description = document.info.description;
    this.security = Object.values(document.components.securitySchemes)
      .map(({ description }) => description)
      .join("\n\n");
    const items = Object.entries(document.paths);
    const calls = items.flatMap(([path, item]) =>
      METHODS.filter((method) => method in item).map((method) => this.#call(path, method, item)),
    );
    this.ids = new Set(calls.map(({ id }) => id));
    this.tags = document.tags.map((tag) => ({
      ...tag,
      calls: calls.filter((call) => call.tag === tag.name),
    }));
    // Parameters that every address takes are told once.
    this.common = (items[0]?.[1].parameters ?? []).map((parameter) => this.resolve(parameter));
    this.objects = this.#answered();
  }

  /** Follows a reference; what is none is returned as it is. */
  resolve(value) {
    if (!value?.$ref) return value;
    const found = value.$ref
      .slice(2)
      .split("/")
      .reduce((node, step) => node[step], this.document);
    const { $ref: _, ...beside } = value;
    return { ...found, ...beside };
  }

  #call(path, method, item) {
    const operation = item[method];
    return {
      id: operation.operationId,
      method: method.toUpperCase(),
      path,
      tag: operation.tags[0],
      summary: operation.summary,
      description: operation.description,
      isPublic: operation.security?.length === 0,
      parameters: (operation.parameters ?? []).map((parameter) => this.resolve(parameter)),
      body: operation.requestBody ?? null,
      events: Object.entries(operation["x-events"] ?? {}),
      samples: operation["x-codeSamples"] ?? [],
      responses: Object.entries(operation.responses)
        .map(([status, response]) => ({ status, ...this.resolve(response) }))
        .sort((one, other) => Number(one.status) - Number(other.status)),
    };
  }

  /** Names the objects that answers consist of: those of bodies are told with their calls. */
  #answered() {
    const found = new Set();
    const look = (node) => {
      if (Array.isArray(node)) node.forEach(look);
      else if (node && typeof node === "object") {
        const name = nameOf(node);
        if (name && !found.has(name)) {
          found.add(name);
          look(this.document.components.schemas[name]);
        }
        Object.values(node).forEach(look);
      }
    };
    look(this.document.components.responses);
    for (const item of Object.values(this.document.paths)) {
      for (const method of METHODS) look([item[method]?.responses, item[method]?.["x-events"]]);
    }
    return [...found].sort();
  }
}

/** Returns the name of the schema that a reference leads to, or null. */
export function nameOf(schema) {
  return schema?.$ref?.match(/^#\/components\/schemas\/(.+)$/)?.[1] ?? null;
}
