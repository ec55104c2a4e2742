// What only the audit's report does: its choices, and the colours of diffs.
filterBy(({ cells, dataset }, { verdict, support, rule }) =>
  (verdict === "" || cells[1].dataset.sort === verdict) &&
  (support === "" || cells[3].dataset.sort === support) &&
  (rule === "" || (dataset.rules || "").split(" ").includes(rule)));

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
