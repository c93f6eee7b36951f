"use strict";
// The stream of a run, and what starts one. Nothing leaves this machine; text goes in as text, never as markup.

async function post(path, data, signal) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(data),
    signal,
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(told.error ?? `the server answered ${answer.status}`), { field: told.field ?? "" });
}

function say(lead, rest = "") {
  byId("status").replaceChildren(element("strong", lead), document.createTextNode(rest ? ` ${rest}` : ""));
}

async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
  }
}

function take(event, prompt) {
  if (event.type === "start") {
    const size = `${event.natural?.toFixed(2)} natural = ${event.relative?.toFixed(3)} of the norm`;
    const where = event.layers === "all" ? "all layers" : `layer${/[-,]/.test(event.layers) ? "s" : ""} ${event.layers}`;
    layColumns(event.columns, prompt, { unsteered: "the model alone", steered: `${event.vector}, ${size}, ${where}`, random: "same length, same layers" }, readColumn);
    writing(true);
    say("Writing…");
  } else if (event.type === "grow") fill(event.texts);
  else if (event.type === "texts") {
    fill(event.texts);
    writing(false);
    const most = Math.max(...Object.values(event.tokens));
    say("Measuring…", `${Object.keys(event.texts).length} texts of up to ${most} tokens in ${event.seconds.toFixed(1)} s, ${(most / event.seconds).toFixed(0)} tokens per second each.`);
    for (const column of byId("columns").children) column.lastChild.disabled = false;
  } else if (event.type === "verdict") verdict(event);
  else if (event.type === "stopped") say("Stopped.");
  else if (event.type === "error") throw new Error(event.message);
}

function busy(on) {
  byId("stop").disabled = !on;
  for (const id of ["doses", "seeds"]) byId(id).disabled = on;
}

async function run(live = false) {
  state.running?.abort();
  clearTimeout(state.timer);
  const mine = (state.running = new AbortController());
  state.inSeries = false;
  clearProblems();
  busy(true);
  let started = false; // until then the page still shows the last run
  try {
    const made = { asked: asked(), live };
    const answer = await post("/api/run", made.asked, mine.signal);
    for await (const event of eventsOf(answer)) {
      if (!started) {
        started = true;
        state.shown = made;
        markChanges();
        if (!live && byId("results").getBoundingClientRect().top > innerHeight - 120) byId("results").scrollIntoView();
      }
      take(event, made.asked.prompt);
      made[event.type] = event;
      if (event.type === "verdict") keep(made);
    }
  } catch (error) {
    if (mine.signal.aborted) return; // a newer run has taken over
    problem(error.message, error.field);
    if (started) say("Not finished.");
  } finally {
    if (state.running === mine) {
      state.running = null;
      writing(false);
      busy(false);
    }
  }
}

function keep(made) {
  remember(made);
  history.replaceState(null, "", toAddress(made.asked));
  for (const id of ["texts-json", "texts-csv"]) byId(id).disabled = false;
  pace.set(made.asked.test, made.verdict.seconds / made.asked.tokens);
  tellPace();
  markChanges();
}

// ---- writing by itself: where a run, as measured on this machine, takes less than a second

const pace = new Map(); // tested or not -> seconds of a run, for each token asked for
const LIVE_SECONDS = 1;
const LIVE_AFTER = 400; // milliseconds after the last change

function expected() {
  return byId("tokens").validity.valid ? (pace.get(byId("test").checked) ?? NaN) * byId("tokens").valueAsNumber : NaN;
}

function tellPace() {
  const seconds = expected();
  byId("live-row").hidden = !Number.isFinite(seconds);
  if (!Number.isFinite(seconds)) return;
  const quick = seconds < LIVE_SECONDS;
  if (!state.pace) byId("live").checked = true; // until the user says otherwise
  state.pace = true;
  byId("live").disabled = !quick;
  byId("live-text").textContent = quick ? `write as I change settings (a run takes ${seconds.toFixed(1)} s here)` : `a run takes ${seconds.toFixed(1)} s here: press Write`;
}

