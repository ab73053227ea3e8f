// Nodes of the page, and boxes over a picture: what all parts of the page need.
//
// Whatever comes from a file or a server becomes text nodes and numbers, never HTML; the page's Content-Security-Policy
// would refuse it too.

export const SIDES = ["x1", "y1", "x2", "y2"];
export const SAME = 0.5; // intersection over union from which two boxes are of one object
// Okabe and Ito's palette for any colour vision, as drawn pictures have it: of the box, and of the text on it.
const PALETTE = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"].map((colour) => [
  colour,
  colour === "#0072b2" ? "#fff" : "#000",
]);
export const labels = []; // all classes that were met; a class's place gives its colour

export const el = (id) => document.getElementById(id);
export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : word.endsWith("x") ? "es" : "s"}`;
export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Put children into a node, unless they are there already: whoever has the focus there keeps it.
export function fill(node, about, build) {
  const signature = JSON.stringify(about);
  if (node.signature === signature) return;
  node.signature = signature;
  node.replaceChildren(...build());
}

export function announce(text) {
  el("status").textContent = text;
}

export function warn(text) {
  el("banner").textContent = text;
  el("banner").hidden = !text;
}

// Give each of these classes a colour.
export function meet(names) {
  for (const label of names) if (!labels.includes(label)) labels.push(label);
}

export function colour(label) {
  return PALETTE[Math.max(0, labels.indexOf(label)) % PALETTE.length];
}

export function put(node, box, { width, height }) {
  const [back, ink] = colour(box.label);
  node.style.setProperty("--colour", back);
  node.style.setProperty("--ink", ink);
  node.style.left = `${(100 * box.x1) / width}%`;
  node.style.top = `${(100 * box.y1) / height}%`;
  node.style.width = `${(100 * (box.x2 - box.x1)) / width}%`;
  node.style.height = `${(100 * (box.y2 - box.y1)) / height}%`;
  node.classList.toggle("high", box.y1 / height < 0.08);
  node.classList.toggle("low", box.y2 / height > 0.92);
  node.classList.toggle("right", box.x1 / width > 0.7);
}

export function overlap(a, b) {
  const width = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1);
  const height = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box.x2 - box.x1) * (box.y2 - box.y1);
  return (width * height) / (area(a) + area(b) - width * height);
}
