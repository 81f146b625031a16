// Drawing on a canvas: lines, stacked areas, a heat map of durations. A plot is told what to draw and
// remembers only where the pointer is. Colours come from the style sheet, so dark mode is its own.

const HUES = 8;
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [4, 4], [3, 1]];
const SVG = byId("blank").namespaceURI;
const LEFT = 58;
const BOTTOM = 18;
const TOP = 6;

let style = getComputedStyle(document.documentElement);
const hue = (name) => style.getPropertyValue("--" + name).trim();
const hueOf = (at) => "c" + (at % HUES);

// The next "nice" number above, for the top of an axis.
function above(value) {
  if (!(value > 0)) return 1;
  const power = Math.pow(10, Math.floor(Math.log10(value)));
  const step = [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.999);
  return step * power;
}

class Plot {
  constructor(figure, format) {
    this.format = format;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.legend = element("ul", "legend");
    figure.append(this.canvas, this.legend);
    this.label = figure.querySelector("figcaption").firstChild.textContent.trim();
    this.pointer = null;
    this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  point(x) {
    this.pointer = x;
    this.draw();
  }

  // `series` are {name, values, hue, dash}; `times` and `fresh` belong to all of them.
  show(plan) {
    this.plan = plan;
    this.draw();
  }

  draw() {
    const plan = this.plan;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!plan || width === 0) return;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const ink = this.canvas.getContext("2d");
    ink.setTransform(ratio, 0, 0, ratio, 0, 0);
    ink.clearRect(0, 0, width, height);
    const area = { left: LEFT, top: TOP, right: width - 4, bottom: height - BOTTOM };
    const x = (time) => area.right - (area.right - area.left) * (plan.until - time) / plan.spanMs;
    const at = this.pointed(plan, x);
    if (plan.heat) {
      this.heat(ink, area, x, plan);
    } else {
      this.curves(ink, area, x, plan);
    }
    this.timeAxis(ink, area, x, plan);
    this.restarts(ink, area, x, plan);
    if (this.pointer !== null && at >= 0) this.line(ink, x(plan.times[at]), area, hue("dim"), []);
    this.tell(plan, at);
  }

  // The sample under the pointer, else the last.
  pointed(plan, x) {
    if (this.pointer === null) return plan.times.length - 1;
    let best = -1;
    plan.times.forEach((time, at) => {
      const distance = (at) => Math.abs(x(plan.times[at]) - this.pointer);
      if (best < 0 || distance(at) < distance(best)) best = at;
    });
    return best;
  }

  tell(plan, at) {
    const rows = plan.series.map((series) => {
      const value = at < 0 ? NaN : series.values[at];
      return { series, text: Number.isFinite(value) ? this.format(value) : "–" };
    });
    if (rows.length === 0 || !this.legend.querySelector("svg")) this.legend.replaceChildren();
    while (this.legend.children.length > rows.length) this.legend.lastChild.remove();
    rows.forEach(({ series, text }, row) => {
      if (!this.legend.children[row]) this.legend.append(legendEntry());
      const [swatch, name, value] = this.legend.children[row].children;
      drawSwatch(swatch, series, plan.isStacked);
      setText(name, series.name);
      setText(value, text);
    });
    if (rows.length === 0) this.legend.append(element("li", "dim", plan.empty || "nothing yet"));
    const said = rows.map(({ series, text }) => series.name + " " + text).join(", ");
    this.canvas.setAttribute("aria-label", this.label + ": " + (said || plan.empty || "nothing yet"));
  }

  line(ink, x, area, colour, dash) {
    ink.strokeStyle = colour;
    ink.lineWidth = 1;
    ink.setLineDash(dash);
    ink.beginPath();
    ink.moveTo(Math.round(x) + 0.5, area.top);
    ink.lineTo(Math.round(x) + 0.5, area.bottom);
    ink.stroke();
    ink.setLineDash([]);
  }

  restarts(ink, area, x, plan) {
    ink.fillStyle = hue("down");
    plan.restarts.forEach((time) => {
      this.line(ink, x(time), area, hue("down"), [2, 3]);
      ink.textAlign = x(time) > area.right - 60 ? "right" : "left";
      ink.fillText("restart", x(time) + (ink.textAlign === "left" ? 4 : -4), area.top + 10);
    });
  }

  timeAxis(ink, area, x, plan) {
    ink.fillStyle = hue("dim");
    ink.font = "11px system-ui, sans-serif";
    ink.textAlign = "center";
    const steps = area.right - area.left < 420 ? 2 : 4;
    for (let step = 0; step <= steps; step += 1) {
      const time = plan.until - plan.spanMs * (steps - step) / steps;
      ink.textAlign = step === 0 ? "left" : step === steps ? "right" : "center";
      ink.fillText(clock(time), x(time), area.bottom + 13);
    }
  }

  grid(ink, area, labels) {
    ink.font = "11px system-ui, sans-serif";
    ink.textAlign = "right";
    for (const [y, text] of labels) {
      ink.strokeStyle = hue("line");
      ink.lineWidth = 1;
      ink.beginPath();
      ink.moveTo(area.left, Math.round(y) + 0.5);
      ink.lineTo(area.right, Math.round(y) + 0.5);
      ink.stroke();
      ink.fillStyle = hue("dim");
      ink.fillText(text, area.left - 5, y + 4);
    }
  }

