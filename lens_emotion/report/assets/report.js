"use strict";
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const sections = [...document.querySelectorAll("details.block, details.section")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = {responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
    toImageButtonOptions: {format: "svg"},
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]};

  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const onScreen = () => ({ink: css("--ink"), soft: css("--soft"), grid: css("--grid"), axis: css("--axis"),
    card: css("--card")});
  const onPaper = {ink: "#000", soft: "#333", grid: "rgba(60,66,76,.16)", axis: "rgba(60,66,76,.5)", card: "#fff"};
  const paperWidth = 682;  // of an A4 page less its margins, in CSS pixels: figures are drawn at it, none is shrunk
  const paperHeight = 860;  // leaves room for a caption, and for what stands above
  const smallest = 9.4;  // pixels of text in print: 7 points
  const narrow = 600;  // below it panels stand in one column

  const read = element => element && JSON.parse(element.textContent);
  const template = read(document.getElementById("template"));

  // Ink, grid and hover colours follow the page; a figure's own explicit colours stay as they are.
  const dressed = (figure, printing) => {
    const colours = printing ? onPaper : onScreen();
    const layout = structuredClone(figure.layout);
    const base = ((layout.template ??= structuredClone(template)).layout ??= {});
    (base.font ??= {}).color = colours.ink;
    const subtitle = ((layout.title ??= {}).subtitle ??= {});
    subtitle.font = {size: 11.5, ...subtitle.font, color: colours.soft};
    for (const name of ["xaxis", "yaxis"]) {
      const axis = (base[name] ??= {});
      Object.assign(axis, {gridcolor: colours.grid, linecolor: colours.axis, tickcolor: colours.axis});
      axis.tickfont = {...axis.tickfont, color: colours.soft};
    }
    const hover = (base.hoverlabel ??= {});
    Object.assign(hover, {bgcolor: colours.card, bordercolor: colours.axis});
    hover.font = {...hover.font, color: colours.ink};
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.autosize = !printing;
    delete layout.width;
    if (printing) {
      layout.width = paperWidth;
      if (layout.height) layout.height = Math.min(layout.height, paperHeight);
    }
    return layout;
  };

  // Text of a printed figure goes with its width, and none is smaller than 7 points, whoever set its size.
  const legible = (value, scale) => {
    if (Array.isArray(value)) value.forEach(inner => legible(inner, scale));
    else if (value && typeof value === "object") {
      for (const [key, inner] of Object.entries(value)) {
        if (/font$/.test(key) && inner?.size) inner.size = Math.max(smallest, inner.size * scale);
        legible(inner, scale);
      }
    }
  };
  // Larger words leave the panels of the claims room for a heading of one line; the page before says them whole.
  const headed = layout => (layout.annotations ?? []).forEach(words => { words.text = words.text.split("<br>")[0]; });
  // plotly fits the numbers of a heatmap into its cells, if no size is given
  const readable = trace => {
    const size = trace.textfont?.size ?? (trace.type === "heatmap" && trace.texttemplate ? 0 : smallest);
    return size < smallest ? {...trace, textfont: {...trace.textfont, size: smallest}} : trace;
  };

  // A line of a figure's words, broken where this many pixels end.
  const broken = (line, pixels) => {
    const longest = Math.max(30, Math.floor(pixels / 6));
    const parts = [""];
    for (const word of line.split(" ")) {
      if (parts.at(-1) && parts.at(-1).length + word.length >= longest) parts.push("");
      parts.push((parts.pop() + " " + word).trim());
    }
    return parts;
  };

  // On a narrow screen panels that stood side by side stand one below the other, each at its height, with its words.
  const stacked = (layout, plotted, width) => {
    const panels = Object.keys(layout).filter(key => /^xaxis\d*$/.test(key)).map(key => {
      const y = layout[`yaxis${(layout[key].anchor ?? "y").slice(1)}`];
      return y && {x: layout[key], y, across: layout[key].domain ?? [0, 1], up: y.domain ?? [0, 1]};
    }).filter(Boolean);
    if (new Set(panels.map(panel => panel.across[0].toFixed(2))).size < 2) {
      // one panel: room for its legend, whose entries stand one below the other; a square one no higher than it is wide
      const entries = plotted.filter(trace => trace.showlegend !== false && trace.name && layout.showlegend !== false).length;
      const square = layout.xaxis?.scaleanchor || layout.yaxis?.scaleanchor;
      layout.height = square ? Math.min(layout.height, width + 140) : layout.height + 16 * entries;
      return;
    }
    panels.sort((a, b) => b.up[1] - a.up[1] || a.across[0] - b.across[0]);
    const margin = {t: 72, b: 92, ...layout.margin};
    const before = layout.height - margin.t - margin.b;
    const titles = (layout.annotations ?? []).filter(words => words.xref === "paper" && words.yref === "paper");
    for (const words of titles) {
      const [head, ...rest] = words.text.split("<br>");  // a heading, and what it says in lines for a wider panel
      words.text = [...broken(head, width - 60), ...(rest.length ? broken(rest.join(" "), width - 60) : [])].join("<br>");
    }
    const gap = 76 + 15 * Math.max(0, ...titles.map(words => words.text.split("<br>").length));
    const heights = panels.map(({up}) => (up[1] - up[0]) * before);
    const after = heights.reduce((sum, height) => sum + height + gap, -gap);
    let top = 1;
    panels.forEach((panel, i) => {
      panel.x.domain = [0, 1];
      panel.y.domain = [Math.max(0, top - heights[i] / after), top];
      panel.y.showticklabels = true;
      if (panel.y.matches) delete panel.y.matches;
      top -= (heights[i] + gap) / after;
    });
    for (const words of titles) {
      const near = panels.filter(({across}) => words.x >= across[0] - .02 && words.x <= across[1] + .02)
        .sort((a, b) => Math.abs(words.y - a.up[1]) - Math.abs(words.y - b.up[1]))[0];
      if (!near) continue;
      words.x = (words.x - near.across[0]) / (near.across[1] - near.across[0]);
      words.y = near.y.domain[1] + (words.y - near.up[1]) * before / after;
    }
    layout.height = after + margin.t + margin.b;
  };

  // A figure beside a table of cells opens the cell that is clicked in its strip of regimes.
  const listen = plot => {
    const cells = plot.closest(".body")?.querySelector(".cells");
    if (plot.listens || !cells || !plot.on) return;
    plot.listens = true;
    plot.on("plotly_click", event => {
      const point = event.points[0];
      const row = point.data.type === "heatmap" ? cells.row(point.y) : -1;
      if (row >= 0) cells.open(row, point.x);
    });
  };

  // The line of facts below a title breaks where the figure ends, and the figure grows by the lines that this adds.
  const fitted = (layout, width) => {
    const subtitle = layout.title?.subtitle;
    if (!subtitle?.text) return 0;
    const before = subtitle.text.split("<br>");
    const lines = before.flatMap(line => broken(line, width - 28));
    subtitle.text = lines.join("<br>");
    return 15 * (lines.length - before.length);
  };

  const draw = (plot, printing = false) => {
    if (typeof Plotly === "undefined") return;
    plot.figure ??= plot.version?.() ?? read(document.querySelector(`script[data-for="${plot.id}"]`));
    const failed = error => {
      plot.innerHTML = "";
      plot.append(Object.assign(document.createElement("p"), {className: "failed", textContent: `Not drawn: ${error}`}));
    };
    try {
      const layout = dressed(plot.figure, printing);
      const width = layout.width ?? plot.clientWidth;
      if (width < narrow && layout.height) stacked(layout, plot.figure.data, width);
      if (printing) {
        legible(layout, plot.closest(".wide") ? .78 : 1);
        if (plot.closest(".forest")) headed(layout);
      }
      for (const axis of printing ? Object.values(layout) : [])  // plotly sets 2 and 5 between powers at three quarters
        if (axis?.type === "log") axis.tickfont = {...axis.tickfont, size: smallest / .75};
      const added = fitted(layout, width);
      if (added && layout.height) {
        layout.height += added;
        layout.margin = {...layout.margin, t: (layout.margin?.t ?? 72) + added};
      }
      if (layout.height) plot.style.minHeight = printing ? "" : `${layout.height}px`;
      Plotly.react(plot, printing ? plot.figure.data.map(readable) : plot.figure.data, layout, {...config, displayModeBar: width < narrow ? false : "hover"}).then(() => listen(plot)).catch(failed);
    } catch (error) { failed(error); }
  };

  const changed = (base, changes) => {
    const figure = structuredClone(base);
    for (const [path, value] of changes) {
      let at = figure;
      for (const key of path.slice(0, -1)) at = at[key];
      at[path.at(-1)] = value;
    }
    return figure;
  };

  // One slider, all figures of its section.
  const slides = [...document.querySelectorAll(".slides")].map(section => {
    let known = null;  // parsed when first needed, so that the page opens at once
    const data = () => (known ??= read(section.querySelector(".versions")));
    const best = Number(section.dataset.best);
    const input = section.querySelector("input[type=range]");
    const bars = [...section.querySelectorAll(".bars i")];
    const mine = [...section.querySelectorAll(".plot")];
    let layer = best;
    mine.forEach(plot => {
      plot.version = () => {
        const {base, changes} = data().figures[plot.dataset.slides];
        return changed(base, changes[layer]);
      };
    });
    const go = to => {
      layer = to;
      if (input) {
        input.value = to;
        const label = data().labels[to];
        input.setAttribute("aria-valuetext", label);
        section.querySelector("output").textContent = label;
        bars.forEach((bar, i) => bar.classList.toggle("here", i === to));
      }
      mine.forEach(plot => { if (plot.figure) { plot.figure = plot.version(); draw(plot); } });
    };
    let waiting = 0;
    input?.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => go(Number(input.value)), 20);  // one redraw for a drag over several layers
    });
    section.querySelector("button")?.addEventListener("click", () => go(best));
    input?.setAttribute("aria-valuetext", section.querySelector("output").textContent);
    bars[best]?.classList.add("here");
    return () => { if (layer !== best) go(best); };
  });

  const made = (tag, text, name) => Object.assign(document.createElement(tag), {textContent: text, className: name ?? ""});
  const column = (title, text, note, name) => {
    const box = made("div", "", name);
    box.append(made("h4", title), made("p", text), made("p", note, "measures"));
    return box;
  };

  // The texts behind a cell; what models wrote is set as text, never as markup.
  for (const section of document.querySelectorAll(".cells")) {
    let known = null;
    const data = () => (known ??= read(section.querySelector(".behind-cells")));
    const behind = section.querySelector(".behind");
    const buttons = [...section.querySelectorAll("button.cell")];
    const names = [...section.querySelectorAll("tbody th")].map(th => th.textContent);
    const doses = [...section.querySelectorAll("thead th")].slice(1).map(th => th.firstChild.textContent);
    const measured = ([, , judged, regime, , score, ratio, distinct, loops], emotion) =>
      `judged ${data().words[judged]}; score of ${emotion} ${score}; perplexity ratio ${ratio}, ` +
      `distinct-2 ${distinct}, loop share ${loops}; ${data().words[regime]}`;
    section.row = key => data().keys.indexOf(key);
    section.open = (row, dose) => {
      const {words, scenarios, keys, cells} = data();
      const {facts, rows} = cells[row][dose];
      buttons.forEach(b => b.setAttribute("aria-pressed", b.dataset.row == row && b.dataset.column == dose));
      const head = made("p", "", "prompt");
      head.append(made("b", `${names[row]}, dose ${doses[dose]} natural: `), made("span", `${facts}. n = ${rows.length} texts.`));
      behind.replaceChildren(head, ...rows.map(found => {
        const [scenario, text, , , success] = found;
        const [emotion, prompt, unsteered, before, plainScore] = scenarios[scenario];
        const plain = `judged ${before}; score of ${emotion} ${plainScore}`;
        const box = made("div", "", "texts");
        const line = made("p", "", "prompt");
        line.append(made("b", emotion), made("span", ` “${prompt} …” `), made("span", success ? "succeeds" : "does not succeed", "note"));
        const columns = made("div", "", "columns");
        const control = row === keys.indexOf("emotion") ? cells[keys.indexOf("random")]?.[dose].rows : null;
        const pushed = control?.find(other => other[0] === scenario);
        columns.append(column("unsteered", unsteered, plain));
        if (pushed) columns.append(column("random direction", words[pushed[1]], measured(pushed, emotion)));
        columns.append(column(names[row], words[text], measured(found, emotion), "steered"));
        box.append(line, columns);
        return box;
      }));
      behind.scrollTop = 0;
    };
    buttons.forEach((button, i) => {
      button.addEventListener("click", () => section.open(Number(button.dataset.row), Number(button.dataset.column)));
      button.addEventListener("keydown", event => {
        const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: doses.length, ArrowUp: -doses.length}[event.key];
        if (!step || !buttons[i + step]) return;
        event.preventDefault();
        buttons[i + step].focus();
        buttons[i + step].click();
      });
    });
    const first = buttons.find(b => b.getAttribute("aria-pressed") === "true") ?? buttons[0];
    const start = () => section.open(Number(first.dataset.row), Number(first.dataset.column));
    const folded = section.closest("details");
    if (folded && !folded.open) folded.addEventListener("toggle", () => { if (!known) start(); });
    else if (first) start();
  }

  const watcher = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); draw(entry.target); }
  }, {rootMargin: "300px 0px"});
  plots.forEach(plot => watcher.observe(plot));

  const redraw = () => plots.filter(plot => plot.figure).forEach(plot => draw(plot));
  dark.addEventListener("change", redraw);

  const button = document.getElementById("open-all");
  const setAll = open => sections.forEach(section => { section.open = open; });
  button.addEventListener("click", () => {
    const open = sections.some(section => !section.open);
    setAll(open);
    button.textContent = open ? "Close all sections" : "Open all sections";
  });

  // A page opened from a folder may have no clipboard; then what is to be copied is selected, and the old way tried.
  for (const copy of document.querySelectorAll("button.copy")) {
    copy.addEventListener("click", async () => {
      const source = document.getElementById(copy.dataset.copies);
      let done = true;
      try {
        await navigator.clipboard.writeText(source.textContent);
      } catch {
        getSelection().selectAllChildren(source);
        done = document.execCommand("copy");
      }
      copy.textContent = done ? "Copied" : "Selected: press Ctrl+C";
    });
  }

  // A link to a part that is folded opens it.
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) if (part.matches("details")) part.open = true;
    const own = target.querySelector(":scope > details.block, :scope > details.section, :scope > details.why");
    if (own) own.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();

  // Print: two pages of summary, then the reasons of the verdicts, the methods, and what the reader has opened.
  const appendix = document.getElementById("appendix");
  let before = null;
  addEventListener("beforeprint", () => {
    if (before) return;
    const methods = document.querySelector("#methods details");
    before = methods ? [[methods, methods.open]] : [];
    slides.forEach(toBest => toBest());
    if (methods) methods.open = true;
    appendix.hidden = false;
    const forest = document.querySelector(".forest");
    if (forest) {
      before.push([forest]);
      appendix.append(forest);
    }
    for (const claim of document.querySelectorAll("ol.claims > li")) {
      const reasons = claim.querySelector(".why .said");
      appendix.append(made("h3", claim.querySelector("h3").textContent), reasons);
      before.push([claim, reasons]);
    }
    plots.forEach(plot => {
      if (plot.closest("details:not([open])")) return;
      watcher.unobserve(plot);
      draw(plot, true);
    });
  });
  addEventListener("afterprint", () => {
    for (const [part, state] of before ?? []) {
      if (part.matches("details")) part.open = state;
      else if (part.matches(".forest")) document.getElementById("claims").append(part);
      else part.querySelector(".why").append(state);
    }
    before = null;
    appendix.hidden = true;
    appendix.querySelectorAll("h3").forEach(head => head.remove());
    redraw();
  });

  const links = new Map([...document.querySelectorAll("nav.models a")].map(a => [a.hash.slice(1), a]));
  const spy = new IntersectionObserver(entries => {
    for (const entry of entries) links.get(entry.target.id)?.classList.toggle("here", entry.isIntersecting);
  }, {rootMargin: "-20% 0px -75% 0px"});
  links.forEach((_, id) => { const target = document.getElementById(id); if (target) spy.observe(target); });
})();