function settingsChanged() {
  markChanges();
  tellPace();
  tellAll();
  clearTimeout(state.timer);
  if (!byId("live").checked || !(expected() < LIVE_SECONDS) || state.inSeries) return;
  state.timer = setTimeout(() => {
    if (!byId("stale").hidden && !state.inSeries && byId("prompt").value.trim() && byId("mix").children.length) run(true);
  }, LIVE_AFTER);
}

// ---- tokens

function readColumn(text) {
  byId("text").value = text;
  readTokens(true);
}

async function readTokens(scroll = false) {
  clearProblems();
  byId("read").disabled = true;
  try {
    const emotions = Object.keys(mixed());
    const answer = await post("/api/tokens", { text: byId("text").value, emotions, layer: Number(byId("read-layer").value) });
    showHeat(await answer.json(), state.colours);
    if (scroll) byId("heat-title").scrollIntoView({ block: "start" });
  } catch (error) {
    problem(error.message, error.field, "layer");
  } finally {
    byId("read").disabled = false;
  }
}

// ---- start

function wire() {
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("controls").requestSubmit();
    if (event.key === "Escape") clearProblems();
  });
  byId("stop").addEventListener("click", () => post("/api/stop", {}).catch((error) => problem(error.message)));
  byId("add").addEventListener("click", () => {
    addEmotion(byId("emotion").value);
    settingsChanged();
  });
  byId("unit").addEventListener("change", changeUnit);
  for (const id of ["first", "last"]) byId(id).addEventListener("input", tellLayers);
  byId("read-layer").addEventListener("input", () => (byId("read-layer-value").textContent = byId("read-layer").value));
  byId("read").addEventListener("click", () => readTokens());
  byId("doses").addEventListener("click", () => series("/api/doses", "dose", showSweep));
  byId("seeds").addEventListener("click", () => series("/api/seeds", "tools", showSeeds));
  byId("opening").addEventListener("change", (event) => {
    if (event.target.value) byId("prompt").value = event.target.value;
  });
  for (const kind of ["input", "change"])
    byId("controls").addEventListener(kind, (event) => {
      if (!["live", "emotion"].includes(event.target.id)) settingsChanged();
    });
  addEventListener("hashchange", follow); // a link of this page, put into its own address bar
  wireKeeping();
}

async function follow() {
  const { settings, wrong, run: now, read, text } = fromAddress();
  put(settings);
  if (text) byId("text").value = text;
  clearProblems();
  markChanges();
  for (const [field, message] of wrong) problem(message, field);
  if (now) await run();
  if (read) await readTokens();
}

async function begin() {
  const answer = await fetch("/api/model");
  const facts = (state.facts = await answer.json());
  state.colours = Object.fromEntries(facts.emotions.map((e) => [e.name, e.colour]));
  document.title = `${facts.model} · lens_emotion playground`;
  byId("facts").textContent = `${facts.model} · ${facts.family} · ${facts.layers} layers × ${facts.width} · ${facts.dtype}, ${facts.device} · vectors: ${facts.vectors}`;
  byId("chat-row").hidden = !facts.chat;
  const middle = Math.floor(facts.layers / 2);
  for (const id of ["first", "last", "read-layer"]) Object.assign(byId(id), { max: String(facts.layers - 1), value: String(middle) });
  byId("tokens").max = String(facts.limits.tokens);
  byId("temperature").value = String(facts.temperature);
  byId("opening").append(...facts.openings.map((text) => element("option", text)));
  byId("prompt").value = facts.openings[0] ?? "";
  layCircle();
  addEmotion(Object.hasOwn(state.colours, "calm") ? "calm" : facts.emotions[0].name);
  wire();
  layColumns(["unsteered", "steered", "random"], "", { unsteered: "the model alone", steered: "choose emotions and a dose", random: "same length, same layers" }, readColumn);
  for (const button of document.querySelectorAll("#go, #read, #doses, #seeds, #link, [data-format]")) button.disabled = false;
  await follow();
}

begin().catch((error) => problem(error.message));
