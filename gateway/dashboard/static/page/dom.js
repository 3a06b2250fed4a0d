/** Making elements: a tag, its properties, its children. Text is always set as text. */

/**
 * @param {string} tag
 * @param {object} properties `class`, `data` and `aria` are set as attributes, `on` as listeners,
 *   all else as properties of the element
 * @param {...(Node | string | null)} children
 */
export function element(tag, properties = {}, ...children) {
  const { class: className, data, aria, on, role, ...rest } = properties;
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (role) made.setAttribute("role", role);
  for (const [name, value] of Object.entries(data ?? {})) made.dataset[name] = value;
  for (const [name, value] of Object.entries(aria ?? {})) made.setAttribute(`aria-${name}`, value);
  for (const [name, listener] of Object.entries(on ?? {})) made.addEventListener(name, listener);
  Object.assign(made, rest);
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Sets a text only when it differs, so that nothing is read out or selected anew for nothing. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function iconButton(label, shape, onClick) {
  return element(
    "button",
    { class: "icon-button", type: "button", title: label, aria: { label }, on: { click: onClick } },
    shape,
  );
}

export function textButton(label, onClick, className = "button small") {
  return element("button", { class: className, type: "button", on: { click: onClick } }, label);
}
