"use strict";
// Images are sent one after the other, so that each result appears as soon as it is there.
const byId = (id) => document.getElementById(id);
const queue = [];
let busy = false;

function say(text, fault = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("fault", fault);
}

function take(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || /\.(hei[cf]|tiff?)$/i.test(file.name));
  if (!images.length) {
    if (files.length) say("That is no image.", true);
    return;
  }
  queue.push(...images);
  work();
}

async function work() {
  if (busy) return;
  busy = true;
  let faults = 0;
  while (queue.length) {
    const file = queue.shift();
    say(`Captioning ${file.name || "the image"}${queue.length ? `, ${queue.length} more` : ""} …`);
    try {
      show(file, await caption(file));
    } catch (fault) {
      faults += 1;
      say(`${file.name || "The image"}: ${fault.message}`, true);
    }
  }
  if (!faults) say("");
  busy = false;
}

async function caption(file) {
  const form = new FormData();
  form.append("images", file, file.name || "image");
  form.append("n_best", byId("count").value);
  form.append("attention", "true");
  for (const word of byId("must").value.split(",")) if (word.trim()) form.append("must", word.trim());
  let response;
  try {
    response = await fetch("v1/captions", { method: "POST", body: form });
  } catch {
    throw new Error("the server does not answer");
  }
  const answer = await response.json().catch(() => ({ error: `status ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer.images[0];
}

function show(file, found) {
  const item = byId("result").content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(name);
  const image = part("img");
  image.src = URL.createObjectURL(file);
  image.alt = found.caption;
  part(".file").textContent = file.name || "";
  words(part(".caption"), part("canvas"), found);
  part(".hint").hidden = !found.attention;
  if (found.confidence !== null && found.confidence !== undefined) {
    part(".confidence").hidden = false;
    part("meter").value = found.confidence;
    part(".confidence span").textContent = `${Math.round(100 * found.confidence)} % likely to be a good caption`;
  }
  part(".unlike").hidden = !found.unlike_training;
  for (const other of found.captions.slice(1)) {
    const line = document.createElement("li");
    line.textContent = other.caption;
    part(".others").append(line);
  }
  byId("results").prepend(item);
}

function words(place, canvas, found) {
  if (!found.attention) {
    place.textContent = found.caption;
    return;
  }
  found.attention.slice(0, -1).forEach((seen, index) => {
    const word = document.createElement("span");
    word.className = "word";
    word.textContent = seen.word;
    word.tabIndex = 0;
    for (const event of ["mouseenter", "focus", "click"]) word.addEventListener(event, () => paint(canvas, seen.weights, found));
    for (const event of ["mouseleave", "blur"]) word.addEventListener(event, () => paint(canvas, null));
    if (index) place.append(" ");
    place.append(word);
  });
}

// Where the model looked; what it did not see is dark.
function paint(canvas, weights, found) {
  const pen = canvas.getContext("2d");
  canvas.width = canvas.clientWidth;
  canvas.height = canvas.clientHeight;
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!weights) return;
  const [left, top, right, bottom] = found.box.map((share, side) => share * (side % 2 ? canvas.height : canvas.width));
  pen.fillStyle = "rgb(0 0 0 / .75)";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (found.boxes) {
    const frames = found.boxes.map((box) => box.map((share, side) => side % 2 ? top + share * (bottom - top) : left + share * (right - left)));
    paintBoxes(pen, weights, frames);
  } else paintGrid(pen, weights, [left, top, right - left, bottom - top]);
}

// Brightness follows the weights, smoothed by the browser.
function paintGrid(pen, weights, place) {
  const small = document.createElement("canvas");
  small.height = weights.length;
  small.width = weights[0].length;
  const dots = small.getContext("2d");
  const most = Math.max(...weights.flat());
  weights.forEach((row, y) => row.forEach((weight, x) => {
    dots.fillStyle = `rgb(0 0 0 / ${0.75 * (1 - weight / most)})`;
    dots.fillRect(x, y, 1, 1);
  }));
  pen.clearRect(...place);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, ...place);
}

// The object with the greatest weight is bright. The frames of all are as strong as their weights.
function paintBoxes(pen, weights, frames) {
  const most = Math.max(...weights), best = weights.indexOf(most);
  const place = ([left, top, right, bottom]) => [left, top, right - left, bottom - top];
  pen.clearRect(...place(frames[best]));
  frames.forEach((frame, index) => {
    pen.lineWidth = index === best ? 4 : 2;
    pen.strokeStyle = `rgb(255 180 84 / ${weights[index] / most})`;
    pen.strokeRect(...place(frame));
  });
}

for (const id of ["files", "camera"]) {
  byId(id).addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = "";
  });
}
byId("form").addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files);
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => byId("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files);
});
