"use strict";
// Line charts: DATA.charts is [{title, series: [{experiment, part, points: [[epoch, value]]}]}].
{
  const W = 420, H = 250, LEFT = 58, RIGHT = 12, TOP = 14, BOTTOM = 34;

  function ticks(low, high) {
    const rough = (high - low) / 4 || Math.abs(high) || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((k) => k * power).find((k) => k >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-6; k++) found.push(k * step);
    return found;
  }

  const show = (value) => (value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3))));
  const label = (series) => DATA.experiments[series.experiment].name + (series.part ? `, ${series.part}` : "");

  function scales(chart) {
    const points = chart.series.flatMap((series) => series.points);
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    const low = Math.min(...ys), high = Math.max(...ys), room = (high - low || Math.abs(high) || 1) * 0.06;
    const [y0, y1] = [low - room, high + room];
    return {
      x: (v) => (x1 === x0 ? (LEFT + W - RIGHT) / 2 : LEFT + ((v - x0) / (x1 - x0)) * (W - LEFT - RIGHT)),
      y: (v) => H - BOTTOM - ((v - y0) / (y1 - y0)) * (H - TOP - BOTTOM),
      epochs: [...new Set(xs)].sort((a, b) => a - b),
      ticks: ticks(y0, y1),
    };
  }

  function axes(svg, at) {
    for (const v of at.ticks) {
      svg.append(make("svg:line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: at.y(v), y2: at.y(v) }));
      svg.append(make("svg:text", { x: LEFT - 8, y: at.y(v) + 5, "text-anchor": "end" }, show(v)));
    }
    const every = Math.ceil(at.epochs.length / 8);
    at.epochs.filter((_, k) => k % every === 0).forEach((v) => {
      svg.append(make("svg:text", { x: at.x(v), y: H - BOTTOM + 18, "text-anchor": "middle" }, String(v)));
    });
  }

  function line(svg, series, at) {
    const path = series.points.map(([x, y]) => `${at.x(x).toFixed(1)},${at.y(y).toFixed(1)}`).join(" ");
    const dash = series.part === "training" ? "5 4" : null;
    svg.append(make("svg:polyline", {
      points: path, fill: "none", stroke: `var(--s${series.experiment % 6})`, "stroke-width": 2,
      "stroke-linejoin": "round", "stroke-dasharray": dash,
    }));
    if (series.points.length <= 30) for (const [x, y] of series.points) svg.append(mark(series.experiment, at.x(x), at.y(y), 3.2));
  }

  function summary(chart) {
    const ends = chart.series.map((series) => `${label(series)}: ${show(series.points[0][1])} to ${show(series.points.at(-1)[1])}`);
    return `${chart.title}, by epoch. ${ends.join("; ")}`;
  }

  function reader(figure, svg, chart, at) {
    const cursor = make("svg:line", { class: "cursor", y1: TOP, y2: H - BOTTOM, visibility: "hidden" });
    const tip = make("div", { class: "tip", role: "status", hidden: true });
    let place = -1;
    svg.append(cursor);
    figure.append(tip);
    function point(index) {
      place = Math.max(0, Math.min(at.epochs.length - 1, index));
      const epoch = at.epochs[place], x = at.x(epoch);
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.setAttribute("visibility", "visible");
      const rows = chart.series.map((series) => [label(series), series.points.find((p) => p[0] === epoch)]).filter((row) => row[1]);
      tip.textContent = [`Epoch ${epoch}`, ...rows.map(([name, p]) => `${name}: ${show(p[1])}`)].join("\n");
      tip.hidden = false;
      tip.style.left = x < W / 2 ? `${(x / W) * 100 + 4}%` : "auto";
      tip.style.right = x < W / 2 ? "auto" : `${(1 - x / W) * 100 + 4}%`;
    }
    function leave() {
      tip.hidden = true;
      place = -1;
      cursor.setAttribute("visibility", "hidden");
    }
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * W;
      const distances = at.epochs.map((epoch) => Math.abs(at.x(epoch) - x));
      point(distances.indexOf(Math.min(...distances)));
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) {
        event.preventDefault();
        point(place < 0 && step < 0 ? at.epochs.length - 1 : place + step);
      } else if (event.key === "Escape") leave();
    });
  }

  function draw(chart) {
    const at = scales(chart);
    const svg = make("svg:svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: 0, "aria-label": summary(chart) });
    axes(svg, at);
    for (const series of chart.series) line(svg, series, at);
    const caption = make("figcaption", {}, chart.title, " ");
    if (chart.series.some((series) => series.part)) caption.append(make("small", {}, "training dashed, validation solid"));
    const figure = make("figure", { class: "chart" }, caption, svg);
    reader(figure, svg, chart, at);
    return figure;
  }

  const place = document.getElementById("charts");
  place.append(make("ul", { class: "legend" }, ...DATA.experiments.map((one, k) => make("li", {}, badge(k), one.name))));
  place.append(...DATA.charts.map(draw));
  if (!DATA.charts.length) place.append(make("p", { class: "hint" }, "None of these revisions has curves of training."));
}
