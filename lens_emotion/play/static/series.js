"use strict";
// One click, many texts: doses as a chart above the slider, seeds as a grid.

const SHAPES = {
  inert: "M-3 0A3 3 0 1 0 3 0A3 3 0 1 0 -3 0",
  surgical: "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0",
  "repetitive collapse": "M-3.5 -3.5H3.5V3.5H-3.5Z",
  explosive: "M0 -4.5L4.5 3.5H-4.5Z",
  "another script": "M0 -4.5L4.5 0L0 4.5L-4.5 0Z",
};
const WIDE = 308;
const THUMB = 8; // half of the slider's knob: where its ends lie

async function series(path, beside, show) {
  state.running?.abort();
  const mine = (state.running = new AbortController());
  state.inSeries = true;
  clearProblems();
  busy(true);
  try {
    const request = asked();
    const answer = await post(path, request, mine.signal);
    for await (const event of eventsOf(answer)) {
      if (event.type === "start") say("Writing…", `${event.texts} texts.`);
      else if (event.type === "progress") say("Writing…", `${Math.round(100 * event.share)}% of the tokens.`);
      else if (event.type === "measuring") say("Measuring…");
      else if (event.type === "stopped") say("Stopped.");
      else if (event.type === "error") throw new Error(event.message);
      else if (event.type === "rows") {
        show(event, request);
        say("Done", `in ${event.seconds.toFixed(1)} s. ${event.summary}`);
      }
    }
  } catch (error) {
    if (mine.signal.aborted) return;
    problem(error.message, error.field, beside);
    say("Not finished.");
  } finally {
    if (state.running === mine) {
      state.running = null;
      state.inSeries = false;
      busy(false);
    }
  }
}

// ---- doses

const inDose = (dose) => THUMB + ((WIDE - 2 * THUMB) * dose) / Number(byId("dose").max);

function scaleOf(values, top, bottom) {
  const known = values.filter((x) => x !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  return (x) => bottom - ((bottom - top) * (x - low)) / (high - low || 1);
}

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

function panel(svg, title, rows, value, band, line, top, note) {
  const log = line !== null;
  const at = (x) => (x === null ? null : log ? Math.log(Math.max(x, 0.05)) : x);
  const values = [...rows.map((r) => at(value(r))), ...rows.flatMap((r) => (band ? band(r) : [])), at(line ?? 0)];
  const y = scaleOf(values, top + 18, top + 76);
  svg.append(drawn("text", { x: THUMB, y: top + 9, class: "axis-name" }, title));
  if (band) {
    const known = rows.filter((r) => band(r)[0] !== null);
    const edge = [...known.map((r) => [inDose(r.dose), y(band(r)[1])]), ...known.reverse().map((r) => [inDose(r.dose), y(band(r)[0])])];
    svg.append(drawn("path", { d: `${path(edge)}Z`, class: "band" }));
  }
  const reference = y(at(line ?? 0));
  svg.append(drawn("line", { x1: THUMB, x2: WIDE - THUMB, y1: reference, y2: reference, class: "reference" }));
  svg.append(drawn("text", { x: WIDE - THUMB, y: top + 9, class: "axis-name", "text-anchor": "end" }, note));
  const known = rows.filter((r) => value(r) !== null);
  svg.append(drawn("path", { d: path(known.map((r) => [inDose(r.dose), y(at(value(r)))])), class: "curve" }));
  for (const r of known) {
    const mark = drawn("path", { d: SHAPES[r.regime] ?? SHAPES.inert, class: "mark", "data-regime": r.regime });
    mark.setAttribute("transform", `translate(${inDose(r.dose).toFixed(1)} ${y(at(value(r))).toFixed(1)})`);
    mark.append(drawn("title", {}, `dose ${r.dose}: ${r.regime}; read ${signed(r.reading)} (random ${signed(r.random_low)} to ${signed(r.random_high)}), ${times(r.surprise)} times the expected perplexity\n${r.text}`));
    mark.addEventListener("click", () => {
      byId("dose").value = String(r.dose);
      tellDose();
      settingsChanged();
    });
    svg.append(mark);
  }
}

function showSweep(event) {
  const rows = event.rows;
  const svg = drawn("svg", { viewBox: `0 0 ${WIDE} 166`, role: "img", "aria-label": event.summary });
  panel(svg, "read along the vector", rows, (r) => r.reading, (r) => [r.random_low, r.random_high], null, 0, "grey: 3 random directions");
  panel(svg, "perplexity over the expected (log)", rows, (r) => r.surprise, null, event.explosive, 84, `line: explosive, ${times(event.explosive)}`);
  svg.append(drawn("line", { id: "dose-line", y1: 12, y2: 164, class: "now" }));
  byId("sweep-chart").replaceChildren(svg);
  const seen = [...new Set(rows.map((r) => r.regime))];
  const legend = seen.map((regime) => {
    const item = element("span", "", "key");
    const sign = drawn("svg", { viewBox: "-6 -6 12 12", width: 12, height: 12, "aria-hidden": "true" });
    sign.append(drawn("path", { d: SHAPES[regime] ?? SHAPES.inert, class: "mark", "data-regime": regime }));
    item.append(sign, regime);
    return item;
  });
  byId("sweep-note").replaceChildren(...legend, element("span", event.summary, "told"));
  byId("sweep").hidden = false;
  markDose();
}

function markDose() {
  const x = inDose(Number(byId("dose").value)).toFixed(1);
  for (const end of ["x1", "x2"]) byId("dose-line")?.setAttribute(end, x);
}

// ---- seeds

function showSeeds(event) {
  byId("grid").hidden = false;
  byId("grid-note").textContent = event.summary;
  byId("seed-rows").replaceChildren(
    ...event.rows.map((row) => {
      const card = element("article", "", "seed");
      const head = element("header");
      head.append(element("h3", `seed ${row.seed}`), badgeOf(row.regime));
      const use = element("button", "Use this seed", "small-button");
      use.type = "button";
      use.addEventListener("click", () => {
        byId("seed").value = String(row.seed);
        tellAll();
        settingsChanged();
        say("Seed", `${row.seed} is set.`);
      });
      card.append(head, element("p", row.text, "text"), element("p", `read ${signed(row.reading)}, its random direction ${signed(row.random)}`, "note"), use);
      return card;
    }),
  );
  byId("grid").scrollIntoView({ block: "nearest" });
}
