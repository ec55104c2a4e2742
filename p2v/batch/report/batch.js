// What only the batch's page does: its choices, and loading itself anew with everything left as its reader had it.
filterBy(({ cells, dataset }, { state, wave, reason }) =>
  (state === "" || cells[1].dataset.sort === state) &&
  (wave === "" || dataset.wave === wave) &&
  (reason === "" || dataset.reason === reason));

const refreshing = byId("refreshing");
const refresh = byId("refresh");
const kept = `p2v batch ${location.pathname}`;
const heads = [...table.tHead.rows[0].cells];
const scrolled = [...document.querySelectorAll(".scroll")];
const nameOf = (details) => details.querySelector(":scope > .body")?.id ?? details.querySelector("summary").textContent;

// The place in the page is told by what stands at the top of the window: what is above it may have grown meanwhile.
function place() {
  if (scrollY < 1) return null;
  const above = [...document.querySelectorAll("main section, main article")]
    .filter((each) => !each.hidden && each.getBoundingClientRect().top <= 1).at(-1);
  return above && { id: (above.querySelector(":scope > details > .body") ?? above).id, top: above.getBoundingClientRect().top };
}

// A part of the page by which the next page finds what is in it: a row or line of a machine, or else the nearest that has a name.
// Rows may stand in another order there, and what stands before them may be longer.
const lines = "tr, [data-of]";
const hashOf = (line) => line?.querySelector("a")?.hash;

function partOf(node) {
  const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
  const line = element?.closest(lines);
  return hashOf(line) ? line : element?.closest("[id]");
}

const told = (part) => part.id ? [part.id] : [part.parentElement.closest("[id]").id, hashOf(part)];

function found([id, hash]) {
  const part = byId(id);
  return hash && part ? [...part.querySelectorAll(lines)].find((each) => hashOf(each) === hash) : part;
}

const reached = "a, button, input, select, summary, [tabindex]";
const leads = (each) => each.hash || (each.localName === "summary" && nameOf(each.parentElement)) || each.textContent;

function focused() {
  const has = document.activeElement;
  const part = has && has !== document.body && partOf(has);
  if (!part || part === has) return part && { part: told(part) };
  const alike = [...part.querySelectorAll(reached)].filter((each) => leads(each) === leads(has));
  return { part: told(part), leads: leads(has), index: alike.indexOf(has) };
}

function focus({ part, leads: to, index }) {
  const around = found(part);
  const has = to === undefined ? around : [...around?.querySelectorAll(reached) ?? []].filter((each) => leads(each) === to)[index];
  has?.focus({ preventScroll: true });
}

// Marked words: from which letter to which of their parts. Other words there: nothing is marked any more.
function lettersBefore(part, node, offset) {
  const before = document.createRange();
  before.setStart(part, 0);
  before.setEnd(node, offset);
  return before.toString().length;
}

function marked() {
  const { type, anchorNode: from, anchorOffset, focusNode: to, focusOffset } = getSelection();
  if (type !== "Range" || !partOf(from) || !partOf(to)) return null;
  const ends = [[from, anchorOffset], [to, focusOffset]].map(([node, offset]) => [told(partOf(node)), lettersBefore(partOf(node), node, offset)]);
  return { text: getSelection().toString().slice(0, 1000), ends };
}

function nodeAt(part, letter) {
  if (!part) return null;
  const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(), left = letter; node; left -= node.data.length, node = texts.nextNode()) {
    if (left <= node.data.length) return [node, left];
  }
  return null;
}

function mark({ text, ends }) {
  const [from, to] = ends.map(([part, letter]) => nodeAt(found(part), letter));
  if (!from || !to) return;
  getSelection().setBaseAndExtent(...from, ...to);
  if (getSelection().toString().slice(0, 1000) !== text) getSelection().removeAllRanges();
}

