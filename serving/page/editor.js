// The editor of a report: the boxes that are right, drawn, moved and named by mouse, pen, finger or keyboard.

import { SAME, SIDES, announce, el, make, overlap, put } from "./dom.js";

const SMALLEST_PX = 4; // of the screen: less was a click, not a drawn box
let draft = null; // the answer, the layer over its picture, the boxes, the class of the next one

// Begin with some detections of an answer; `isOwn` tells whether the model's own thresholds show one.
export function edit(found, layer, start, classes, isOwn) {
  draft = { found, layer, isOwn, boxes: [], label: classes[0] ?? "" };
  el("labels").replaceChildren(...classes.map((value) => make("option", { value })));
  el("boxes").replaceChildren();
  layer.onpointerdown = drag;
  setDrawing(true);
  for (const from of start) mount({ ...from, from });
}

export function rightBoxes() {
  return draft.boxes.map(({ label, x1, y1, x2, y2 }) => ({ label: label.trim(), box: { x1, y1, x2, y2 } }));
}

function setDrawing(on) {
  el("draw").setAttribute("aria-pressed", on);
  draft.layer.classList.toggle("drawing", on);
}

function mount(box) {
  // No button, whose parts get no events in Firefox; an application, which gets arrow keys from screen readers.
  box.node = make("div", { className: "box", tabIndex: 0 }, make("span", { className: "label" }));
  box.node.setAttribute("role", "application");
  box.node.setAttribute("aria-describedby", "editor-help");
  for (const corner of ["x1y1", "x2y1", "x1y2", "x2y2"]) {
    box.node.append(Object.assign(make("span", { className: `corner ${corner}` }), { corner }));
  }
  box.node.box = box;
  box.node.onkeydown = (event) => byKey(event, box);
  box.node.onfocus = () => select(box);
  box.input = make("input", { type: "text", maxLength: 200, value: box.label, required: true });
  box.input.setAttribute("list", "labels");
  box.input.oninput = () => {
    box.label = draft.label = box.input.value;
    update(box);
  };
  box.numbers = SIDES.map((side) => {
    const max = side[0] === "x" ? draft.found.width : draft.found.height;
    const input = make("input", { type: "number", step: "any", min: 0, max });
    input.onchange = () => change(box, { [side]: input.valueAsNumber || 0 });
    return [side, input];
  });
  const names = { x1: "Left", y1: "Top", x2: "Right", y2: "Bottom" };
  const sides = box.numbers.map(([side, input]) => make("label", {}, names[side], input));
  box.remove = make("button", { type: "button", textContent: "Remove", onclick: () => discard(box) });
  const summary = make("summary", { textContent: "Place, in pixels" });
  const place = make("details", {}, summary, make("div", { className: "sides" }, ...sides));
  box.row = make("li", {}, make("div", { className: "row" }, box.input, box.remove), place);
  box.row.addEventListener("focusin", () => select(box));
  draft.boxes.push(box);
  draft.layer.append(box.node);
  el("boxes").append(box.row);
  update(box);
}

function update(box) {
  const number = draft.boxes.indexOf(box) + 1;
  put(box.node, box, draft.found);
  const earlier = draft.boxes.slice(0, number - 1);
  const hidden = earlier.some((each) => overlap(each, box) >= SAME);
  box.node.classList.toggle("under", hidden); // its name, so that both are seen
  box.node.firstChild.textContent = box.label;
  const [x1, y1, x2, y2] = SIDES.map((side) => Math.round(box[side]));
  const place = `${x2 - x1} by ${y2 - y1} pixels at ${x1}, ${y1}`;
  box.node.setAttribute("aria-label", `Box ${number}, ${box.label || "no class"}, ${place}`);
  box.input.setAttribute("aria-label", `Class of box ${number}`);
  box.remove.setAttribute("aria-label", `Remove box ${number}, ${box.label}`);
  for (const [side, input] of box.numbers) input.value = Math.round(box[side] * 10) / 10;
  renderVerdict();
}

// Set sides of a box, which stay in the picture; one that passes its opposite takes it along.
function change(box, sides) {
  const { width: x, height: y } = draft.found;
  for (const [side, value] of Object.entries(sides)) {
    const [axis, end] = side;
    const most = { x, y }[axis];
    const [near, far] = [`${axis}1`, `${axis}2`];
    box[side] = end === "1" ? Math.max(0, Math.min(value, most - 1)) : Math.max(1, Math.min(value, most));
    if (end === "1") box[far] = Math.max(box[far], box[near] + 1);
    else box[near] = Math.min(box[near], box[far] - 1);
  }
  update(box);
}

