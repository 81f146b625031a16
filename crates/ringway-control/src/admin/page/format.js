// Numbers and times as people read them, and elements made safely: text that users chose (names,
// addresses, what a backend answered) enters the page as text and never as markup.

const byId = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Writing what is there already costs a layout.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setClass(node, className) {
  if (node.className !== className) node.className = className;
}

const SCALE = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

// Three digits and a unit; numbers below 1000 that are whole stay whole.
function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const [by, unit] = SCALE.find(([by]) => size >= by * 0.9995) || [1, ""];
  const scaled = value / by;
  if (unit === "" && Number.isInteger(scaled)) return String(scaled);
  return trimZeros(scaled.toFixed(Math.abs(scaled) < 10 ? 2 : Math.abs(scaled) < 100 ? 1 : 0)) + unit;
}

const trimZeros = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
const rate = (value) => (Number.isFinite(value) ? count(value) + "/s" : "–");
const bytesRate = (value) => (Number.isFinite(value) ? byteCount(value) + "/s" : "–");

function byteCount(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return trimZeros(value.toFixed(value < 10 && at > 0 ? 2 : value < 100 && at > 0 ? 1 : 0)) + " " + units[at];
}

function micros(value) {
  if (!Number.isFinite(value)) return "–";
  const units = [[1e6, "s"], [1e3, "ms"], [1, "µs"]];
  const [by, unit] = units.find(([by]) => value >= by * 0.9995) || units[2];
  const scaled = value / by;
  return trimZeros(scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)) + " " + unit;
}

function span(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = Math.max(0, units.findIndex(([size]) => seconds >= size));
  const [size, name] = seconds < 1 ? units[3] : units[at];
  const first = Math.floor(seconds / size) + " " + name;
  const next = seconds < 60 ? undefined : units[at + 1];
  const rest = next ? Math.floor((seconds % size) / next[0]) : 0;
  return rest > 0 ? first + " " + rest + " " + next[1] : first;
}

const clock = (millis) => new Date(millis).toLocaleTimeString([], { hour12: false });

// Sorts addresses and names as people do: 10.0.0.9 before 10.0.0.10.
const naturally = new Intl.Collator("en", { numeric: true }).compare;
