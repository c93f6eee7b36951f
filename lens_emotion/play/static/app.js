"use strict";
// Controls, the stream of a run, and the columns. Nothing leaves this machine; text goes in as text, never as markup.

const state = { facts: null, colours: {}, running: null, dirty: false };

async function post(path, data, signal) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(data),
    signal,
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error ?? `the server answered ${answer.status}`);
}

function problem(message) {
  byId("problem-text").textContent = message;
  byId("problem").hidden = !message;
}

function say(lead, rest = "") {
  byId("status").replaceChildren(element("strong", lead), document.createTextNode(rest ? ` ${rest}` : ""));
}

// ---- controls

function addEmotion(name, weight = 1) {
  if (!name || byId(`mix-${name}`)) return;
  if (byId("mix").children.length >= 8) return problem("8 emotions in one mixture at most; remove one first");
  const row = element("li");
  row.dataset.emotion = name;
  const dot = element("i");
  dot.style.setProperty("--colour", state.colours[name]);
  const label = element("label", name);
  const slider = Object.assign(element("input"), { type: "range", min: "-2", max: "2", step: "0.1", id: `mix-${name}` });
  slider.value = String(weight);
  label.htmlFor = slider.id;
  const value = element("output");
  const tell = () => {
    value.textContent = signed(Number(slider.value), 1);
    slider.setAttribute("aria-valuetext", `weight ${slider.value}`);
  };
  slider.addEventListener("input", tell);
  tell();
  const remove = element("button", "×");
  remove.type = "button";
  remove.setAttribute("aria-label", `Remove ${name}`);
  remove.addEventListener("click", () => {
    row.remove();
    offerEmotions();
    byId("emotion").focus();
  });
  row.append(dot, label, slider, value, remove);
  byId("mix").append(row);
  offerEmotions();
}

const mixed = () =>
  Object.fromEntries([...byId("mix").children].map((row) => [row.dataset.emotion, Number(row.querySelector("input").value)]));

function offerEmotions() {
  const taken = mixed();
  const left = state.facts.emotions.map((e) => e.name).filter((name) => !(name in taken));
  byId("emotion").replaceChildren(...left.map((name) => element("option", name)));
  byId("add").disabled = left.length === 0;
}

function tellDose() {
  byId("dose-value").textContent = Number(byId("dose").value).toFixed(2);
}

function changeUnit() {
  const relative = byId("unit").value === "relative";
  Object.assign(byId("dose"), relative ? { max: "2", step: "0.05", value: "0.3" } : { max: "16", step: "0.25", value: "3" });
  tellDose();
}

function tellLayers(event) {
  const first = byId("first");
  const last = byId("last");
  if (Number(first.value) > Number(last.value)) {
    if (event?.target === last) first.value = last.value;
    else last.value = first.value;
  }
  const [a, b, n] = [Number(first.value), Number(last.value), state.facts.layers];
  byId("band-text").textContent = a === b ? `layer ${a} alone` : `layers ${a} to ${b}, the dose at each`;
  byId("depth-text").textContent = `depth ${((100 * (a + 1)) / n).toFixed(0)}%${a === b ? "" : ` to ${((100 * (b + 1)) / n).toFixed(0)}%`} of ${n} layers`;
}

const tellReadLayer = () => (byId("read-layer-value").textContent = byId("read-layer").value);

function asked() {
  return {
    prompt: byId("prompt").value,
    mix: mixed(),
    dose: Number(byId("dose").value),
    unit: byId("unit").value,
    first_layer: Number(byId("first").value),
    last_layer: Number(byId("last").value),
    tokens: byId("tokens").valueAsNumber,
    temperature: byId("temperature").valueAsNumber,
    seed: byId("seed").valueAsNumber,
    positions: byId("positions").value,
    control: byId("control").checked,
    test: byId("test").checked,
    chat: byId("chat").checked,
  };
}

// ---- a run

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
    if (byId("results").getBoundingClientRect().top > innerHeight - 120) byId("results").scrollIntoView();
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

