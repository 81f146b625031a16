// The page: asks, keeps, draws; says so when nobody answers, and goes on when somebody does.

const INTERVAL_MS = 2000;
const PATIENCE_MS = 5000;
const LINES_MAX = 6;

const model = new Model();
const plots = {
  arrivals: new Plot(byId("plot-arrivals"), rate),
  open: new Plot(byId("plot-open"), count),
  bytes: new Plot(byId("plot-bytes"), bytesRate),
  latency: new Plot(byId("plot-latency"), micros),
  closes: new Plot(byId("plot-closes"), rate),
  refused: new Plot(byId("plot-refused"), rate),
  health: new Plot(byId("plot-health"), count),
};
const tables = { workers: workersTable(), listeners: listenersTable() };
byId("workers").append(tables.workers.node);
byId("listeners").append(tables.listeners.node);
const pools = new Pools(byId("pools"));

let isPaused = false;
let isAsking = false;
let answeredAt = null;
let timer = null;
// Hues stay with what they were given to, in the order in which things were first seen.
const given = new Map();

function hueFor(family, name) {
  const key = family + "\n" + name;
  if (!given.has(key)) {
    const taken = [...given.keys()].filter((other) => other.startsWith(family + "\n")).length;
    given.set(key, taken);
  }
  return given.get(key);
}

function lineOf(family, name, values) {
  const at = hueFor(family, name);
  return { name, values, hue: hueOf(at), dash: DASHES[at % DASHES.length] };
}

// What all plots share: the samples of the span that is looked at.
function view() {
  const spanMs = byId("span").value * 60_000;
  const until = model.samples[model.samples.length - 1].at;
  const samples = model.samples.filter((sample) => sample.at > until - spanMs);
  return {
    samples, spanMs, until,
    times: samples.map((sample) => sample.at),
    fresh: samples.map((sample) => sample.fresh),
    restarts: samples.filter((sample) => sample.restarted).map((sample) => sample.at),
  };
}

// The largest few by name, and the rest together.
function largest(names, valuesOf, most) {
  const weight = (values) => values.reduce((sum, value) => sum + (Number.isFinite(value) ? value : 0), 0);
  const lines = names.map((name) => ({ name, values: valuesOf(name) }));
  if (lines.length <= most) return lines;
  const ordered = lines.map((line) => [weight(line.values), line]).sort((a, b) => b[0] - a[0]).map(([, line]) => line);
  const rest = ordered.slice(most - 1);
  const values = rest[0].values.map((_, at) => rest.reduce((sum, line) => sum + line.values[at], 0));
  return [...ordered.slice(0, most - 1), { name: rest.length + " others", values }];
}

function drawPlots() {
  if (model.samples.length === 0) return;
  const seen = view();
  const { samples } = seen;
  const names = (of) => [...new Set(samples.flatMap((sample) => [...of(sample).keys()]))];
  const lines = (family, entries) => entries.map(({ name, values }) => lineOf(family, name, values));

  plots.arrivals.show({ ...seen, series: lines("listener", largest(names((sample) => sample.listeners),
    (name) => samples.map((sample) => sample.listeners.get(name)?.rate ?? NaN), LINES_MAX)) });
  plots.open.show({ ...seen, series: workerLines(samples) });
  plots.bytes.show({ ...seen, series: lines("bytes", [
    { name: "client to backend", values: samples.map((sample) => sample.bytes.up) },
    { name: "backend to client", values: samples.map((sample) => sample.bytes.down) }]) });
  const stacked = (family, of, empty) => ({ ...seen, empty, isStacked: true, series: lines(family, largest(
    names(of), (name) => samples.map((sample) => of(sample).get(name) ?? (sample.fresh ? NaN : 0)), HUES))
    .map((series) => ({ ...series, dash: [] })) });
  plots.closes.show(stacked("closed", (sample) => sample.closed, "no connection has ended"));
  plots.refused.show(stacked("refused", (sample) => sample.refused, "no connection was refused"));
  plots.health.show(healthPlan(seen));
  drawLatency(seen);
}

