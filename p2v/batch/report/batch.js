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

function keep() {
  const sorted = heads.find((each) => each.ariaSort);
  const values = Object.fromEntries(fields.map((field) => [field.id, field.value]));
  const open = [...document.querySelectorAll("details[open]")].map(nameOf);
  const scrolls = scrolled.map((each) => [each.scrollLeft, each.scrollTop]);
  const { theme } = document.documentElement.dataset;
  const sort = sorted && [sorted.cellIndex, sorted.ariaSort === "ascending" ? 1 : -1];
  const focus = document.activeElement?.id || null;
  const state = { values, open, scrolls, theme, sort, focus, place: place(), goesOn: refresh?.checked ?? true };
  try {
    sessionStorage.setItem(kept, JSON.stringify(state));
  } catch {
    // a browser that keeps nothing shows the page from its beginning
  }
}

function goTo({ id, top }) {
  const found = byId(id)?.closest("article, section");
  if (found) scrollBy({ top: found.getBoundingClientRect().top - top, behavior: "instant" });
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
  if (state.focus) byId(state.focus)?.focus({ preventScroll: true });
  if (!state.place) return;
  // what comes into sight is laid out only then, and may move the place once more
  goTo(state.place);
  requestAnimationFrame(() => {
    goTo(state.place);
    requestAnimationFrame(() => goTo(state.place));
  });
}

if (refresh) refresh.checked = true;
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

// Whoever is about to choose, or has words marked, is not disturbed.
let touched = -Infinity;
for (const kind of ["pointerdown", "keydown", "input", "wheel"]) addEventListener(kind, () => { touched = performance.now(); }, true);

function written() {
  const minutes = (Date.now() / 1000 - Number(refreshing.dataset.now)) / 60;
  const patience = 1 + 3 * Number(refreshing.dataset.seconds) / 60;
  return minutes < patience ? "" : ` This page was written ${Math.round(minutes).toLocaleString("en")} minutes ago by this computer's clock: the batch may not be run any more.`;
}

function tick() {
  const now = performance.now();
  const said = written();
  if (byId("age").value !== said) byId("age").value = said;
  const rest = getSelection().type === "Range" ? 30_000 : 3_000;
  if (refresh.checked && now >= 1000 * Number(refreshing.dataset.seconds) && now - touched >= rest) location.reload();
}

if (refreshing) {
  refreshing.hidden = false;
  tick();
  setInterval(tick, 500);
}
