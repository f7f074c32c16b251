"use strict";
// Shared by the scripts below: the data, an element maker that never parses text as HTML, marks, and the theme.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes = {}, ...children) {
  const node = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

// A form a series, so that no one needs its colour: disc, square, triangle, diamond, and again.
function mark(index, x, y, r) {
  const fill = `var(--s${index % 6})`;
  const form = index % 4;
  if (form === 0) return make("svg:circle", { cx: x, cy: y, r, fill });
  if (form === 1) return make("svg:rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, fill });
  const points = form === 2
    ? [[x, y - r * 1.2], [x + r * 1.15, y + r], [x - r * 1.15, y + r]]
    : [[x, y - r * 1.3], [x + r * 1.3, y], [x, y + r * 1.3], [x - r * 1.3, y]];
  return make("svg:polygon", { points: points.map((p) => p.join()).join(" "), fill });
}

function badge(index) {
  return make("svg:svg", { class: "mark", viewBox: "0 0 12 12", "aria-hidden": "true" }, mark(index, 6, 6, 4.4));
}

for (const place of document.querySelectorAll("[data-mark]")) place.prepend(badge(Number(place.dataset.mark)));

const theme = document.getElementById("theme");
const preferred = matchMedia("(prefers-color-scheme: dark)");
let chosen = null; // "light" or "dark" once the button was pressed

function paint() {
  const dark = (chosen ?? (preferred.matches ? "dark" : "light")) === "dark";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
  theme.setAttribute("aria-label", `Switch to ${dark ? "light" : "dark"} colours`);
}
theme.addEventListener("click", () => {
  chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  paint();
});
preferred.addEventListener("change", paint);
paint();