function workerLines(samples) {
  const last = samples[samples.length - 1].workers;
  const values = (of) => samples.map((sample) => of(sample.workers.map((worker) => worker.connections)));
  if (last.length > HUES) {
    const middle = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
    return [["most of one worker", (list) => Math.max(...list)], ["median worker", middle],
      ["least of one worker", (list) => Math.min(...list)]].map(([name, of]) => lineOf("worker", name, values(of)));
  }
  return last.map(({ index }) => lineOf("worker", "worker " + index, samples.map((sample) =>
    sample.workers.find((worker) => worker.index === index)?.connections ?? NaN)));
}

function healthPlan(seen) {
  const hues = { "in use": "c2", "not checked yet": "c7", ejected: "c4", down: "c1" };
  const series = Object.entries(hues).map(([name, hue]) =>
    ({ name, hue, dash: [], values: seen.samples.map((sample) => sample.health[name]) }));
  return { ...seen, isStacked: true, series: series.filter((line) => line.values.some((value) => value > 0)) };
}

function drawLatency(seen) {
  const key = byId("stage-listener").value + "\n" + byId("stage").value;
  const bounds = model.last.latency?.bounds_us || [1];
  const columns = seen.samples.map((sample) => sample.stages.get(key));
  // Of about ten seconds: a single sample has too few durations for a 99th percentile.
  const recent = columns.map((_, at) => {
    const sums = [];
    for (let back = at; back > at - 5 && back >= 0 && columns[back] && !seen.fresh[back]; back -= 1) {
      addTo(sums, columns[back]);
    }
    return sums;
  });
  const part = (name, of, hue, dash) => ({ name, hue, dash, values: recent.map((counts) => quantile(counts, bounds, of)) });
  const series = [part("p50", 0.5, "c2", []), part("p90", 0.9, "c4", [6, 3]), part("p99", 0.99, "c1", [2, 2])];
  const isEmpty = !columns.some((counts) => counts && counts.some((value) => value > 0));
  plots.latency.show({ ...seen, heat: { columns, bounds }, series: isEmpty ? [] : series, empty: "no connection got that far" });
}

function fillTables(status, sample) {
  const mostConnections = Math.max(1, ...status.workers.map((worker) => worker.connections));
  const bounds = status.latency?.bounds_us || [];
  tables.workers.fill(status.workers.map((worker, at) => ({ ...worker, ...sample.workers[at], mostConnections,
    turn: quantile(sample.turns.get(worker.index), bounds, 0.99) })));
  tables.listeners.fill(status.listeners.map((listener) => {
    const rates = sample.listeners.get(listener.name);
    return { ...listener, ...rates, refusedRate: rates.refused };
  }));
  pools.fill(status, sample, model.sparks);
}

function fillTiles(status, sample) {
  const total = (values) => [...values].reduce((sum, value) => sum + value, 0);
  const backends = total(Object.values(sample.health));
  const usable = backends - sample.health.down - sample.health.ejected;
  const connect = quantile(sample.stages.get("\nconnect"), status.latency?.bounds_us || [], 0.99);
  // One that has just begun has no rate yet.
  const busiest = Math.max(...sample.workers.map((worker) => worker.busy).filter(Number.isFinite));
  const tiles = [
    ["open", count(status.connections), "of at most " + count(status.connections_max)],
    ["new", rate(total([...sample.listeners.values()].map((listener) => listener.rate))), ""],
    ["from clients", bytesRate(sample.bytes.up), ""],
    ["to clients", bytesRate(sample.bytes.down), ""],
    ["connect, p99", micros(connect), "of the last " + INTERVAL_MS / 1000 + " s"],
    ["busiest worker", Number.isFinite(busiest) ? Math.round(100 * busiest) + " %" : "–", "CPU time of its thread"],
    ["refused", rate(total([...sample.listeners.values()].map((listener) => listener.refused))), ""],
    ["backends used", usable + " of " + backends, "", usable < backends],
  ];
  const root = byId("tiles");
  tiles.forEach(([name, value, note, isBad], at) => {
    if (!root.children[at]) {
      const tile = element("div", "tile");
      tile.append(element("span", "dim"), element("b"));
      root.append(tile);
    }
    const tile = root.children[at];
    setClass(tile, isBad ? "tile bad" : "tile");
    setText(tile.firstChild, name);
    setText(tile.lastChild, value);
    tile.title = note;
  });
}

