"use strict";

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);

// -- theme: as the system has it, until the switch is used; a reload keeps it ----------------------

const system = matchMedia("(prefers-color-scheme: dark)");
const themeSwitch = byId("theme");
let chosen = history.state?.theme;

function applyTheme() {
  const theme = chosen ?? (system.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  themeSwitch.textContent = theme === "dark" ? "Light colours" : "Dark colours";
  repaint();
}
themeSwitch.addEventListener("click", () => {
  chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  history.replaceState({ theme: chosen }, "");
  applyTheme();
});
system.addEventListener("change", applyTheme);

// -- the page of what is under way, which a reader can hold ---------------------------------------

const refresh = byId("refresh");
if (refresh) {
  const due = setTimeout(() => location.reload(), 1000 * refresh.dataset.seconds);
  refresh.hidden = false;
  refresh.addEventListener("click", () => {
    if (refresh.textContent === "Refresh") location.reload();
    clearTimeout(due);
    refresh.textContent = "Refresh";
  });
}

// -- tables: sorted, filtered, and of long ones only the first rows --------------------------------

// What is missing has an empty order and comes last, in either direction.
const orderOf = (cell) => cell.dataset.order ?? cell.textContent.trim();
const collator = new Intl.Collator("en", { numeric: true });

function compareText(a, b) {
  const difference = Number(a) - Number(b);
  return Number.isNaN(difference) ? collator.compare(a, b) : difference;
}

class Table {
  constructor(element) {
    this.element = element;
    this.body = element.tBodies[0];
    this.total = Number(element.dataset.total);
    this.limit = Number(element.dataset.shown);
    this.matches = () => true;
    this.marked = new Set();
    const below = element.closest(".scroll").nextElementSibling.nextElementSibling;
    this.seen = below?.querySelector("[data-seen]");
    this.all = below?.querySelector("[data-all]");
    this.all?.addEventListener("click", async () => {
      await this.unpack();
      this.limit = Infinity;
      this.show();
    });
    for (const header of element.tHead.rows[0].cells) {
      header.firstElementChild.addEventListener("click", () => this.sort(header));
    }
    this.show();
  }

  get rows() {
    return [...this.body.rows];
  }

  // The rows beyond the first, which the page keeps packed until they are needed.
  async unpack() {
    if (this.body.rows.length === this.total) return;
    this.unpacking ??= unpacked("rows").then((rows) => {
      this.body.insertAdjacentHTML("beforeend", JSON.parse(rows)[this.element.id]);
    });
    await this.unpacking;
  }

  async sort(header) {
    if (this.body.rows.length < this.total) await this.unpack(); // else at once
    const direction = header.ariaSort === "ascending" ? "descending" : "ascending";
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    const keyed = this.rows.map((row) => [orderOf(row.cells[header.cellIndex]), row]);
    const sign = direction === "ascending" ? 1 : -1;
    keyed.sort(([a], [b]) => (a === "") - (b === "") || sign * compareText(a, b));
    this.body.append(...keyed.map(([, row]) => row));
    this.show();
  }

  show() {
    const found = new Set(this.rows.filter(this.matches));
    const shown = new Set([...found].slice(0, this.limit));
    for (const row of this.body.rows) {
      row.hidden = !shown.has(row);
      row.classList.toggle("marked", this.marked.has(row.dataset.group));
    }
    this.found = found.size === this.body.rows.length ? this.total : found.size;
    if (!this.all) return;
    this.seen.value = `${shown.size.toLocaleString("en")} of ${this.found.toLocaleString("en")} rows`;
    this.all.hidden = shown.size === this.found;
  }
}

// Says so where a table is wider than its box.
for (const box of all(".scroll")) {
  new ResizeObserver(() => (box.nextElementSibling.hidden = box.scrollWidth <= box.clientWidth)).observe(box);
}

// -- one ranking: its filter, its highlighted groups, and what of that the charts show -------------

class Ranking {
  constructor(element) {
    this.element = element;
    this.tables = all("table", element).map((table) => new Table(table));
    this.visible = null; // all
    this.marked = new Set();
    this.filter = element.querySelector("[data-filter]");
    this.filter.addEventListener("input", () => this.applyFilter());
    this.limit = element.querySelector("[data-limit]");
    this.limit?.addEventListener("change", () => this.draw());
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button.select");
      if (button) this.mark(button);
    });
    this.applyFilter();
  }

  async applyFilter() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const table of this.tables) if (words.length && table.body.rows.length < table.total) await table.unpack();
    const matches = (row) => {
      row.searched ??= `${row.textContent} ${row.dataset.search}`.toLowerCase();
      return words.every((word) => row.searched.includes(word));
    };
    for (const table of this.tables) {
      table.matches = matches;
      table.show();
    }
    const [groups] = this.tables;
    this.visible = words.length ? new Set(groups.rows.filter(matches).map((row) => row.dataset.group)) : null;
    const [found, total] = [groups.found, groups.total].map((number) => number.toLocaleString("en"));
    this.element.querySelector("[data-found]").value = `${found} of ${total} configurations`;
    this.draw();
  }

  mark(button) {
    const { group } = button.closest("tr").dataset;
    const isMarked = !this.marked.delete(group);
    if (isMarked) this.marked.add(group);
    button.setAttribute("aria-pressed", isMarked);
    for (const table of this.tables) {
      table.marked = this.marked;
      table.show();
    }
    this.draw();
  }

  draw() {
    const limit = this.limit ? Number(this.limit.value) : Infinity;
    const drawn = this.drawIn(`${this.element.id}-curves`, limit);
    this.drawIn(`${this.element.id}-cost`, Infinity);
    if (drawn) this.element.querySelector("[data-drawn]").value = `${drawn.shown} of ${drawn.total} runs drawn`;
  }

  // The first `limit` marks of the groups that the filter lets through; they are in the order of the ranking.
  drawIn(id, limit) {
    const marks = charts.get(id)?.get_model_by_name("marks");
    if (!marks) return null;
    const groups = [...marks.data_source.get_column("group")].map(String);
    const visible = [...groups.keys()].filter((n) => this.visible?.has(groups[n]) ?? true).slice(0, limit);
    marks.view.filter.indices = visible;
    marks.data_source.selected.indices = visible.filter((n) => this.marked.has(groups[n]));
    return { shown: visible.length, total: groups.length };
  }
}

