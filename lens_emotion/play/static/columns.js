"use strict";
// The columns: texts as they grow, their measures, and the badge of the steered one.

const NAMES = { unsteered: "Unsteered", steered: "Steered", random: "Random direction" };

function layColumns(names, prompt, notes, onRead) {
  byId("columns").style.setProperty("--n", names.length);
  byId("columns").replaceChildren(
    ...names.map((name) => {
      const column = element("article", "", "panel column");
      column.id = `column-${name}`;
      const head = element("header");
      head.append(element("h3", NAMES[name]), element("p", notes[name] ?? ""));
      const text = element("div", "", "text");
      text.append(element("span", prompt), document.createTextNode(""));
      const read = element("button", "Read tokens");
      read.type = "button";
      read.disabled = true;
      read.addEventListener("click", () => onRead(text.textContent));
      column.append(head, text, read);
      return column;
    }),
  );
}

function fill(texts) {
  for (const [name, text] of Object.entries(texts)) {
    const box = byId(`column-${name}`).querySelector(".text");
    const follow = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
    box.lastChild.data = text;
    if (follow) box.scrollTop = box.scrollHeight;
  }
}

function writing(on) {
  for (const column of byId("columns").children) column.classList.toggle("writing", on);
}

const share = (x) => (x === null ? "–" : `${Math.round(100 * x)}%`);
const times = (x) => (x === null ? "–" : x < 100 ? x.toFixed(2) : Math.round(x).toLocaleString("en"));

function badgeOf(regime) {
  const badge = element("span", regime || "control", regime ? "badge" : "badge plain");
  badge.dataset.regime = regime;
  badge.title = "from one text";
  return badge;
}

function measureList(m, isFirst, unreliable) {
  const list = element("dl", "", "measures");
  const rows = [
    ["perplexity ratio", isFirst ? "1" : times(m.perplexity_ratio) + (unreliable ? " unreliable" : "")],
    ["over the expected", times(m.surprise)],
    ["in one loop", share(m.loop_share)],
    ["letters of other scripts", share(m.foreign)],
    ["distinct token pairs", share(m.distinct_2)],
    ["tokens changed", isFirst ? "–" : share(m.edit_distance)],
    ["read along the vector", isFirst ? "0" : signed(m.reading)],
  ];
  for (const [name, value] of rows) list.append(element("dt", name), element("dd", value));
  if (unreliable && !isFirst) list.children[1].title = "the unsteered text loops, so that any other text is many times less likely";
  return list;
}

function verdict(event) {
  for (const [name, m] of Object.entries(event.measures)) {
    const column = byId(`column-${name}`);
    column.insertBefore(measureList(m, name === "unsteered", event.unreliable), column.lastChild);
    const shown = name === "steered" ? event.regime : event.damage[name];
    if (!shown && name === "unsteered") continue;
    column.firstChild.append(badgeOf(shown));
  }
  const cut = event.summary.indexOf(", ");
  say(event.summary.slice(0, cut + 1), event.summary.slice(cut + 2) + ".");
}
