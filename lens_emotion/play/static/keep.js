"use strict";
// What outlives a run: a strip of earlier ones, a link to these settings, files of vector and texts.

const earlier = [];
const MOST_RUNS = 12;

// a run that the page wrote by itself takes the place of the one before, if that was such a one too
function remember(run) {
  if (run.live && earlier.at(-1)?.live) earlier.pop();
  earlier.push(run);
  if (earlier.length > MOST_RUNS) earlier.shift();
  state.shown = run;
  layStrip();
}

function layStrip() {
  byId("strip").hidden = earlier.length < 2;
  byId("strip").replaceChildren(
    ...earlier.map((run) => {
      const a = run.asked;
      const chip = element("button", "", "chip");
      chip.type = "button";
      chip.dataset.regime = run.verdict.regime;
      chip.title = `${run.verdict.regime}: ${run.texts.texts.steered}`;
      chip.append(element("i"), `${inWords(a.mix)} · ${a.dose}${a.unit === "relative" ? " rel." : ""} · ${a.first_layer === a.last_layer ? `L${a.first_layer}` : `L${a.first_layer}–${a.last_layer}`}`);
      if (run === state.shown) chip.setAttribute("aria-current", "true");
      chip.addEventListener("click", () => restore(run));
      return chip;
    }),
  );
  byId("strip").scrollLeft = byId("strip").scrollWidth;
}

function restore(run) {
  state.running?.abort();
  clearProblems();
  put(run.asked);
  state.shown = run;
  take(run.start, run.asked.prompt);
  take(run.texts, run.asked.prompt);
  verdict(run.verdict);
  history.replaceState(null, "", toAddress(run.asked));
  layStrip();
  markChanges();
}

// ---- files

function give(name, data, type) {
  const link = Object.assign(element("a"), { href: URL.createObjectURL(new Blob([data], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function giveVector(format) {
  clearProblems();
  try {
    const { mix, dose, unit, first_layer, last_layer } = asked();
    const answer = await post("/api/vector", { mix, dose, unit, first_layer, last_layer, format });
    const name = /filename="([A-Za-z0-9.-]+)"/.exec(answer.headers.get("Content-Disposition"))?.[1] ?? `vector.${format}`;
    give(name, await answer.arrayBuffer(), "application/octet-stream");
    byId("told").textContent = format === "gguf" ? `${name}: dose ${dose} at the layers chosen` : `${name}: every layer, to be steered with at any dose`;
  } catch (error) {
    problem(error.message, error.field, "tools");
  }
}

const textsOf = (run) =>
  Object.entries(run.texts.texts).map(([column, text]) => {
    const { prompt, ...settings } = run.asked;
    return { column, prompt, text, regime: column === "steered" ? run.verdict.regime : run.verdict.damage[column], ...run.verdict.measures[column], ...settings };
  });

// a text that a spreadsheet would run as a formula begins with an apostrophe
function cell(value) {
  const text = value === null || value === undefined ? "" : typeof value === "object" ? inWords(value) : String(value);
  const plain = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

function toCsv(runs) {
  const rows = runs.flatMap(textsOf);
  const names = Object.keys(rows[0]);
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

const toJson = (runs) =>
  JSON.stringify({ model: state.facts.model, vectors: state.facts.vectors, runs: runs.map((run) => ({ settings: run.asked, summary: run.verdict.summary, texts: textsOf(run) })) }, null, 1);

async function copyLink() {
  const address = location.origin + location.pathname + toAddress(asked());
  history.replaceState(null, "", address);
  try {
    await navigator.clipboard.writeText(address);
    byId("told").textContent = "link copied";
  } catch {
    byId("told").textContent = "the address bar holds the link";
  }
}

function wireKeeping() {
  byId("link").addEventListener("click", copyLink);
  for (const button of document.querySelectorAll("[data-format]")) button.addEventListener("click", () => giveVector(button.dataset.format));
  byId("texts-json").addEventListener("click", () => give("texts.json", toJson(earlier), "application/json"));
  byId("texts-csv").addEventListener("click", () => give("texts.csv", toCsv(earlier), "text/csv"));
}
