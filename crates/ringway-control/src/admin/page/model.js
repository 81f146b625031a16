// From answers of /v1/status to samples: what happened between two answers, per second of the
// instance's own clock. Nothing here draws. A sample that does not follow from the one before (the
// first, after a restart, after a silence) is `fresh`: it has levels and no rates.

const KEPT = 450;
const SPARKS = 60;
const LISTENERS_APART = 8;

class Model {
  constructor() {
    this.samples = [];
    this.last = null;
    this.sparks = new Map();
    this.isBroken = false;
  }

  // The instance did not answer, or nobody looked: the lines have a hole here.
  interrupt() {
    this.isBroken = true;
  }

  take(status, at) {
    const before = this.last;
    const isSame = before !== null && before.pid === status.pid &&
      before.uptime_seconds < status.uptime_seconds;
    const seconds = isSame ? status.uptime_seconds - before.uptime_seconds : NaN;
    const sample = sampleOf(status, isSame ? before : null, seconds);
    Object.assign(sample, { at, fresh: !isSame || this.isBroken, restarted: before !== null && !isSame });
    this.isBroken = false;
    this.last = status;
    this.samples.push(sample);
    if (this.samples.length > KEPT) this.samples.shift();
    this.spark(sample);
    return sample;
  }

  // The last rates of each backend; those that are gone are forgotten.
  spark(sample) {
    const sparks = new Map();
    for (const [key, backend] of sample.backends) {
      const values = this.sparks.get(key) || [];
      values.push(backend.rate);
      if (values.length > SPARKS) values.shift();
      sparks.set(key, values);
    }
    this.sparks = sparks;
  }
}

const byKey = (list, keyOf) => new Map((list || []).map((entry) => [keyOf(entry), entry]));
const backendKey = (pool, backend) => JSON.stringify([pool.name, backend.address]);
const routeKey = (route) => JSON.stringify([route.listener, route.pool]);

function sampleOf(status, before, seconds) {
  const old = before || {};
  // A counter that is smaller than before belongs to something that was removed and added again.
  const perSecond = (now, then) => (then === undefined || now < then ? NaN : (now - then) / seconds);
  // What began between two answers adds to a sum from the next one on.
  const known = (value) => (Number.isFinite(value) || before === null ? value : 0);
  const sample = { connections: status.connections, unready: status.unready, draining: status.draining };

  const workersBefore = byKey(old.workers, (worker) => worker.index);
  sample.workers = status.workers.map((worker) => {
    const was = workersBefore.get(worker.index) || {};
    return {
      index: worker.index,
      connections: worker.connections,
      rate: perSecond(worker.connections_total, was.connections_total),
      bytes: perSecond(worker.received_bytes_total, was.received_bytes_total),
      busy: perSecond(worker.busy_seconds_total, was.busy_seconds_total ?? undefined),
    };
  });

  const listenersBefore = byKey(old.listeners, (listener) => listener.name);
  sample.listeners = new Map(status.listeners.map((listener) => {
    const was = listenersBefore.get(listener.name) || {};
    return [listener.name, {
      connections: listener.connections,
      rate: perSecond(listener.connections_total, was.connections_total),
      refused: perSecond(listener.refused_total, was.refused_total),
      received: 0,
      sent: 0,
    }];
  }));
  sample.refused = ratesOf(status.listeners, listenersBefore, (listener) => listener.name,
    (listener) => Object.entries(listener.refused), perSecond);

  const routesBefore = byKey(old.routes, routeKey);
  sample.closed = ratesOf(status.routes, routesBefore, routeKey, closesOf, perSecond);
  sample.bytes = { up: 0, down: 0 };
  for (const route of status.routes) {
    const was = routesBefore.get(routeKey(route));
    const up = perSecond(route.received_bytes.client, was?.received_bytes.client);
    const down = perSecond(route.received_bytes.backend, was?.received_bytes.backend);
    sample.bytes.up += known(up);
    sample.bytes.down += known(down);
    const listener = sample.listeners.get(route.listener);
    if (listener) {
      listener.received += known(up);
      listener.sent += known(down);
    }
  }
  sampleBackends(sample, status, old, perSecond);
  sample.stages = stagesOf(status.latency, before ? old.latency : null);
  sample.turns = turnsOf(status.latency, before ? old.latency : null);
  return sample;
}

