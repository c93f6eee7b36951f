"use strict";
// Emotions to choose: on the plane of valence and arousal as people rate the words, or from a list. And the mixture.

const SCALES = { natural: { max: 16, step: 0.25, value: 3 }, relative: { max: 2, step: 0.05, value: 0.3 } };
const SVG = "http://www.w3.org/2000/svg";

function drawn(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function addEmotion(name, weight = 1) {
  if (!name || !Object.hasOwn(state.colours, name) || byId(`mix-${name}`)) return;
  const most = state.facts.limits.emotions;
  if (byId("mix").children.length >= most) return problem(`${most} emotions in one mixture at most; remove one first`, "mix");
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
    tellCircle();
  };
  slider.addEventListener("input", tell);
  const remove = element("button", "×");
  remove.type = "button";
  remove.setAttribute("aria-label", `Remove ${name}`);
  remove.addEventListener("click", () => {
    removeEmotion(name);
    byId("emotion").focus();
  });
  row.append(dot, label, slider, value, remove);
  byId("mix").append(row);
  tell();
  offerEmotions();
}

function removeEmotion(name) {
  byId(`mix-${name}`)?.closest("li").remove();
  offerEmotions();
  tellCircle();
  settingsChanged();
}

const mixed = () =>
  Object.fromEntries([...byId("mix").children].map((row) => [row.dataset.emotion, Number(row.querySelector("input").value)]));

function offerEmotions() {
  const taken = mixed();
  const left = state.facts.emotions.map((e) => e.name).filter((name) => !Object.hasOwn(taken, name));
  byId("emotion").replaceChildren(...left.map((name) => element("option", name)));
  byId("add").disabled = left.length === 0;
}

// ---- the circumplex

const PLANE = { left: 10, right: 290, top: 12, bottom: 200 };

function layCircle() {
  const rated = state.facts.emotions.filter((e) => e.at);
  const box = byId("circumplex");
  if (!rated.length) return box.closest(".circle").remove();
  const spread = (i) => [Math.min(...rated.map((e) => e.at[i])), Math.max(...rated.map((e) => e.at[i]))];
  const place = (value, [low, high], from, to) => from + ((to - from) * (value - low)) / (high - low || 1);
  const [valence, arousal] = [spread(0), spread(1)];
  const middle = [place(5, valence, PLANE.left + 12, PLANE.right - 12), place(5, arousal, PLANE.bottom - 12, PLANE.top + 12)];
  box.append(
    drawn("line", { x1: PLANE.left, x2: PLANE.right, y1: middle[1], y2: middle[1], class: "axis" }),
    drawn("line", { x1: middle[0], x2: middle[0], y1: PLANE.top, y2: PLANE.bottom, class: "axis" }),
    drawn("text", { x: PLANE.left, y: 214, class: "axis-name" }, "unpleasant"),
    drawn("text", { x: PLANE.right, y: 214, class: "axis-name", "text-anchor": "end" }, "pleasant"),
    drawn("text", { x: middle[0] + 4, y: 9, class: "axis-name" }, "aroused"),
  );
  const taken = [];
  for (const e of rated) {
    const x = place(e.at[0], valence, PLANE.left + 12, PLANE.right - 12);
    const y = place(e.at[1], arousal, PLANE.bottom - 12, PLANE.top + 12);
    taken.push([x - 6, y - 6, x + 6, y + 6]);
    e.place = [x, y];
  }
  for (const e of [...rated].sort((a, b) => a.place[1] - b.place[1])) box.append(emotionPoint(e, taken));
}

// a point with its name where it covers no other, else without (it is in the title, and shown when chosen)
function emotionPoint(e, taken) {
  const [x, y] = e.place;
  const point = drawn("g", { role: "checkbox", tabindex: "0", class: "emotion", "data-emotion": e.name, "aria-label": e.name });
  point.style.setProperty("--colour", e.colour);
  const width = 5.1 * e.name.length + 2;
  const ways = [[x + 8, y + 3.5], [x - 8 - width, y + 3.5], [x - width / 2, y - 8], [x - width / 2, y + 15]];
  const free = ways.find(([left, base]) => {
    const mine = [left, base - 8, left + width, base + 2];
    return left > 1 && left + width < 299 && base > 10 && !taken.some((t) => t[0] < mine[2] && mine[0] < t[2] && t[1] < mine[3] && mine[1] < t[3] && !(t[0] === x - 6 && t[1] === y - 6));
  });
  const [left, base] = free ?? ways[0];
  if (free) taken.push([left, base - 8, left + width, base + 2]);
  point.append(drawn("title", {}, `${e.name}: valence ${e.at[0].toFixed(1)}, arousal ${e.at[1].toFixed(1)}`));
  point.append(drawn("circle", { cx: x, cy: y, r: 11, class: "target" }), drawn("circle", { cx: x, cy: y, r: 5, class: "dot" }));
  point.append(drawn("text", { x: left, y: base, class: free ? "" : "crowded" }, e.name));
  const toggle = () => {
    if (Object.hasOwn(mixed(), e.name)) removeEmotion(e.name);
    else {
      addEmotion(e.name);
      settingsChanged();
    }
  };
  point.addEventListener("click", toggle);
  point.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    toggle();
  });
  return point;
}

function tellCircle() {
  const now = mixed();
  for (const point of byId("circumplex")?.querySelectorAll(".emotion") ?? []) {
    const weight = Object.hasOwn(now, point.dataset.emotion) ? now[point.dataset.emotion] : null;
    point.setAttribute("aria-checked", String(weight !== null));
    point.classList.toggle("against", weight !== null && weight < 0);
    point.querySelector(".dot").setAttribute("r", weight === null ? "5" : String(5 + 1.6 * Math.min(2, Math.abs(weight))));
  }
}

// ---- dose and layers

function tellDose() {
  byId("dose-value").textContent = Number(byId("dose").value).toFixed(2);
  markDose();
}

function changeUnit() {
  const scale = SCALES[byId("unit").value];
  if (byId("dose").max !== String(scale.max)) byId("sweep").hidden = true; // it stands above the other unit's slider
  Object.assign(byId("dose"), { max: String(scale.max), step: String(scale.step), value: String(scale.value) });
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

function tellAll() {
  tellDose();
  tellLayers();
  tellCircle();
  byId("read-layer-value").textContent = byId("read-layer").value;
  const heat = byId("temperature").valueAsNumber;
  byId("sampling-text").textContent = heat > 0 ? `T = ${heat}, seed ${byId("seed").value}` : "greedy";
}