function move(box, x, y) {
  const { width, height } = draft.found;
  const right = Math.min(Math.max(x, -box.x1), width - box.x2);
  const down = Math.min(Math.max(y, -box.y1), height - box.y2);
  Object.assign(box, { x1: box.x1 + right, x2: box.x2 + right, y1: box.y1 + down, y2: box.y2 + down });
  update(box);
}

function select(box) {
  for (const each of draft.boxes) {
    each.node.classList.toggle("marked", each === box);
    each.row.classList.toggle("marked", each === box);
  }
}

function discard(box) {
  const { boxes } = draft;
  const place = boxes.indexOf(box);
  boxes.splice(place, 1);
  box.node.remove();
  box.row.remove();
  announce(`Box ${place + 1} removed`);
  (boxes[Math.min(place, boxes.length - 1)]?.node ?? el("add")).focus();
  boxes.forEach(update);
  renderVerdict();
}

function addBox() {
  const { found, label } = draft;
  const [x, y] = [found.width / 2, found.height / 2];
  const box = { label, from: null, x1: x * 0.75, y1: y * 0.75, x2: x * 1.25, y2: y * 1.25 };
  mount(box);
  box.node.focus();
  box.node.scrollIntoView({ block: "nearest", inline: "nearest" });
}

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function byKey(event, box) {
  const { width, height } = draft.found;
  if (event.key === "Delete" || event.key === "Backspace") discard(box);
  else if (event.key in DIRECTIONS) {
    const step = Math.max(1, Math.round(Math.max(width, height) / 100));
    const [x, y] = DIRECTIONS[event.key].map((direction) => direction * step);
    if (event.shiftKey) change(box, { x2: box.x2 + x, y2: box.y2 + y });
    else move(box, x, y);
  } else return;
  event.preventDefault();
}

// Draw a box, move it, or drag its corner, with a mouse, a pen or a finger.
function drag(event) {
  if (event.button || !event.isPrimary || el("draw").getAttribute("aria-pressed") !== "true") return;
  event.preventDefault();
  const layer = event.currentTarget;
  const { found, label } = draft;
  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = layer.getBoundingClientRect();
    const inside = (share, most) => Math.min(Math.max(share, 0), 1) * most;
    return [inside((clientX - left) / width, found.width), inside((clientY - top) / height, found.height)];
  };
  const [x, y] = place(event);
  const corner = event.target.corner;
  let box = event.target.closest(".box")?.box;
  let [lastX, lastY] = [x, y];
  if (box) box.node.focus();
  layer.setPointerCapture(event.pointerId);
  layer.onpointermove = (moved) => {
    const [nowX, nowY] = place(moved);
    const drawn = !box && Math.hypot(moved.clientX - event.clientX, moved.clientY - event.clientY) >= SMALLEST_PX;
    if (drawn) mount((box = { label, from: null, drawn, x1: x, y1: y, x2: x, y2: y }));
    if (box?.drawn) {
      const [[x1, x2], [y1, y2]] = [[x, nowX], [y, nowY]].map((pair) => pair.toSorted((a, b) => a - b));
      Object.assign(box, { x1, y1, x2, y2 });
      update(box);
    } else if (corner) change(box, { [corner.slice(0, 2)]: nowX, [corner.slice(2)]: nowY });
    else if (box) move(box, nowX - lastX, nowY - lastY);
    [lastX, lastY] = [nowX, nowY];
  };
  layer.onpointerup = layer.onpointercancel = () => {
    layer.onpointermove = layer.onpointerup = layer.onpointercancel = null;
    if (!box?.drawn) return;
    box.drawn = false;
    if (box.x2 - box.x1 < 1 || box.y2 - box.y1 < 1) discard(box);
    else box.node.focus();
  };
}

// What the boxes say of the answer under the model's own thresholds, which is the one that the server keeps.
export function judge() {
  const { boxes, found } = draft;
  const own = found.detections.filter(draft.isOwn);
  const missed = boxes.filter((box) => !own.includes(box.from));
  const removed = own.filter((each) => !boxes.some((box) => box.from === each));
  const isChanged = ({ from, ...box }) => ["label", ...SIDES].some((part) => box[part] !== from[part]);
  const changed = boxes.filter((box) => own.includes(box.from) && isChanged(box));
  const verdict = missed.length ? "missed" : removed.length || changed.length ? "wrong" : "correct";
  return { verdict, missed: missed.length, removed: removed.length, changed: changed.length };
}

function renderVerdict() {
  const { verdict, missed, removed, changed } = judge();
  const parts = { missed, "too many": removed, corrected: changed };
  const said = Object.entries(parts).filter(([, count]) => count).map(([part, count]) => `${count} ${part}`);
  el("verdict").textContent = `Verdict: ${verdict}${said.length ? ` (${said.join(", ")})` : ", all boxes are right"}`;
}

el("add").onclick = addBox;
el("draw").onclick = () => setDrawing(el("draw").getAttribute("aria-pressed") !== "true");