function sampleBackends(sample, status, old, perSecond) {
  const poolsBefore = byKey(old.pools, (pool) => pool.name);
  sample.backends = new Map();
  sample.health = { "in use": 0, "not checked yet": 0, ejected: 0, down: 0 };
  for (const pool of status.pools) {
    const before = byKey(poolsBefore.get(pool.name)?.backends, (backend) => backend.address);
    for (const backend of pool.backends) {
      const was = before.get(backend.address) || {};
      sample.backends.set(backendKey(pool, backend), {
        rate: perSecond(backend.connections_total, was.connections_total),
        failures: perSecond(backend.connect_failures_total, was.connect_failures_total),
      });
      sample.health[standingOf(backend)] += 1;
    }
  }
}

function standingOf(backend) {
  if (backend.state === "down") return "down";
  if (backend.ejected_workers > 0) return "ejected";
  return backend.state === "unknown" && backend.last_check_seconds !== null ? "not checked yet" : "in use";
}

function closesOf(route) {
  return Object.entries(route.closed).flatMap(([side, reasons]) =>
    Object.entries(reasons).map(([reason, total]) => [side + " " + reason, total]));
}

// Kinds that an entry does not have yet began at zero, if the entry was there.
function ratesOf(entries, before, keyOf, kindsOf, perSecond) {
  const rates = new Map();
  for (const entry of entries) {
    const was = before.get(keyOf(entry));
    const then = was ? new Map(kindsOf(was)) : null;
    for (const [kind, total] of kindsOf(entry)) {
      const rate = perSecond(total, then ? then.get(kind) || 0 : undefined);
      rates.set(kind, (rates.get(kind) || 0) + (Number.isFinite(rate) || before.size === 0 ? rate : 0));
    }
  }
  return rates;
}

function difference(now, then) {
  return now.map((value, at) => Math.max(0, value - (then?.[at] || 0)));
}

function addTo(sums, counts) {
  counts.forEach((value, at) => {
    sums[at] = (sums[at] || 0) + value;
  });
}

// Counts per range of durations by listener ("" is all of them) and stage. Listeners are kept apart
// only where they are few: every sample holds them.
function stagesOf(now, then) {
  const stages = new Map();
  if (!now || !then) return stages;
  const keyOf = (series) => JSON.stringify([series.listener, series.pool, series.stage]);
  const before = byKey(then.stages, keyOf);
  const names = new Set(now.stages.map((series) => series.listener));
  for (const series of now.stages) {
    const counts = difference(series.counts, before.get(keyOf(series))?.counts);
    for (const listener of names.size <= LISTENERS_APART ? ["", series.listener] : [""]) {
      const key = listener + "\n" + series.stage;
      if (!stages.has(key)) stages.set(key, []);
      addTo(stages.get(key), counts);
    }
  }
  return stages;
}

function turnsOf(now, then) {
  const turns = new Map();
  if (!now || !then) return turns;
  const before = byKey(then.turns, (series) => series.worker);
  for (const series of now.turns) {
    turns.set(series.worker, difference(series.counts, before.get(series.worker)?.counts));
  }
  return turns;
}

// The duration that the fraction `of` does not exceed, in the middle of its range on average.
function quantile(counts, bounds, of) {
  const total = (counts || []).reduce((sum, value) => sum + value, 0);
  if (total === 0) return NaN;
  let left = of * total;
  for (let at = 0; at < counts.length; at += 1) {
    if (counts[at] > 0 && left <= counts[at]) {
      const low = at === 0 ? bounds[0] / 2 : bounds[at - 1];
      const high = at < bounds.length ? bounds[at] : bounds[bounds.length - 1];
      return low * Math.pow(high / low, left / counts[at]);
    }
    left -= counts[at];
  }
  return bounds[Math.min(counts.length, bounds.length) - 1];
}