  curves(ink, area, x, plan) {
    const heights = plan.isStacked ? stack(plan.series) : plan.series.map((series) => series.values);
    const top = above(Math.max(0, ...heights.flatMap((values) => values.filter(Number.isFinite))));
    const y = (value) => area.bottom - (area.bottom - area.top) * value / top;
    this.grid(ink, area, [0, 0.5, 1].map((part) => [y(part * top), this.format(part * top)]));
    for (let at = plan.series.length - 1; at >= 0; at -= 1) {
      const series = plan.series[at];
      const below = plan.isStacked ? heights[at - 1] : undefined;
      for (const [from, to] of runs(heights[at], plan)) {
        ink.beginPath();
        for (let point = from; point <= to; point += 1) ink.lineTo(x(plan.times[point]), y(heights[at][point]));
        if (plan.isStacked) {
          for (let point = to; point >= from; point -= 1) ink.lineTo(x(plan.times[point]), y(below?.[point] || 0));
          ink.closePath();
          ink.fillStyle = hue(series.hue);
          ink.fill();
        } else {
          stroke(ink, hue(series.hue), series.dash);
        }
      }
    }
  }

  // A column per sample, a row per range of durations; darker is more. Lines lie on top.
  heat(ink, area, x, plan) {
    const { columns, bounds } = plan.heat;
    const used = (at) => columns.some((counts) => counts && counts[at] > 0);
    let low = 0;
    let high = bounds.length - 1;
    while (low < high && !used(low)) low += 1;
    while (high > low && !used(high)) high -= 1;
    [low, high] = [Math.max(0, low - 2), Math.min(bounds.length - 1, high + 2)];
    const height = (area.bottom - area.top) / (high - low + 1);
    const rowTop = (at) => area.bottom - (at - low + 1) * height;
    const most = Math.max(1, ...columns.map((counts) => Math.max(0, ...(counts || []))));
    const heat = hue("heat");
    columns.forEach((counts, column) => {
      if (!counts || plan.fresh[column]) return;
      const right = x(plan.times[column]);
      const left = Math.max(area.left, column > 0 ? x(plan.times[column - 1]) : right - 3);
      for (let at = low; at <= high; at += 1) {
        if (!(counts[at] > 0) || right <= left) continue;
        ink.fillStyle = "rgba(" + heat + "," + (0.12 + 0.78 * Math.sqrt(counts[at] / most)).toFixed(3) + ")";
        ink.fillRect(left, rowTop(at), right - left + 0.5, height + 0.5);
      }
    });
    const every = Math.ceil((high - low + 1) / 5);
    const labels = [];
    for (let at = low; at <= high; at += every) labels.push([rowTop(at), micros(bounds[at])]);
    this.grid(ink, area, labels);
    const y = (value) => {
      const place = bounds.findIndex((bound) => bound >= value);
      const below = place > 0 ? bounds[place - 1] : bounds[0] / 2;
      return area.bottom - (place - low + Math.log(value / below) / Math.log(bounds[place] / below)) * height;
    };
    for (const series of plan.series) {
      for (const [from, to] of runs(series.values, plan)) {
        ink.beginPath();
        for (let at = from; at <= to; at += 1) ink.lineTo(x(plan.times[at]), y(series.values[at]));
        stroke(ink, hue(series.hue), series.dash);
      }
    }
  }
}

function stroke(ink, colour, dash) {
  ink.strokeStyle = colour;
  ink.lineWidth = 1.6;
  ink.lineJoin = "round";
  ink.setLineDash(dash || []);
  ink.stroke();
  ink.setLineDash([]);
}

// Where values follow one another: [first, last] of each stretch without a hole.
function runs(values, plan) {
  const found = [];
  let from = -1;
  for (let at = 0; at <= values.length; at += 1) {
    const isOn = at < values.length && Number.isFinite(values[at]);
    if (from >= 0 && (!isOn || plan.fresh[at])) {
      found.push([from, at - 1]);
      from = -1;
    }
    if (isOn && from < 0) from = at;
  }
  return found;
}

function stack(series) {
  const heights = [];
  for (const { values } of series) {
    const below = heights[heights.length - 1];
    heights.push(values.map((value, at) => value + (below ? below[at] : 0)));
  }
  return heights;
}

function legendEntry() {
  const entry = element("li");
  const swatch = document.createElementNS(SVG, "svg");
  swatch.setAttribute("viewBox", "0 0 26 10");
  swatch.setAttribute("aria-hidden", "true");
  swatch.append(document.createElementNS(SVG, "line"));
  entry.append(swatch, element("span", "name"), element("b"));
  return entry;
}

function drawSwatch(swatch, series, isStacked) {
  const line = swatch.firstChild;
  const attributes = { x1: 0, x2: 26, y1: 5, y2: 5, stroke: hue(series.hue), "stroke-width": isStacked ? 9 : 2.5,
    "stroke-dasharray": (series.dash || []).join(" ") };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
}

// A line of the last values without axes, for a cell of a table.
function sparkline() {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", "spark");
  drawing.setAttribute("viewBox", "0 0 100 20");
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("fill", "none");
  path.setAttribute("vector-effect", "non-scaling-stroke");
  drawing.append(path);
  return drawing;
}

function drawSpark(drawing, values) {
  const most = Math.max(1e-9, ...values.filter(Number.isFinite));
  let path = "";
  values.forEach((value, at) => {
    if (!Number.isFinite(value)) return;
    const command = Number.isFinite(values[at - 1]) ? "L" : "M";
    path += command + (100 - (values.length - 1 - at) * 100 / (SPARKS - 1)).toFixed(1) + " " +
      (19 - 18 * value / most).toFixed(1);
  });
  drawing.firstChild.setAttribute("d", path);
  drawing.firstChild.setAttribute("stroke", hue("c0"));
}