async function run() {
  state.running?.abort();
  const mine = (state.running = new AbortController());
  problem("");
  byId("stop").disabled = false;
  let started = false; // until then the page still shows the last run
  try {
    const request = asked();
    const answer = await post("/api/run", request, mine.signal);
    for await (const event of eventsOf(answer)) {
      started = true;
      take(event, request.prompt);
    }
  } catch (error) {
    if (mine.signal.aborted) return; // a newer run has taken over
    problem(error.message);
    if (started) say("Not finished.");
  } finally {
    if (state.running === mine) {
      state.running = null;
      writing(false);
      byId("stop").disabled = true;
    }
  }
}

function readColumn(text) {
  byId("text").value = text;
  readTokens(true);
}

async function readTokens(scroll = false) {
  problem("");
  byId("read").disabled = true;
  try {
    const emotions = Object.keys(mixed());
    const answer = await post("/api/tokens", { text: byId("text").value, emotions, layer: Number(byId("read-layer").value) });
    showHeat(await answer.json(), state.colours);
    if (scroll) byId("heat-title").scrollIntoView({ block: "start" });
  } catch (error) {
    problem(error.message);
    byId("problem").scrollIntoView({ block: "nearest" });
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
    if (event.key === "Escape") problem("");
  });
  byId("stop").addEventListener("click", () => post("/api/stop", {}).catch((error) => problem(error.message)));
  byId("add").addEventListener("click", () => addEmotion(byId("emotion").value));
  byId("dose").addEventListener("input", tellDose);
  byId("unit").addEventListener("change", changeUnit);
  for (const id of ["first", "last"]) byId(id).addEventListener("input", tellLayers);
  byId("read-layer").addEventListener("input", tellReadLayer);
  byId("read").addEventListener("click", () => readTokens());
  byId("problem-close").addEventListener("click", () => problem(""));
  byId("opening").addEventListener("change", (event) => {
    if (event.target.value) byId("prompt").value = event.target.value;
  });
}

function fromAddress() {
  const query = new URLSearchParams(location.search);
  for (const id of ["unit", "prompt", "dose", "first", "last", "tokens", "temperature", "seed", "positions", "text"]) {
    if (query.has(id)) byId(id).value = query.get(id);
    if (id === "unit" && query.has(id)) changeUnit();
  }
  for (const id of ["control", "test", "chat"]) if (query.has(id)) byId(id).checked = query.get(id) === "1";
  for (const part of query.get("mix")?.split(",") ?? []) {
    const [name, weight] = part.split(":");
    if (name in state.colours) addEmotion(name, Number(weight ?? 1));
  }
  return query;
}

async function begin() {
  wire();
  const answer = await fetch("/api/model");
  const facts = (state.facts = await answer.json());
  state.colours = Object.fromEntries(facts.emotions.map((e) => [e.name, e.colour]));
  document.title = `${facts.model} · lens_emotion playground`;
  byId("facts").textContent = `${facts.model} · ${facts.family} · ${facts.layers} layers × ${facts.width} · ${facts.dtype}, ${facts.device} · vectors: ${facts.vectors}`;
  byId("chat-row").hidden = !facts.chat;
  const middle = Math.floor(facts.layers / 2);
  for (const id of ["first", "last", "read-layer"]) Object.assign(byId(id), { max: String(facts.layers - 1), value: String(middle) });
  byId("opening").append(...facts.openings.map((text) => element("option", text)));
  byId("prompt").value = facts.openings[0] ?? "";
  const query = fromAddress();
  if (!byId("mix").children.length) addEmotion("calm" in state.colours ? "calm" : facts.emotions[0].name);
  offerEmotions();
  tellDose();
  tellLayers();
  tellReadLayer();
  layColumns(["unsteered", "steered", "random"], "", { unsteered: "the model alone", steered: "choose emotions and a dose", random: "same length, same layers" }, readColumn);
  byId("go").disabled = byId("read").disabled = false;
  if (query.get("run") === "1") await run();
  if (query.get("read") === "1") await readTokens();
}

begin().catch((error) => problem(error.message));
