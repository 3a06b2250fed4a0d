/** Numbers as people read them. */

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** Decimal units, as file managers and network plans use them: 12.3 MB. */
export function formatBytes(bytes) {
  if (bytes === null || bytes === undefined) return "unknown size";
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  if (unit === 0) return bytes === 1 ? "1 byte" : `${bytes} bytes`;
  return `${value.toFixed(value < 99.95 ? 1 : 0)} ${UNITS[unit]}`;
}

/** "64.0 of 120 MB": the unit once where it is the same. */
export function formatBytesOf(part, whole) {
  const [partText, wholeText] = [formatBytes(part), formatBytes(whole)];
  const unit = wholeText.slice(wholeText.indexOf(" "));
  const short = partText.endsWith(unit) ? partText.slice(0, -unit.length) : partText;
  return `${short} of ${wholeText}`;
}

/** Rounded so that it does not jitter: 40 s, 3 min, 2 h 10 min. */
export function formatDuration(seconds) {
  if (seconds < 10) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 58) return `${Math.round(seconds / 5) * 5} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}

/** Never 100 before it is all there. */
export function percent(done, total) {
  if (total === 0) return 100;
  return Math.min(done >= total ? 100 : 99, Math.floor((done / total) * 100));
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const STEPS = [
  ["second", 60],
  ["minute", 60],
  ["hour", 24],
  ["day", 30],
  ["month", 12],
];

/** "3 minutes ago", by the gateway's clock. */
export function formatAgo(then, now) {
  let value = (then - now) / 1000;
  if (value > -60) return "just now";
  for (const [unit, size] of STEPS) {
    if (Math.abs(value) < size) return relative.format(Math.round(value), unit);
    value /= size;
  }
  return relative.format(Math.round(value), "year");
}