// -- charts --------------------------------------------------------------------------------------

const charts = new Map(); // the id of an element to the Bokeh document that is drawn in it

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function drawCharts() {
  const library = document.createElement("script");
  library.textContent = await unpacked("library"); // the page's policy knows its hash
  document.head.append(library);
  for (const [id, item] of Object.entries(JSON.parse(await unpacked("charts")))) {
    const views = await Bokeh.embed.embed_item(item, id);
    charts.set(id, views.roots[0].model.document);
    nameTools(byId(id));
  }
}

// Bokeh's tools answer to the keyboard, but say of themselves neither what they are nor what they are called.
function nameTools(root) {
  for (const element of all("*", root)) {
    if (element.tabIndex === 0 && element.title) {
      element.role = "button";
      element.ariaLabel = element.title;
    }
    if (element.shadowRoot) nameTools(element.shadowRoot);
  }
}

function repaint() {
  for (const chart of charts.values()) {
    for (const root of chart.roots()) Bokeh.index.get_by_id(root.id)?.request_repaint();
  }
}

// Other columns for every glyph of a chart: where it has read `x_0` and `y_0` it reads `x_2` and `y_2`.
function setColumns(select) {
  const plot = charts.get(select.dataset.chart)?.roots()[0];
  if (!plot) return;
  for (const renderer of plot.renderers) {
    for (const name of ["glyph", "hover_glyph", "selection_glyph", "nonselection_glyph", "muted_glyph"]) {
      for (const property of ["x", "x0", "x1", "y", "ys", "fill_alpha"]) {
        const field = renderer[name]?.properties?.[property]?.get_value()?.field;
        if (/_\d+$/.test(field)) renderer[name][property] = { field: field.replace(/\d+$/, select.value) };
      }
    }
  }
  const axis = select.dataset.axis === "x" ? plot.below[0] : plot.left[0];
  axis.axis_label = select.selectedOptions[0].textContent;
}

// -- start ---------------------------------------------------------------------------------------

for (const button of all("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const line = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(line.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(line);
      button.textContent = "Selected";
    }
  });
}
for (const element of all("[data-scripted]")) element.hidden = false;
themeSwitch.hidden = false;
applyTheme();
const rankings = all(".ranking").map((element) => new Ranking(element));
for (const select of all("select[data-axis]")) select.addEventListener("change", () => setColumns(select));

drawCharts()
  .then(() => {
    for (const ranking of rankings) ranking.draw();
    for (const select of all("select[data-axis]")) setColumns(select); // a reload keeps what was chosen
  })
  .catch((error) => {
    const trouble = byId("trouble");
    trouble.textContent = `The charts could not be drawn (${error}). The tables have the same figures.`;
    trouble.hidden = false;
  })
  .finally(() => document.documentElement.setAttribute("data-ready", ""));