const HAPPENED_CLASS = { up: "up", returned: "up", down: "down", ejected: "warn" };

function fillHistory(history) {
  const root = byId("history");
  const newest = history.length > 0 ? String(model.last.pid) + ":" + history[history.length - 1].number : "none";
  if (root.dataset.newest === newest) return;
  root.dataset.newest = newest;
  const entries = [...history].reverse().map((happening) => {
    const entry = element("li");
    entry.append(element("span", "dim", clock(happening.unix_millis)),
      element("span", HAPPENED_CLASS[happening.what], happening.what),
      element("span", "", happening.pool + " " + happening.backend + " · " + happening.reason.replaceAll("_", " ")));
    return entry;
  });
  root.replaceChildren(...(entries.length > 0 ? entries : [element("li", "dim", "nothing has happened")]));
}

function fillListenerChoice(status) {
  const choice = byId("stage-listener");
  const names = status.listeners.length <= LISTENERS_APART ? status.listeners.map((listener) => listener.name) : [];
  const wanted = ["", ...names];
  if ([...choice.options].map((option) => option.value).join("\n") === wanted.join("\n")) return;
  const chosen = choice.value;
  choice.replaceChildren(...wanted.map((name) => {
    const option = element("option", "", name || "all listeners");
    option.value = name;
    return option;
  }));
  choice.value = wanted.includes(chosen) ? chosen : "";
}

function showState(status) {
  const draining = status.drain ? "draining, " + span(status.drain.remaining_seconds) + " left" : "draining";
  const [text, className] = isPaused ? ["paused", "warn"] : status.draining ? [draining, "warn"]
    : status.unready ? ["not ready: " + status.unready, "warn"] : ["ready", "up"];
  setText(byId("state"), text);
  setClass(byId("state"), "pill " + className);
  setText(byId("facts"), ["version " + status.version, "pid " + status.pid, "up " + span(status.uptime_seconds)].join(" · "));
  byId("trouble").hidden = true;
}

function showTrouble(error) {
  model.interrupt();
  const why = error.name === "TimeoutError" ? "nothing within " + PATIENCE_MS / 1000 + " seconds" : error.message;
  setText(byId("state"), "no answer");
  setClass(byId("state"), "pill down");
  const since = answeredAt === null ? "" : " What is shown is of " + clock(answeredAt) + ".";
  setText(byId("trouble"), "The balancer does not answer (" + why + ")." + since + " Trying again every " +
    INTERVAL_MS / 1000 + " seconds.");
  byId("trouble").hidden = false;
}

async function ask() {
  const answer = await fetch("/v1/status?latency=1", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) throw new Error("status " + answer.status);
  return answer.json();
}

async function turn() {
  timer = null;
  isAsking = true;
  const startedAt = performance.now();
  try {
    const status = await ask().catch(showTrouble);
    if (status) show(status);
  } finally {
    isAsking = false;
    schedule(INTERVAL_MS - (performance.now() - startedAt));
  }
}

function show(status) {
  answeredAt = Date.now();
  const sample = model.take(status, answeredAt);
  showState(status);
  fillListenerChoice(status);
  fillTiles(status, sample);
  drawPlots();
  fillTables(status, sample);
  fillHistory(status.history);
}

// Asks again unless nobody looks.
function schedule(inMs) {
  if (timer !== null || isAsking || isPaused || document.hidden) return;
  timer = setTimeout(turn, Math.max(100, inMs));
}

function stop() {
  clearTimeout(timer);
  timer = null;
  model.interrupt();
}

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  setText(byId("pause"), isPaused ? "Go on" : "Pause");
  if (isPaused) stop();
  if (model.last) showState(model.last);
  schedule(0);
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  schedule(0);
});
for (const id of ["span", "stage", "stage-listener"]) byId(id).addEventListener("change", drawPlots);
byId("filter").addEventListener("input", (event) => {
  pools.filter = event.target.value.trim();
  pools.refresh();
});
byId("only-trouble").addEventListener("change", (event) => {
  pools.isTroubleOnly = event.target.checked;
  pools.refresh();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  style = getComputedStyle(document.documentElement);
  drawPlots();
  pools.refresh();
});
turn();
