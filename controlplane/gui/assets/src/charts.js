/* Draws <figure class="chart" data-chart='{"at": [...], "series": [{"label", "tone", "values"}]}'>:
   seconds since 1970, and one value or null for each; drawn anew when data, width or theme change. */
(() => {
  "use strict";
  const drawn = new WeakMap();
  const language = document.documentElement.lang || "en";
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
  const moment = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium" });

  /* A canvas knows no light-dark(): let an element work each colour out. */
  const colour = (figure, value) => {
    const probe = document.createElement("i");
    probe.hidden = true;
    probe.className = value;
    figure.append(probe);
    const worked = getComputedStyle(probe).color;
    probe.remove();
    return worked;
  };

  const draw = (figure) => {
    const chart = JSON.parse(figure.dataset.chart);
    const text = colour(figure, "text-secondary");
    const axis = { stroke: text, grid: { stroke: `color-mix(in srgb, ${text} 25%, transparent)`, width: 1 }, ticks: { show: false } };
    const options = {
      width: figure.clientWidth,
      height: Number(figure.dataset.height || 240),
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(1, (high ?? 1) * 1.05)] } },
      axes: [
        { ...axis, values: (_, seconds) => seconds.map((at) => clock.format(at * 1000)) },
        { ...axis, values: (_, values) => values.map((value) => number.format(value)) },
      ],
      series: [
        { label: figure.dataset.timeLabel, value: (_, at) => (at === null ? "–" : moment.format(at * 1000)) },
        ...chart.series.map((one) => ({
          label: one.label, width: 2, stroke: colour(figure, `tone-${one.tone}`), points: { show: false },
          value: (_, value) => (value === null ? "–" : number.format(value)),
        })),
      ],
    };
    drawn.get(figure)?.plot.destroy();
    const plot = new uPlot(options, [chart.at, ...chart.series.map((one) => one.values)], figure);
    drawn.set(figure, { plot, key: figure.dataset.chart, width: figure.clientWidth });
  };

  const drawChanged = () => {
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      const last = drawn.get(figure);
      if (!last || last.key !== figure.dataset.chart || last.width !== figure.clientWidth) draw(figure);
    }
  };
  const drawAll = () => document.querySelectorAll("figure[data-chart]").forEach(draw);
  document.addEventListener("relay:theme", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.addEventListener("htmx:after:swap", drawChanged);
  addEventListener("resize", drawChanged);
  drawChanged();
})();
