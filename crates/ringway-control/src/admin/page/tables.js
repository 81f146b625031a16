// Tables that are filled again and again: rows are kept and their texts replaced, so that a thousand
// backends cost a few milliseconds and a selection or a focus survives.

const ROWS_AT_FIRST = 50;
const OPEN_AT_FIRST = 3;

// `columns` are {title, className, sort, cell(td, row)}; a column with `sort(row)` can be sorted by.
class Table {
  constructor(columns, sorted) {
    this.columns = columns;
    this.sorted = sorted || { at: -1, isDown: false };
    this.node = element("table");
    const head = element("tr");
    columns.forEach((column, at) => {
      const cell = element("th", column.className, column.sort ? undefined : column.title);
      cell.scope = "col";
      if (column.sort) {
        const button = element("button", "", column.title);
        button.type = "button";
        button.addEventListener("click", () => this.sortBy(at));
        cell.append(button);
      }
      head.append(cell);
    });
    this.head = head;
    this.body = element("tbody");
    const top = element("thead");
    top.append(head);
    this.node.append(top, this.body);
  }

  sortBy(at) {
    const isDown = this.sorted.at === at ? !this.sorted.isDown : at > 0;
    Object.assign(this.sorted, { at, isDown });
    this.onSort();
  }

  onSort() {
    this.fill(this.rows, this.most);
  }

  fill(rows, most) {
    [this.rows, this.most] = [rows, most];
    const { at, isDown } = this.sorted;
    const ordered = at < 0 ? rows : sortRows(rows, this.columns[at].sort, isDown);
    const shown = most === undefined ? ordered : ordered.slice(0, most);
    this.columns.forEach((column, place) => {
      const direction = place !== at ? "none" : isDown ? "descending" : "ascending";
      if (column.sort) this.head.children[place].setAttribute("aria-sort", direction);
      const mark = place !== at ? "" : isDown ? " ▾" : " ▴";
      if (column.sort) setText(this.head.children[place].firstChild, column.title + mark);
    });
    while (this.body.children.length > shown.length) this.body.lastChild.remove();
    while (this.body.children.length < shown.length) {
      const line = element("tr");
      for (const column of this.columns) line.append(element("td", column.className));
      this.body.append(line);
    }
    shown.forEach((row, place) => {
      const cells = this.body.children[place].children;
      this.columns.forEach((column, at) => column.cell(cells[at], row));
    });
  }
}

function sortRows(rows, keyOf, isDown) {
  const keyed = rows.map((row) => [keyOf(row), row]);
  const worth = (key) => (typeof key === "number" && !Number.isFinite(key) ? -1 : key);
  keyed.sort(([a], [b]) => (typeof a === "string" ? naturally(a, b) : worth(a) - worth(b)));
  if (isDown) keyed.reverse();
  return keyed.map(([, row]) => row);
}

const number = (title, of, format, className) => ({
  title, className, sort: of, cell: (cell, row) => setText(cell, (format || count)(of(row))),
});

// Text with a smaller second line under it.
function setLines(cell, text, note) {
  if (!cell.firstChild) cell.append(element("span"), element("small"));
  setText(cell.firstChild, text);
  setText(cell.lastChild, note);
  cell.lastChild.hidden = note === "";
}

function setMeter(cell, part, text) {
  if (!cell.firstChild) {
    const meter = element("span", "meter");
    meter.append(element("i"));
    cell.append(element("span"), " ", meter);
  }
  setText(cell.firstChild, text);
  cell.lastChild.firstChild.style.width = (100 * Math.min(1, Math.max(0, part || 0))).toFixed(1) + "%";
}

function setSpark(cell, values) {
  if (!cell.firstChild) cell.append(sparkline());
  drawSpark(cell.firstChild, values);
}

function workersTable() {
  const share = (row) => row.connections / row.mostConnections;
  return new Table([
    { title: "worker", sort: (row) => row.index,
      cell: (cell, row) => setLines(cell, "worker " + row.index, "CPU " + row.cpu + (row.state === "leaving" ? ", leaving" : "")) },
    { title: "open", sort: (row) => row.connections,
      cell: (cell, row) => setMeter(cell, share(row), count(row.connections)) },
    number("new", (row) => row.rate, rate),
    number("bytes", (row) => row.bytes, bytesRate),
    { title: "busy", sort: (row) => row.busy,
      cell: (cell, row) => setMeter(cell, row.busy, Number.isFinite(row.busy) ? Math.round(100 * row.busy) + " %" : "–") },
    number("turn, p99", (row) => row.turn, micros, "minor"),
    number("pipes", (row) => row.pipes_in_use, count, "minor"),
  ]);
}

function listenersTable() {
  return new Table([
    { title: "listener", sort: (row) => row.name,
      cell: (cell, row) => setLines(cell, row.name, row.addresses.join(" ") + " → " + row.pools.join(", ")) },
    number("open", (row) => row.connections),
    number("new", (row) => row.rate, rate),
    number("from clients", (row) => row.received, bytesRate, "minor"),
    number("to clients", (row) => row.sent, bytesRate, "minor"),
    number("refused", (row) => row.refusedRate, rate),
    number("so far", (row) => row.connections_total, count, "minor"),
    number("failed accepts", (row) => row.accept_errors_total, count, "minor"),
  ]);
}

