// What the report does beyond being read: filter, sort, open and close, light and dark, the colours of diffs.
// It never makes markup from text; without it everything is there as well.
"use strict";

const byId = (id) => document.getElementById(id);
const table = byId("machine-table");
const rows = [...table.tBodies[0].rows].map((row) => {
  const body = byId(row.querySelector("a").hash.slice(1));
  return { row, body, article: body.closest("article"), words: null };
});

// Filtering. A machine's words are gathered at the first search; its plan is not among them.
const controls = byId("controls");
const fields = ["search", "verdict", "support", "rule"].map(byId);

function wordsOf(machine) {
  machine.words ??= [machine.row, machine.body.querySelector(".facts"), machine.body.querySelector(".findings")]
    .map((part) => (part ? part.textContent : "")).join(" ").toLowerCase();
  return machine.words;
}

function filter() {
  const [search, verdict, support, rule] = fields.map((field) => field.value);
  const wanted = search.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const machine of rows) {
    const { cells, dataset } = machine.row;
    const fits =
      (verdict === "" || cells[1].dataset.sort === verdict) &&
      (support === "" || cells[3].dataset.sort === support) &&
      (rule === "" || (dataset.rules || "").split(" ").includes(rule)) &&
      (wanted.length === 0 || wanted.every((word) => wordsOf(machine).includes(word)));
    machine.row.hidden = machine.article.hidden = !fits;
    count += fits;
  }
  const all = rows.length.toLocaleString("en");
  byId("status").value = count === rows.length ? `All ${all} machines are shown` : `${count.toLocaleString("en")} of ${all} machines are shown`;
}

function clear() {
  for (const field of fields) field.value = "";
  filter();
}

// Sorting. Headers become buttons here, so that none is there that does nothing.
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

function valueOf(row, column, numeric) {
  const cell = row.cells[column];
  return numeric ? Number(cell.dataset.sort) : cell.textContent;
}

function sort(header) {
  const column = header.cellIndex;
  const numeric = "numeric" in header.dataset;
  const direction = header.ariaSort === "ascending" ? -1 : 1;
  const compare = numeric ? (a, b) => a - b : collator.compare;
  const sorted = rows
    .map(({ row }) => ({ row, value: valueOf(row, column, numeric) }))
    .sort((a, b) => direction * compare(a.value, b.value));
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.ariaSort = direction === 1 ? "ascending" : "descending";
  table.tBodies[0].append(...sorted.map(({ row }) => row));
}

for (const header of table.tHead.rows[0].cells) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  button.addEventListener("click", () => sort(header));
  header.append(button);
}

// Opening and closing: those that are shown.
function openMachines(open) {
  for (const { article } of rows) if (!article.hidden) article.querySelector("details").open = open;
}

// A link to a machine that is closed, or filtered out, shows it.
function showTarget() {
  const target = location.hash.length > 1 && byId(location.hash.slice(1));
  const article = target && target.closest("article");
  if (!article) return;
  if (article.hidden) clear();
  const details = target.closest("details");
  if (details) details.open = true;
  target.scrollIntoView();
}

// The lines of a diff are coloured as ranges, once a plan is opened: its text stays one text. A plan indents them by three.
function colourDiff(text) {
  let start = 0;
  for (const line of text.data.split("\n")) {
    const name = /^ {3}\+(?!\+\+ )/.test(line) ? "added" : /^ {3}-(?!-- )/.test(line) ? "removed" : null;
    if (name) {
      const range = new StaticRange({ startContainer: text, startOffset: start, endContainer: text, endOffset: start + line.length });
      if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
      CSS.highlights.get(name).add(range);
    }
    start += line.length + 1;
  }
}

document.addEventListener("toggle", (event) => {
  const pre = event.target.matches(".plan") && event.target.querySelector("pre");
  if (!pre || pre.dataset.coloured || !("highlights" in CSS)) return;
  pre.dataset.coloured = "yes";
  colourDiff(pre.firstChild);
}, true);

// Light and dark.
const theme = byId("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
dark.addEventListener("change", nameTheme);

// A browser whose print style cannot open what is closed has it opened for the while.
let opened = [];
addEventListener("beforeprint", () => {
  if (CSS.supports("selector(::details-content)")) return;
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const each of opened) each.open = true;
});
addEventListener("afterprint", () => { for (const each of opened) each.open = false; });

controls.addEventListener("input", filter);
controls.addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", clear);
byId("open-all").addEventListener("click", () => openMachines(true));
byId("close-all").addEventListener("click", () => openMachines(false));
addEventListener("hashchange", showTarget);
controls.hidden = theme.hidden = false;
nameTheme();
filter();
showTarget();
