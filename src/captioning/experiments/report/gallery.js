"use strict";
// The images: searched, sorted, and put on the page as far as one has scrolled. DATA.images is
// [{file, order, image, captions, words, unknown, scores, references, sheets, objects}]; captions, their words, which of them no
// reference has, sheets and objects by experiment; scores by score; order: its place in a random order of all test images.
{
  const STEP = 48; // images put on the page at a time
  const images = DATA.images, experiments = DATA.experiments;
  const cards = document.getElementById("cards"), more = document.getElementById("more");
  const count = document.getElementById("count"), tools = document.getElementById("tools");
  const detail = document.getElementById("detail");
  const state = { query: "", where: "all", score: 0, sort: experiments.length > 1 ? "apart" : "sample", experiment: -1, looked: false };
  const words = (texts) => ` ${texts.join(" ").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ")} `;
  const unspaced = /\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Thai}|\p{Script=Lao}|\p{Script=Khmer}|\p{Script=Myanmar}/u;
  const searched = images.map((image) => ({ captions: image.captions.map((text) => words([text])), references: words(image.references), file: words([image.file]) }));
  let order = [], shown = 0, opened = -1;

  const visible = () => (state.experiment < 0 ? experiments.map((_, k) => k) : [state.experiment]);

  function matches(index) {
    if (state.looked && !images[index].sheets.some(Boolean)) return false;
    const text = searched[index], parts = [];
    if (state.where !== "references") parts.push(...visible().map((k) => text.captions[k]));
    if (state.where !== "captions") parts.push(text.references);
    if (state.where === "all") parts.push(text.file);
    const joined = parts.join("");
    return words([state.query]).trim().split(" ").every((term) => !term || joined.includes(unspaced.test(term) ? term : ` ${term}`));
  }

  function key(index) {
    const values = images[index].scores[state.score];
    if (state.sort === "data") return index;
    if (state.sort === "sample") return images[index].order;
    if (state.sort === "apart") return Math.min(...values) - Math.max(...values);
    const chosen = visible().map((k) => values[k]);
    const mean = chosen.reduce((sum, value) => sum + value, 0) / chosen.length;
    return state.sort === "low" ? mean : -mean;
  }

  function update() {
    const keys = images.map((_, index) => key(index));
    order = images.map((_, index) => index).filter(matches).sort((a, b) => keys[a] - keys[b] || a - b);
    shown = 0;
    cards.replaceChildren();
    extend();
    count.textContent = order.length
      ? `${order.length.toLocaleString("en")} of ${images.length.toLocaleString("en")} images`
      : "No image matches. Try fewer or shorter words.";
  }

  function extend() {
    const next = order.slice(shown, shown + STEP);
    cards.append(...next.map((index, k) => card(index, shown + k)));
    shown += next.length;
    button.hidden = shown >= order.length;
  }

  function caption(image, k) {
    const unknown = new Set(image.unknown[k]);
    const text = make("p", {});
    let end = 0;
    image.words[k].forEach((word, n) => {
      const start = image.captions[k].indexOf(word, end);
      text.append(image.captions[k].slice(end, start));
      end = start + word.length;
      text.append(unknown.has(n) ? make("span", { class: "unknown", title: "in none of the references" }, word) : word);
    });
    if (!image.captions[k]) text.append(make("em", {}, "nothing"));
    const value = image.scores[state.score][k].toFixed(3);
    return make("div", { class: "caption" },
      make("div", { class: "who" }, make("span", {}, badge(k), experiments[k].name), make("span", {}, `${DATA.scores[state.score]} ${value}`)), text,
      ...(image.objects[k] === null ? [] : [make("p", { class: "objects" }, `Objects that it read: ${image.objects[k].names}`)]));
  }

  function references(image, limit) {
    const list = make("ul", { class: "references", "aria-label": "References" });
    list.append(...image.references.slice(0, limit).map((text) => make("li", {}, text)));
    if (image.references.length > limit) list.append(make("li", {}, `and ${image.references.length - limit} more`));
    return list;
  }

  // The image with a frame and a name for each object; the surest comes last, above all others.
  function boxes(image, k) {
    const { size: [width, height], boxes: found, names } = image.objects[k];
    const line = Math.max(width, height) / 160, letter = line * 5.5;
    const frames = found.toReversed().flatMap(([name, left, top, right, bottom]) => {
      const attributes = { x: left + line, y: Math.max(top - line, letter), "font-size": letter, "stroke-width": line * 1.6 };
      return [make("svg:rect", { x: left, y: top, width: right - left, height: bottom - top, "stroke-width": line }), make("svg:text", attributes, name)];
    });
    return make("div", { class: "boxes" }, make("img", { src: image.thumbnail, alt: `Objects that ${experiments[k].name} read in the image: ${names}` }),
      make("svg:svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...frames));
  }

  function card(index, place) {
    const image = images[index];
    const open = make("button", { type: "button", "aria-label": `Open ${image.file}: ${image.captions[visible()[0]]}`, onclick: () => show(place) },
      make("img", { src: image.thumbnail, alt: "", loading: "lazy", decoding: "async" }));
    return make("article", { class: "card", "data-index": index }, open,
      make("div", { class: "body" }, ...visible().map((k) => caption(image, k)), references(image, 2), make("p", { class: "file" }, image.file)));
  }

  function show(place) {
    opened = Math.max(0, Math.min(order.length - 1, place));
    const image = images[order[opened]];
    const turn = (text, step) => make("button", { type: "button", "aria-label": text, onclick: () => show(opened + step), disabled: !(opened + step in order) }, step < 0 ? "←" : "→");
    const looked = experiments.flatMap((one, k) => (image.sheets[k]
      ? [make("figure", {}, make("figcaption", {}, `Where ${one.name} looked, word by word`), make("img", { src: image.sheets[k], alt: `Attention of ${one.name} over: ${image.captions[k]}` }))] : []));
    const read = experiments.flatMap((one, k) => (image.objects[k]?.boxes.length
      ? [make("figure", {}, make("figcaption", {}, `The objects that ${one.name} read`), boxes(image, k))] : []));
    detail.replaceChildren(
      make("div", { class: "bar" }, make("p", {}, `${opened + 1} of ${order.length} · ${image.file}`), turn("Previous image", -1), turn("Next image", 1),
        make("button", { type: "button", autofocus: true, onclick: () => detail.close() }, "Close")),
      make("div", { class: "pane" }, make("img", { src: image.thumbnail, alt: `The image ${image.file}` }),
        make("div", {}, ...experiments.map((_, k) => caption(image, k)), references(image, Infinity))),
      ...read, ...looked);
    if (!detail.open) detail.showModal();
    detail.scrollTop = 0;
  }

  function field(text, control, wide) {
    control.id = `tool-${text.toLowerCase().replace(/\W+/g, "-")}`;
    return make("div", { class: wide ? "wide" : "" }, make("label", { for: control.id }, text), control);
  }

  function select(name, options) {
    const control = make("select", { onchange: () => { state[name] = name === "score" ? Number(control.value) : control.value; update(); } });
    control.append(...options.map(([value, text]) => make("option", { value, selected: String(state[name]) === String(value) }, text)));
    return control;
  }

  function choice(index, text) {
    const input = make("input", { type: "radio", name: "experiment", checked: index === state.experiment, onchange: () => { state.experiment = index; update(); } });
    return make("label", {}, input, make("span", {}, ...(index < 0 ? [] : [badge(index)]), text));
  }

  function furnish() {
    const search = make("input", { type: "search", placeholder: "dog, red ball …", autocomplete: "off", oninput: () => { state.query = search.value; update(); } });
    const sorts = [["apart", "disagreement, largest first"], ["sample", "random sample"], ["high", "score, highest first"], ["low", "score, lowest first"], ["data", "order of the data"]];
    tools.append(field("Search by word", search, true),
      field("In", select("where", [["all", "everything"], ["captions", "captions"], ["references", "references"]])),
      field("Sort by", select("sort", sorts.slice(experiments.length > 1 ? 0 : 1))),
      field("Score", select("score", DATA.scores.map((name, k) => [k, name]))));
    if (experiments.length > 1) tools.append(make("fieldset", {}, make("legend", {}, "Experiment"),
      make("div", { class: "choices" }, choice(-1, "all, side by side"), ...experiments.map((one, k) => choice(k, one.name)))));
    if (images.some((image) => image.sheets.some(Boolean))) {
      const box = make("input", { type: "checkbox", onchange: () => { state.looked = box.checked; update(); } });
      tools.append(make("div", { class: "choices" }, make("label", {}, box, make("span", {}, "with attention maps"))));
    }
    tools.addEventListener("submit", (event) => event.preventDefault());
    return search;
  }

  // The card that lies in the direction of an arrow key from the focused one.
  function neighbour(from, name) {
    const all = [...cards.children], at = all.indexOf(from);
    const columns = Math.max(1, all.findIndex((one) => one.offsetTop > all[0].offsetTop));
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[name];
    if (at + step >= all.length) extend();
    return cards.children[at + step];
  }

  function keys(event) {
    if (detail.open) {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) { event.preventDefault(); show(opened + step); }
    } else if (event.key === "/" && !["INPUT", "SELECT"].includes(event.target.tagName)) {
      event.preventDefault();
      search.focus();
    } else if (event.key.startsWith("Arrow") && event.target.closest(".card")) {
      event.preventDefault();
      neighbour(event.target.closest(".card"), event.key)?.querySelector("button").focus();
    }
  }

  const button = make("button", { type: "button", class: "more", onclick: extend }, "Show more");
  more.append(button);
  const search = furnish();
  document.addEventListener("keydown", keys);
  detail.addEventListener("close", () => {
    while (opened >= shown) extend();
    cards.children[opened]?.querySelector("button").focus();
  });
  detail.addEventListener("click", (event) => { if (event.target === detail) detail.close(); });
  new IntersectionObserver((entries) => { if (entries[0].isIntersecting && shown < order.length) extend(); }, { rootMargin: "800px" }).observe(more);
  if (images.length) update();
  else for (const part of [tools, more]) part.hidden = true;
}