const SEVERITY = { down: 0, ejected: 1, "not checked yet": 2, "in use": 3 };
const STANDING_CLASS = { down: "down", ejected: "warn", "not checked yet": "dim", "in use": "up" };

function backendsTable(sorted, onSort) {
  const table = new Table([
    { title: "backend", sort: (row) => row.address, cell: (cell, row) => setLines(cell, row.address, backendNote(row)) },
    { title: "state", className: "state", sort: (row) => -SEVERITY[row.standing], cell: (cell, row) => {
      setText(cell, row.standing);
      setClass(cell, "state " + STANDING_CLASS[row.standing]);
    } },
    number("open", (row) => row.connections),
    number("new", (row) => row.rate, rate),
    { title: "last 2 min", className: "minor", cell: (cell, row) => setSpark(cell, row.spark) },
    number("so far", (row) => row.connections_total, count, "minor"),
    number("failed", (row) => row.connect_failures_total, count),
    number("weight", (row) => row.weight, count, "minor"),
  ], sorted);
  table.onSort = onSort;
  return table;
}

function backendNote(backend) {
  const notes = [];
  if (backend.backup) notes.push("backup");
  if (backend.admin_state !== "active") notes.push(backend.admin_state);
  if (backend.state === "down") {
    notes.push("down for " + span(backend.since_seconds));
    if (backend.last_failure) notes.push(backend.last_failure);
    if (backend.last_failure_got) notes.push("got " + backend.last_failure_got);
  }
  if (backend.ejected_workers > 0) notes.push("ejected by " + backend.ejected_workers + " of the workers");
  if (backend.half_open_workers > 0) notes.push("half-open on " + backend.half_open_workers);
  return notes.join(" · ");
}

// The pools: each can be folded, all share filter and order.
class Pools {
  constructor(root) {
    this.root = root;
    this.folds = new Map();
    this.sorted = { at: 1, isDown: true };
    this.filter = "";
    this.isTroubleOnly = false;
  }

  fill(status, sample, sparks) {
    this.last = [status, sample, sparks];
    const seen = new Set();
    for (const pool of status.pools) {
      seen.add(pool.name);
      this.fillPool(pool, this.fold(pool, status.pools.length), sample, sparks);
    }
    for (const [name, fold] of this.folds) {
      if (seen.has(name)) continue;
      fold.node.remove();
      this.folds.delete(name);
    }
  }

  refresh() {
    if (this.last) this.fill(...this.last);
  }

  fold(pool, pools) {
    if (this.folds.has(pool.name)) return this.folds.get(pool.name);
    const node = element("details");
    const summary = element("summary");
    summary.append(element("b", "", pool.name), element("span", "dim"));
    const table = backendsTable(this.sorted, () => this.refresh());
    const wide = element("div", "wide");
    wide.append(table.node);
    const more = element("button");
    more.type = "button";
    const fold = { node, summary, table, more, most: ROWS_AT_FIRST };
    more.addEventListener("click", () => {
      fold.most = fold.most === undefined ? ROWS_AT_FIRST : undefined;
      this.refresh();
    });
    node.append(summary, wide, more);
    node.open = pools <= OPEN_AT_FIRST;
    node.addEventListener("toggle", () => this.refresh());
    this.folds.set(pool.name, fold);
    this.root.append(node);
    return fold;
  }

  fillPool(pool, fold, sample, sparks) {
    const rows = pool.backends.map((backend) => {
      const key = backendKey(pool, backend);
      return { ...backend, ...sample.backends.get(key), standing: standingOf(backend), spark: sparks.get(key) || [] };
    });
    const sum = (of) => rows.reduce((total, row) => total + of(row), 0);
    const facts = [pool.up + " of " + rows.length + " usable", sum((row) => row.connections) + " open",
      rate(sum((row) => row.rate)) + " new"];
    if (pool.retries_total > 0) facts.push(count(pool.retries_total) + " retries");
    if (pool.fail_open_total > 0) facts.push(count(pool.fail_open_total) + " sent to backends that were down");
    const note = fold.summary.lastChild;
    setText(note, facts.join(" · "));
    setClass(note, pool.up === 0 ? "down" : pool.up < rows.length ? "warn" : "dim");
    const wanted = rows.filter((row) => this.isWanted(pool, row));
    fold.node.hidden = (this.filter !== "" || this.isTroubleOnly) && wanted.length === 0;
    // What is folded costs nothing.
    if (!fold.node.open) return;
    fold.table.fill(wanted, fold.most);
    fold.more.hidden = wanted.length <= ROWS_AT_FIRST;
    setText(fold.more, fold.most === undefined ? "Show " + ROWS_AT_FIRST : "Show all " + wanted.length);
  }

  isWanted(pool, row) {
    if (this.isTroubleOnly && row.standing === "in use" && !(row.failures > 0)) return false;
    const text = this.filter.toLowerCase();
    return [row.address, pool.name, row.standing, row.admin_state].some((part) => part.toLowerCase().includes(text));
  }
}
