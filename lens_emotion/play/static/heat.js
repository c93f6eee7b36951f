"use strict";
// The token map: one colour per token for one emotion, all values on hover or with the arrow keys.

const heat = { data: null, emotion: 0, token: -1 };
const byId = (id) => document.getElementById(id);

function element(tag, text = "", classes = "") {
  const made = document.createElement(tag);
  made.textContent = text; // never markup: texts come from a model
  if (classes) made.className = classes;
  return made;
}

const signed = (x, digits = 2) => (x === null ? "–" : (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits));

function showHeat(data, colours) {
  Object.assign(heat, { data, emotion: 0, token: -1 });
  const top = Math.max(...data.emotions.flatMap((e) => e.scores.map((x) => Math.abs(x ?? 0))), 0.01);
  heat.top = top;
  byId("legend-low").textContent = `−${top.toFixed(1)}`;
  byId("legend-high").textContent = `+${top.toFixed(1)} natural units`;
  const tabs = byId("heat-emotions");
  tabs.replaceChildren(
    ...data.emotions.map((e, i) => {
      const tab = element("button");
      tab.type = "button";
      tab.setAttribute("role", "radio");
      const dot = element("i");
      dot.style.setProperty("--colour", colours[e.name] ?? "gray");
      tab.append(dot, e.name);
      tab.addEventListener("click", () => chooseEmotion(i));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        chooseEmotion((i + step + data.emotions.length) % data.emotions.length);
        tabs.children[heat.emotion].focus();
      });
      return tab;
    }),
  );
  byId("heat-tokens").replaceChildren(
    ...data.tokens.map((token, i) => {
      const span = element("span", visible(token), data.content[i] ? "" : "void");
      span.setAttribute("role", "option");
      span.id = `token-${i}`;
      span.addEventListener("mouseenter", () => chooseToken(i));
      return span;
    }),
  );
  byId("heat-note").textContent = `${data.summary} Underlined: further towards the emotion than chance, corrected over tokens.`;
  byId("heat").hidden = false;
  chooseEmotion(0);
  chooseToken(data.content.indexOf(true));
}

const visible = (token) => token.replace(/\n/g, "⏎\n") || "∅";

function chooseEmotion(index) {
  heat.emotion = index;
  [...byId("heat-emotions").children].forEach((tab, i) => {
    tab.setAttribute("aria-checked", String(i === index));
    tab.tabIndex = i === index ? 0 : -1;
  });
  const { scores, p } = heat.data.emotions[index];
  [...byId("heat-tokens").children].forEach((span, i) => {
    const score = scores[i];
    span.classList.toggle("beyond", p[i] !== null && p[i] <= 0.05 && score > 0);
    span.style.setProperty("--tone", score < 0 ? "var(--minus)" : "var(--plus)");
    span.style.setProperty("--alpha", score === null ? "0" : `calc(var(--strength) * ${Math.abs(score) / heat.top})`);
  });
}

function chooseToken(index) {
  if (index < 0 || index >= heat.data.tokens.length) return;
  const box = byId("heat-tokens");
  box.querySelector(".here")?.classList.remove("here");
  [...box.children].forEach((span, i) => span.setAttribute("aria-selected", String(i === index)));
  box.children[index].classList.add("here");
  box.setAttribute("aria-activedescendant", `token-${index}`);
  heat.token = index;
  const parts = [element("b", `“${heat.data.tokens[index]}”`)];
  if (!heat.data.content[index]) parts.push(element("span", "special or first token: not scored"));
  else
    for (const e of heat.data.emotions)
      parts.push(
        element("span", `${e.name} ${signed(e.scores[index])} (random ${signed(e.low[index])} to ${signed(e.high[index])}, p = ${e.p[index].toFixed(3)})`),
      );
  byId("heat-readout").replaceChildren(...parts);
}

byId("heat-tokens").addEventListener("keydown", (event) => {
  if (!heat.data) return;
  const last = heat.data.tokens.length - 1;
  const to = { ArrowRight: heat.token + 1, ArrowLeft: heat.token - 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  chooseToken(Math.max(0, Math.min(last, to)));
});
