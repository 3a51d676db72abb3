"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const still = { displayModeBar: false, responsive: true, scrollZoom: false, doubleClick: false };

  // Colors are roles ("@federated"); the style sheet knows their values for screen and print.
  const paint = (value, key = "") => {
    if (Array.isArray(value)) return value.map((item) => paint(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, paint(v, k)]));
    }
    const isRole = /color(scale)?$/.test(key) && typeof value === "string" && value.startsWith("@");
    return isRole ? getComputedStyle(root).getPropertyValue("--" + value.slice(1)).trim() : value;
  };

  const merge = (common, own) => {
    const result = { ...common };
    for (const [key, value] of Object.entries(own)) {
      const nested = value && typeof value === "object" && !Array.isArray(value);
      result[key] = nested ? merge(common[key] || {}, value) : value;
    }
    return result;
  };

  const axis = {
    color: "@muted", gridcolor: "@rule", linecolor: "@rule", zeroline: false,
    fixedrange: true, automargin: true, title: { standoff: 8, font: { size: 12 } },
  };
  const common = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: "@ink" },
    margin: { l: 8, r: 12, t: 8, b: 8 }, barmode: "group", hovermode: "closest",
    xaxis: axis, yaxis: axis, hoverlabel: { bgcolor: "@panel", font: { color: "@ink" } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 } },
  };

  const draw = () => Promise.all(figures.map(({ key, height, traces, layout }) => {
    const place = document.getElementById("plot-" + key);
    return Plotly.react(
      place, paint(traces), paint(merge({ ...common, height }, layout)), still);
  }));

  draw().then(() => { root.dataset.ready = "yes"; });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => { root.dataset.print = "yes"; draw(); });
  addEventListener("afterprint", () => { delete root.dataset.print; draw(); });
})();
