"use strict";
// The settings: read off the page, put back, compared with what is shown, and carried by the address, which is checked
// part by part before anything of it is used. An error stands beside the control that caused it.

const state = { facts: null, colours: {}, running: null, shown: null };
const BOXES = ["control", "test", "chat"];
const HOMES = { first_layer: "layers", last_layer: "layers", emotions: "mix", unit: "dose", format: "tools", test: "control" };
for (const name of ["tokens", "temperature", "seed", "positions"]) HOMES[name] = "sampling";

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

function put(settings) {
  byId("prompt").value = settings.prompt;
  byId("mix").replaceChildren();
  for (const [name, weight] of Object.entries(settings.mix)) addEmotion(name, weight);
  byId("unit").value = settings.unit;
  changeUnit();
  for (const name of ["dose", "tokens", "temperature", "seed", "positions"]) byId(name).value = String(settings[name]);
  byId("first").value = String(settings.first_layer);
  byId("last").value = String(settings.last_layer);
  for (const name of BOXES) byId(name).checked = settings[name];
  tellAll();
}

// ---- errors, each beside its control

function clearProblems() {
  for (const old of document.querySelectorAll(".error")) old.remove();
  for (const wrong of document.querySelectorAll("[aria-invalid]")) {
    wrong.removeAttribute("aria-invalid");
    wrong.removeAttribute("aria-errormessage");
  }
}

// `beside` is the part of the page whose button was pressed; a field that is named wins
function problem(message, field = "", beside = "run") {
  const home = document.querySelector(`[data-field="${CSS.escape(HOMES[field] ?? field)}"]`);
  const place = home ?? document.querySelector(`[data-field="${beside}"]`);
  if (place.tagName === "DETAILS") place.open = true;
  const said = element("p", message, "error");
  said.setAttribute("role", "alert");
  said.id = `error-${place.dataset.field}`;
  byId(said.id)?.remove();
  place.append(said);
  const control = byId({ first_layer: "first", last_layer: "last", layer: "read-layer" }[field] ?? field);
  if (home && control?.matches("input, textarea, select")) {
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-errormessage", said.id);
  }
  said.scrollIntoView({ block: "nearest" });
}

// ---- what differs from the texts shown

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const inWords = (mix) => Object.entries(mix).map(([name, weight]) => `${signed(weight, 1)} ${name}`).join(", ") || "none";

function markChanges() {
  const now = asked();
  const then = state.shown?.asked;
  const changed = then ? Object.keys(now).filter((name) => !same(now[name], then[name])) : [];
  for (const place of document.querySelectorAll("[data-field]")) {
    const own = changed.filter((name) => (HOMES[name] ?? name) === place.dataset.field);
    place.classList.toggle("changed", own.length > 0);
    place.querySelector(":scope > .was")?.remove();
    if (!own.length || place.matches("label")) continue;
    const was = own.map((name) => tellWas(name, then[name]));
    place.append(element("p", `shown: ${was.join(", ")}`, "was note"));
  }
  const n = new Set(changed.map((name) => HOMES[name] ?? name)).size;
  byId("stale").hidden = n === 0;
  byId("stale").textContent = n ? `${n} ${n === 1 ? "setting differs" : "settings differ"} from the texts shown.` : "";
  byId("columns").classList.toggle("stale", n > 0);
}

function tellWas(name, value) {
  if (name === "mix") return inWords(value);
  if (name === "prompt") return `“${value.length > 60 ? `${value.slice(0, 60)}…` : value}”`;
  if (typeof value === "boolean") return `${{ control: "random direction", test: "test", chat: "chat turn" }[name]} ${value ? "on" : "off"}`;
  return `${name.replace("_", " ")} ${value}`;
}

// ---- the address: behind "#", so that no text of it is ever sent

function toAddress(settings) {
  const query = new URLSearchParams();
  const mixIn = (mix) => Object.entries(mix).map(([emotion, weight]) => `${encodeURIComponent(emotion)}:${weight}`).join(",");
  for (const [name, value] of Object.entries(settings))
    query.set(name, name === "mix" ? mixIn(value) : typeof value === "boolean" ? String(Number(value)) : String(value));
  return `#${query}`;
}

const NUMBER = /^-?\d{1,10}(\.\d{1,6})?$/;

function numberWithin(text, low, high, whole) {
  const value = NUMBER.test(text) ? Number(text) : NaN;
  if (!(value >= low && value <= high) || (whole && !Number.isInteger(value))) throw new Error(`a ${whole ? "whole number" : "number"} from ${low} to ${high}`);
  return value;
}

function oneOf(text, known) {
  if (!known.includes(text)) throw new Error(known.join(" or "));
  return text;
}

function mixIn(text) {
  const found = {};
  for (const part of text.split(",")) {
    const [name, weight = "1", ...more] = part.split(":");
    const emotion = decodeURIComponent(name);
    if (more.length || !Object.hasOwn(state.colours, emotion) || Object.hasOwn(found, emotion)) throw new Error("emotions of these vectors, each once, such as calm:1,angry:-0.5");
    found[emotion] = numberWithin(weight, -2, 2);
  }
  if (Object.keys(found).length > state.facts.limits.emotions) throw new Error(`${state.facts.limits.emotions} emotions at most`);
  return found;
}

function textIn(text) {
  if (!text.trim() || text.length > state.facts.limits.characters || !text.isWellFormed()) throw new Error(`a text of 1 to ${state.facts.limits.characters} characters`);
  return text;
}

// What each part of an address may be; whatever does not fit is said, and left as it is on the page.
function readers() {
  const layer = (text) => numberWithin(text, 0, state.facts.layers - 1, true);
  const flag = (text) => oneOf(text, ["0", "1"]) === "1";
  return {
    unit: (text) => oneOf(text, ["natural", "relative"]),
    dose: (text, unit) => numberWithin(text, 0, SCALES[unit].max),
    prompt: textIn,
    text: textIn,
    mix: mixIn,
    first_layer: layer,
    last_layer: layer,
    tokens: (text) => numberWithin(text, 1, state.facts.limits.tokens, true),
    temperature: (text) => numberWithin(text, 0, 2),
    seed: (text) => numberWithin(text, 0, 2 ** 31 - 1, true),
    positions: (text) => oneOf(text, ["all", "generated", "prompt"]),
    control: flag,
    test: flag,
    chat: (text) => flag(text) && state.facts.chat,
    run: flag,
    read: flag,
  };
}

function fromAddress() {
  const query = new URLSearchParams(location.hash.length > 1 ? location.hash.slice(1) : location.search);
  const settings = asked();
  const ways = readers();
  const extra = { run: false, read: false, text: "" };
  const wrong = [];
  for (const name of new Set(["unit", ...query.keys()])) {
    const values = query.getAll(name);
    if (!values.length) continue;
    try {
      if (!Object.hasOwn(ways, name) || values.length > 1) throw new Error("a setting of this page, once");
      const value = ways[name](values[0], settings.unit);
      if (Object.hasOwn(extra, name)) extra[name] = value;
      else settings[name] = value;
      if (name === "unit") settings.dose = SCALES[value].value;
    } catch (error) {
      wrong.push([name, `the link's ${name.slice(0, 20)} “${values[0].slice(0, 40)}” is not ${error.message}; left as it was`]);
    }
  }
  if (settings.first_layer > settings.last_layer) settings.last_layer = settings.first_layer;
  return { settings, wrong, ...extra };
}
