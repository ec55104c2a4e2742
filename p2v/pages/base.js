// What every page does beyond being read: filter, sort, open and close, light and dark.
// It never makes markup from text; without it everything is there as well. A page's own script comes behind it, and says by
// filterBy what its choices mean.
"use strict";

const byId = (id) => document.getElementById(id);
const table = byId("machine-table");
// What stands elsewhere about a machine says so (data-of), and is hidden with it.
const elsewhere = Map.groupBy(document.querySelectorAll("[data-of]"), (each) => each.dataset.of);
const rows = [...table.tBodies[0].rows].map((row) => {
  const body = byId(row.querySelector("a").hash.slice(1));
  return { row, body, article: body.closest("article"), elsewhere: elsewhere.get(body.id) ?? [], words: null };
});

// Filtering. A machine's words are gathered at the first search, from its row and its searched parts.
const controls = byId("controls");
const fields = [...controls.querySelectorAll("input, select")];
let isChosen = () => true;

function wordsOf(machine) {
  machine.words ??= [machine.row, ...machine.body.querySelectorAll(":scope > .facts, :scope > .findings")]
    .map((part) => part.textContent).join(" ").toLowerCase();
  return machine.words;
}

function filter() {
  const values = Object.fromEntries(fields.map((field) => [field.id, field.value]));
  const wanted = values.search.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const machine of rows) {
    const fits = isChosen(machine.row, values) && wanted.every((word) => wordsOf(machine).includes(word));
    machine.row.hidden = machine.article.hidden = !fits;
    for (const each of machine.elsewhere) each.hidden = !fits;
    count += fits;
  }
  const all = rows.length.toLocaleString("en");
  byId("status").value = count === rows.length ? `All ${all} machines are shown` : `${count.toLocaleString("en")} of ${all} machines are shown`;
}

// Which rows fit the values of the choices, by their fields' names; an empty value is any.
function filterBy(chosen) {
  isChosen = chosen;
  filter();
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

function sort(header, direction) {
  const column = header.cellIndex;
  const numeric = "numeric" in header.dataset;
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
  button.addEventListener("click", () => sort(header, header.ariaSort === "ascending" ? -1 : 1));
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

// Of very many machines each filtering takes a while: whoever types waits for the last letter alone.
const MANY = 500;
let soon = 0;
controls.addEventListener("input", ({ target }) => {
  clearTimeout(soon);
  if (rows.length > MANY && target.id === "search") soon = setTimeout(filter, 150);
  else filter();
});
controls.addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", clear);
byId("open-all").addEventListener("click", () => openMachines(true));
byId("close-all").addEventListener("click", () => openMachines(false));
addEventListener("hashchange", showTarget);
controls.hidden = theme.hidden = false;
nameTheme();
showTarget();
