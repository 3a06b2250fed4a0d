/** The few line icons of the page, drawn on a grid of 24. They say nothing that text does not. */

const PATHS = {
  pause: "M9 6v12M15 6v12",
  resume: "M8 5.5v13l10.5-6.5z",
  close: "M6.5 6.5l11 11m0-11l-11 11",
  check: "M5 12.5l4.5 4.5L19 7.5",
  alert: "M12 8v5m0 3.2v.1M12 3.5l9 16H3z",
  download: "M12 4.5v11m0 0l-4.5-4.5m4.5 4.5l4.5-4.5M5 19.5h14",
  file: "M7 3.5h6.5L18 8v12.5H7zM13.5 3.5V8H18",
  waiting: "M12 7v5l3.5 2M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z",
};

/** @param {keyof PATHS} name */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