function keep() {
  const sorted = heads.find((each) => each.ariaSort);
  const values = Object.fromEntries(fields.map((field) => [field.id, field.value]));
  const open = [...document.querySelectorAll("details[open]")].map(nameOf);
  const scrolls = scrolled.map((each) => [each.scrollLeft, each.scrollTop]);
  const { theme } = document.documentElement.dataset;
  const sort = sorted && [sorted.cellIndex, sorted.ariaSort === "ascending" ? 1 : -1];
  const state = { values, open, scrolls, theme, sort, focus: focused(), mark: marked(), place: place(), goesOn: refresh?.checked ?? true };
  try {
    sessionStorage.setItem(kept, JSON.stringify(state));
  } catch {
    // a browser that keeps nothing shows the page from its beginning
  }
}

function goTo({ id, top }) {
  const part = byId(id)?.closest("article, section");
  if (part) scrollBy({ top: part.getBoundingClientRect().top - top, behavior: "instant" });
}

function restore(state) {
  for (const field of fields) {
    field.value = state.values[field.id] ?? "";
    if (field.selectedIndex === -1) field.value = "";  // a reason that nobody has any more
  }
  filter();
  if (state.sort) sort(heads[state.sort[0]], state.sort[1]);
  const open = new Set(state.open);
  for (const each of document.querySelectorAll("details")) each.open = open.has(nameOf(each));
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  nameTheme();
  scrolled.forEach((each, index) => each.scrollTo({ left: state.scrolls[index]?.[0] ?? 0, top: state.scrolls[index]?.[1] ?? 0, behavior: "instant" }));
  if (refresh) refresh.checked = state.goesOn;
  if (state.focus) focus(state.focus);
  if (state.mark) mark(state.mark);
  if (!state.place) return;
  // what comes into sight is laid out only then, and may move the place once more
  goTo(state.place);
  requestAnimationFrame(() => {
    goTo(state.place);
    requestAnimationFrame(() => goTo(state.place));
  });
}

if (refresh) {
  refresh.checked = true;
  refreshing.hidden = false;
}
if (performance.getEntriesByType("navigation")[0]?.type !== "navigate") {
  let state = null;
  try {
    state = JSON.parse(sessionStorage.getItem(kept));
  } catch {
    // nothing was kept
  }
  if (state) {
    history.scrollRestoration = "manual";
    restore(state);
  }
}
addEventListener("pagehide", keep);

// Whoever is about to choose, or has words marked, is not disturbed; nor is a printer, to whom pages go for a while after they are made.
let quietUntil = 0;
let prints = false;
const beQuiet = (milliseconds) => { quietUntil = Math.max(quietUntil, performance.now() + milliseconds); };
for (const kind of ["pointerdown", "keydown", "input", "wheel"]) addEventListener(kind, () => beQuiet(3_000), true);
document.addEventListener("selectionchange", () => { if (getSelection().type === "Range") beQuiet(30_000); });
addEventListener("beforeprint", () => { prints = true; });
addEventListener("afterprint", () => {
  prints = false;
  beQuiet(10_000);
});

function written() {
  const minutes = (Date.now() / 1000 - Number(refreshing.dataset.now)) / 60;
  const patience = 1 + 3 * Number(refreshing.dataset.seconds) / 60;
  if (minutes < patience) return "";
  const ago = minutes < 120 ? `${Math.round(minutes)} min` : minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} days`;
  const why = refresh.checked ? "the run may have ended without a word, or this clock is not the run's" : "it is not refreshed";
  return `Last told ${ago} ago: ${why}.`;
}

// Where a browser draws nothing, somebody has it hurry a clock on and print what is there then (--virtual-time-budget): a page that
// goes away meanwhile is never printed. So a page that is shown goes only when frames were drawn between some looks at the clock.
const LOOKS = 3;
let drawn = 0;
let isAsked = false;

function askForFrame() {
  if (isAsked) {
    drawn = 0;
    return;
  }
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    drawn += 1;
  });
}

function tick() {
  const said = written();
  if (byId("age").value !== said) byId("age").value = said;
  const isDue = performance.now() >= Math.max(quietUntil, 1000 * Number(refreshing.dataset.seconds));
  if (isDue && refresh.checked && !prints && (document.hidden || drawn >= LOOKS)) location.reload();
  askForFrame();
}

if (refreshing) {
  tick();
  setInterval(tick, 500);
}
