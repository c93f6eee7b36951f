"use strict";
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const sections = [...document.querySelectorAll("details")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const config = {responsive: true, displaylogo: false, showSendToCloud: false, plotlyServerURL: "",
    toImageButtonOptions: {format: "svg"},
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]};

  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const onScreen = () => ({ink: css("--ink"), soft: css("--soft"), grid: css("--grid"), axis: css("--axis"),
    card: css("--card")});
  const onPaper = {ink: "#000", soft: "#333", grid: "rgba(60,66,76,.16)", axis: "rgba(60,66,76,.5)", card: "#fff"};
  const paperWidth = {narrow: 480, wide: 975};  // print shrinks figures by the zoom in report.css

  // Ink, grid and hover colours follow the page; a figure's own explicit colours stay as they are.
  const dressed = (figure, printing, wide) => {
    const colours = printing ? onPaper : onScreen();
    const layout = structuredClone(figure.layout);
    const base = ((layout.template ??= {}).layout ??= {});
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
    if (printing) layout.width = wide ? paperWidth.wide : paperWidth.narrow;
    return layout;
  };

  const draw = (plot, printing = false) => {
    if (typeof Plotly === "undefined") return;
    plot.figure ??= JSON.parse(document.querySelector(`script[data-for="${plot.id}"]`).textContent);
    const failed = error => {
      plot.innerHTML = "";
      plot.append(Object.assign(document.createElement("p"), {className: "failed", textContent: `Not drawn: ${error}`}));
    };
    try {
      Plotly.react(plot, plot.figure.data, dressed(plot.figure, printing, !!plot.closest(".wide")), config).catch(failed);
    } catch (error) { failed(error); }
  };

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

  let before = null;
  addEventListener("beforeprint", () => {
    before = sections.map(section => section.open);
    setAll(true);
    plots.forEach(plot => { watcher.unobserve(plot); draw(plot, true); });
  });
  addEventListener("afterprint", () => {
    if (before) sections.forEach((section, i) => { section.open = before[i]; });
    redraw();
  });

  const links = new Map([...document.querySelectorAll("nav.models a")].map(a => [a.hash.slice(1), a]));
  const spy = new IntersectionObserver(entries => {
    for (const entry of entries) links.get(entry.target.id)?.classList.toggle("here", entry.isIntersecting);
  }, {rootMargin: "-20% 0px -75% 0px"});
  links.forEach((_, id) => { const target = document.getElementById(id); if (target) spy.observe(target); });
})();
