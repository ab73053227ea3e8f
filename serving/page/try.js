// The page /try: pictures in, boxes over them, and what was missed back to the server.
//
// It asks each server once per picture, down to a low confidence, and filters what it shows by itself. Whatever comes from
// a file or a server becomes text nodes and numbers, never HTML; the page's Content-Security-Policy would refuse it too.

const HERE = new URL("..", import.meta.url).href; // the server of this page, with a slash at its end
const LOWEST = 0.05; // confidence that servers are asked for; less where a model's own thresholds are lower
const MOST = 300; // boxes of a picture
const SAME = 0.5; // intersection over union from which two boxes are of one object
const TRIES = 5; // of a request that a busy server refuses
const PATIENCE_SECONDS = 10; // longest Retry-After that is waited for
const FEW = 12; // classes that are listed all
const MOST_REPORTS = 20; // whose states are asked for
const SIDES = ["x1", "y1", "x2", "y2"];
const SMALLEST_PX = 4; // of the screen: less was a click, not a drawn box
// Okabe and Ito's palette for any colour vision, as drawn pictures have it: of the box, and of the text on it.
const PALETTE = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"].map((colour) => [
  colour,
  colour === "#0072b2" ? "#fff" : "#000",
]);

const page = {
  settings: null, // of the server
  here: null, // the server of this page
  servers: new Map(), // those that it may be compared with, by their URLs
  other: null, // the one that it is compared with
  entries: [], // pictures, with the answers to each
  current: null, // the entry that is shown
  hidden: new Set(), // classes that are not
  draft: null, // what is right, while it is being told
  views: { about: [], url: "", figures: [] },
  zoom: 1,
};
const marked = new WeakMap(); // of a detection, its box; the list of what was found says the same to a screen reader
const labels = []; // all classes that were met; a class's place gives its colour

class Refusal extends Error {}

// What became of a report, by the state that the server gives it.
const FATES = {
  received: "received; annotators get it within the hour",
  open: "waits for an annotator",
  labelled: "an annotator has drawn it",
  skipped: "an annotator could not use it",
  in_dataset: "in the data of the next training",
  in_model: "the model that answers here has learned from it",
};

const el = (id) => document.getElementById(id);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : word.endsWith("x") ? "es" : "s"}`;
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// Put children into a node, unless they are there already: whoever has the focus there keeps it.
function fill(node, about, build) {
  const signature = JSON.stringify(about);
  if (node.signature === signature) return;
  node.signature = signature;
  node.replaceChildren(...build());
}

function announce(text) {
  el("status").textContent = text;
}

function warn(text) {
  el("banner").textContent = text;
  el("banner").hidden = !text;
}

// ---- Servers and their keys

class Server {
  constructor(url) {
    const { host, pathname } = new URL(url);
    this.url = url;
    this.name = host + pathname.replace(/\/$/, "");
    this.title = ""; // the model's name and version
    this.declined = false; // whether its key was asked for, and not given
    this.line = Promise.resolve(); // its pictures, one after the other
  }

  // Under the server's URL, so that no other server is ever sent it.
  get key() {
    return sessionStorage.getItem(`key of ${this.url}`) ?? "";
  }

  set key(text) {
    if (text) sessionStorage.setItem(`key of ${this.url}`, text);
    else sessionStorage.removeItem(`key of ${this.url}`);
  }

  async ask(path, { method = "GET", body, headers = {} } = {}) {
    for (let tries = 1; ; tries++) {
      const key = this.key;
      let response;
      try {
        response = await fetch(new URL(path, this.url), {
          method,
          body,
          headers: key ? { ...headers, "X-API-Key": key } : headers,
          credentials: "omit",
          redirect: "error", // another server would get the key
          cache: "no-store",
        });
      } catch {
        const remedy = `its CORS_ORIGINS has to name ${location.origin}, and your browser to trust its certificate`;
        throw new Refusal(`${this.name} cannot be reached${this.url === HERE ? "" : `; ${remedy}`}`);
      }
      if (response.ok) return response;
      if (response.status === 401) {
        await wantKey(this, key);
        continue;
      }
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      if (response.status !== 503 || tries === TRIES || seconds > PATIENCE_SECONDS) throw await refusalOf(response);
      await pause(seconds);
    }
  }

  load(again = false) {
    if (again) this.loading = null;
    this.loading ??= this.#load().catch((error) => {
      this.loading = null;
      throw error;
    });
    return this.loading;
  }

  async #load() {
    const known = await (await this.ask("model")).json();
    this.sha256 = known.model.sha256;
    this.classes = known.classes.map(String);
    this.thresholds = new Map(Object.entries(known.thresholds).map(([label, value]) => [label, Number(value)]));
    this.lowest = Math.min(LOWEST, ...this.thresholds.values());
    this.title = [known.model.name, known.model.version].filter(Boolean).join(" ");
    for (const label of this.classes) if (!labels.includes(label)) labels.push(label);
  }

  threshold(label) {
    return this.thresholds?.get(label) ?? 0.25;
  }
}

async function refusalOf(response) {
  try {
    return new Refusal(String((await response.json()).error).slice(0, 500));
  } catch {
    return new Refusal(`the server answered ${response.status}`);
  }
}

let keyTurn = Promise.resolve(); // dialogs, one after the other

async function wantKey(server, tried) {
  const why = tried ? "It refused this key." : "It wants a key.";
  const turn = keyTurn.then(() => server.key === tried && !server.declined && askKey(server, why));
  keyTurn = turn;
  await turn;
  if (server.key === tried) throw new Refusal(`${server.name} wants a key`);
}

function askKey(server, why) {
  const [dialog, input, before] = [el("key-dialog"), el("key-input"), server.key];
  el("key-why").textContent = why;
  el("key-label").textContent = `Key of ${server.name}`;
  el("key-form").onsubmit = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    input.setCustomValidity(/^[\x20-\x7e]*$/.test(text) ? "" : "Expected letters, digits and signs of plain ASCII");
    if (!input.reportValidity()) return;
    server.key = text;
    dialog.close();
  };
  input.oninput = () => input.setCustomValidity("");
  return new Promise((resolve) => {
    dialog.onclose = () => {
      input.value = "";
      server.declined = server.key === before;
      resolve();
    };
    dialog.showModal();
  });
}

async function changeKey(server) {
  await askKey(server, server.key ? "This tab keeps one. An empty one forgets it." : "This tab keeps none.");
  if (server === page.here && !server.classes) await begin();
  for (const entry of page.entries) if (entry.answers.get(server)?.error) queue(entry, server);
}

// ---- Pictures and the answers to them

function addFiles(files) {
  const empty = () => ({ answers: new Map(), picture: null, thumbnail: null, report: "" });
  const added = [...files].map((file) => ({ file, name: file.name, ...empty() }));
  if (!added.length) return;
  page.here.declined = false;
  page.entries.push(...added);
  for (const entry of added) queue(entry, page.here);
  if (page.draft) render();
  else choose(added[0]);
}

function queue(entry, server) {
  entry.answers.set(server, { waiting: true });
  server.line = server.line.then(() => answer(entry, server)).then(render);
  render();
}

async function answer(entry, server) {
  let found;
  try {
    const [size, most] = [entry.file.size, page.settings.max_picture_bytes];
    if (size > most) throw new Refusal(`the file has ${megabytes(size)}; expected at most ${megabytes(most)}`);
    await server.load();
    const headers = server === page.here && el("keep").checked ? {} : { "X-No-Capture": "1" };
    const path = `detect?confidence=${server.lowest}&max_detections=${MOST}`;
    const said = await (await server.ask(path, { method: "POST", body: formOf(entry.file), headers })).json();
    if (said.model.sha256 !== server.sha256) await server.load(true); // a new model, with thresholds of its own
    found = read(said);
  } catch (error) {
    found = { error: sentence(error) };
  }
  if (server === page.here) await look(entry, found);
  entry.answers.set(server, found); // now that it is shown, it can be drawn on
  if (entry === page.current) announce(`${entry.name}: ${found.error ?? summary(shown(found, server))}`);
}

function formOf(file, fields = {}) {
  const form = new FormData();
  for (const [name, text] of Object.entries(fields)) form.append(name, text);
  if (file) form.append("file", file, "picture"); // its own name may say more than its owner wants
  return form;
}

// A refusal's own words; whatever else went wrong is a surprise, and told in the console.
function sentence(error) {
  if (error instanceof Refusal) return error.message;
  console.error(error);
  return "the answer cannot be read; is it the same version of the server?";
}

function read(answer) {
  const detections = answer.detections.slice(0, MOST).map(({ label, confidence, box }) => ({
    label: String(label),
    confidence: Number(confidence),
    ...Object.fromEntries(SIDES.map((side) => [side, Number(box[side])])),
  }));
  for (const { label } of detections) if (!labels.includes(label)) labels.push(label);
  return { id: String(answer.request_id), width: Number(answer.width), height: Number(answer.height), detections };
}

// Find out how to show a picture: as it is, or, where a browser cannot or would not turn it as the server does, as the
// server shows it.
async function look(entry, found) {
  if (entry.picture) return;
  try {
    let blob = (await isPlain(entry.file)) ? entry.file : null;
    let image = blob && (await decoded(blob));
    if (found.width && (image?.naturalWidth !== found.width || image.naturalHeight !== found.height)) {
      const options = { method: "POST", body: formOf(entry.file), headers: { "X-No-Capture": "1" } };
      blob = await (await page.here.ask("detect/image?confidence=1", options)).blob();
      image = await decoded(blob);
      const difference = image.naturalWidth * found.height - image.naturalHeight * found.width;
      if (Math.abs(difference) > found.width + found.height) throw new Refusal("it is too thin"); // it got a margin
    }
    if (!image) return; // no picture, and the server said so
    entry.picture = blob;
    entry.thumbnail = thumbnailOf(image);
  } catch (error) {
    found.note = `the picture cannot be shown: ${sentence(error)}`;
  }
}

function thumbnailOf(image) {
  const height = 96; // pixels
  const width = Math.min(Math.max((height * image.naturalWidth) / image.naturalHeight, 24), 192);
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(image, 0, 0, width, height);
  return canvas;
}

// Whether every browser shows a file as the server reads it: a JPEG, or a PNG or WebP that is neither turned nor moves.
async function isPlain(file) {
  const text = async (blob) => new TextDecoder("latin1").decode(await blob.arrayBuffer());
  const begin = await text(file.slice(0, 12));
  if (begin.startsWith("\u00ff\u00d8")) return !(await text(file.slice(0, 262_144))).includes("tiff:Orientation");
  if (!begin.includes("PNG") && !begin.endsWith("WEBP")) return false;
  return !/eXIf|EXIF|acTL|ANIM|Raw profile type|tiff:Orientation/.test(await text(file));
}

async function decoded(blob) {
  const url = URL.createObjectURL(blob);
  const image = make("img", { src: url });
  try {
    await image.decode();
    return image;
  } catch {
    return null;
  } finally {
    URL.revokeObjectURL(url);
  }
}

// ---- What is shown of an answer

function isOwn(detection, server) {
  return detection.confidence > server.threshold(detection.label);
}

function isSure(detection, server) {
  return el("own").checked ? isOwn(detection, server) : detection.confidence > el("confidence").valueAsNumber;
}

function shown(answer, server) {
  return (answer?.detections ?? []).filter((each) => isSure(each, server) && !page.hidden.has(each.label));
}

function overlap(a, b) {
  const width = Math.min(a.x2, b.x2) - Math.max(a.x1, b.x1);
  const height = Math.min(a.y2, b.y2) - Math.max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box.x2 - box.x1) * (box.y2 - box.y1);
  return (width * height) / (area(a) + area(b) - width * height);
}

function isAlone(detection, others) {
  return !others.some((each) => each.label === detection.label && overlap(each, detection) >= SAME);
}

function summary(detections) {
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].map(([label, count]) => `${count} ${label}`).join(", ") || "nothing found";
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function colour(label) {
  return PALETTE[Math.max(0, labels.indexOf(label)) % PALETTE.length];
}

// ---- Showing it

function choose(entry) {
  page.current = entry;
  el("report-note").textContent = "";
  if (page.other && !entry.answers.has(page.other)) queue(entry, page.other);
  render();
}

function render() {
  const entry = page.current;
  el("model").textContent = [page.settings.environment, page.here.title].filter(Boolean).join(" · ");
  el("work").hidden = !entry;
  document.body.classList.toggle("started", Boolean(entry));
  if (!entry) return;
  renderStrip();
  renderViews();
  el("panel").hidden = Boolean(page.draft);
  el("editor").hidden = !page.draft;
  if (!page.draft) renderPanel();
}

function renderStrip() {
  for (const entry of page.entries) {
    if (!entry.item) {
      entry.state = make("span", { className: "state" });
      entry.button = make("button", { type: "button", disabled: false, onclick: () => choose(entry) });
      entry.button.append(make("bdi", { textContent: entry.name }), entry.state);
      entry.item = make("li", {}, entry.button);
      el("strip").append(entry.item);
    }
    const found = entry.answers.get(page.here);
    if (entry.thumbnail && !entry.thumbnail.parentNode) entry.button.prepend(entry.thumbnail);
    entry.button.disabled = Boolean(page.draft);
    entry.button.setAttribute("aria-current", entry === page.current);
    entry.state.textContent = found.waiting
      ? "…"
      : found.error
        ? "not answered"
        : plural(shown(found, page.here).length, "box") + (entry.report ? `, reported as ${entry.report}` : "");
  }
}

// One figure a server; the picture is the same. Figures stay as long as the picture and the servers do.
function renderViews() {
  const entry = page.current;
  const servers = page.other && !page.draft ? [page.here, page.other] : [page.here];
  const about = [entry, entry.picture, page.draft, ...servers];
  if (about.length !== page.views.about.length || about.some((each, place) => each !== page.views.about[place])) {
    URL.revokeObjectURL(page.views.url);
    const url = entry.picture ? URL.createObjectURL(entry.picture) : "";
    page.views = { about, url, figures: servers.map(() => figureOf(entry, url)) };
    el("views").replaceChildren(...page.views.figures.map((each) => each.node));
  }
  for (const [place, server] of servers.entries()) {
    const { caption, canvas, layer, image } = page.views.figures[place];
    const found = entry.answers.get(server);
    const boxes = shown(found, server);
    const name = servers.length === 1 ? entry.name : `${server === page.here ? "Here" : server.name} (${server.title})`;
    const waiting = !found || found.waiting;
    const text = found?.error ?? (waiting ? "asking…" : page.draft ? "what is right?" : summary(boxes));
    const note = found?.note ? `; ${found.note}` : "";
    caption.replaceChildren(make("strong", {}, make("bdi", { textContent: name })), `: ${text}${note}`);
    caption.classList.toggle("problem", Boolean(found?.error || found?.note));
    canvas.hidden = !entry.picture;
    if (!found?.width) {
      fill(layer, [], () => []);
      continue;
    }
    canvas.style.setProperty("--ratio", found.width / found.height);
    image.alt = page.draft ? entry.name : `${entry.name}: ${summary(boxes)}`;
    if (page.draft) continue; // the editor's boxes stay
    const opposite = servers[1 - place];
    const others = entry.answers.get(opposite)?.detections && shown(entry.answers.get(opposite), opposite);
    // The least sure first, so that the surest lie on top.
    const marks = boxes.map((each, rank) => ({
      each,
      alone: Boolean(others && isAlone(each, others)),
      below: boxes.slice(0, rank).filter((surer) => overlap(surer, each) >= SAME).length, // boxes at the same place
    }));
    fill(layer, marks, () => marks.toReversed().map(({ each, alone, below }) => boxOf(each, found, alone, below)));
  }
}

function figureOf(entry, url) {
  const caption = make("figcaption");
  const image = make("img", { draggable: false, alt: entry.name });
  if (url) image.src = url;
  const layer = make("div", { className: "layer" });
  const canvas = make("div", { className: "canvas" }, image, layer);
  const frame = make("div", { className: "frame" }, canvas);
  return { node: make("figure", {}, caption, frame), caption, canvas, layer, image };
}

function boxOf(detection, size, alone, below) {
  const text = `${detection.label} ${detection.confidence.toFixed(2)}`;
  const name = make("span", { className: "label", textContent: text });
  const node = make("div", { className: "box", ariaHidden: "true" }, name);
  node.classList.toggle("alone", alone);
  put(node, detection, size);
  node.classList.toggle("under", below === 1); // its name under the box, where the surer one's is above
  if (below > 1) node.classList.add("high");
  marked.set(detection, node);
  return node;
}

function put(node, box, { width, height }) {
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

function renderPanel() {
  const [entry, here] = [page.current, page.here];
  const found = entry.answers.get(here);
  const own = el("own").checked;
  el("confidence-text").textContent = own ? rangeOf(here) : el("confidence").valueAsNumber.toFixed(2);
  el("confidence").classList.toggle("faint", own);
  renderClasses();
  const servers = page.other ? [here, page.other] : [here];
  const lists = servers.map((server) => {
    const answer = entry.answers.get(server);
    return { server, answer, boxes: shown(answer, server) };
  });
  const about = lists.map(({ server, answer, boxes }) => [server.url, answer?.error, answer?.waiting, answer?.id, boxes]);
  fill(el("found"), about, () => lists.flatMap((list) => listOf(list, lists.find((other) => other !== list))));
  const takes = page.settings.keeps_pictures;
  el("report").disabled = !takes || !found?.width || !entry.picture;
  if (!takes) el("report-note").textContent = "This server keeps no pictures, so it takes no reports.";
  else if (entry.report) el("report-note").textContent = `Reported as ${entry.report}. Thank you!`;
}

function rangeOf(server) {
  const all = [...(server.thresholds?.values() ?? [])];
  const [least, most] = [Math.min(...all), Math.max(...all)].map((each) => each.toFixed(2));
  return all.length ? (least === most ? least : `${least} to ${most}`) : "";
}

function renderClasses() {
  const answers = [...page.current.answers].filter(([, each]) => each.detections);
  const met = new Set([...page.hidden, ...answers.flatMap(([, each]) => each.detections.map(({ label }) => label))]);
  const all = page.here.classes ?? [];
  const listed = all.length <= FEW ? [...new Set([...all, ...met])] : labels.filter((label) => met.has(label));
  fill(el("class-list"), listed, () => {
    page.counts = new Map(listed.map((label) => [label, make("span", { className: "count" })]));
    return listed.map(toggleOf);
  });
  const now = answers.filter(([server]) => server === page.here).flatMap(([, each]) => each.detections);
  for (const [label, count] of page.counts) {
    count.textContent = now.filter((each) => each.label === label && isSure(each, page.here)).length;
  }
  el("classes").hidden = !listed.length;
}

function toggleOf(label) {
  const box = make("input", { type: "checkbox", checked: !page.hidden.has(label) });
  box.onchange = () => {
    page.hidden[box.checked ? "delete" : "add"](label);
    render();
  };
  const name = make("label", {}, box, swatchOf(label), make("bdi", { textContent: label }));
  return make("li", {}, name, page.counts.get(label));
}

function listOf({ server, answer, boxes }, other) {
  const rows = boxes.map((each) => {
    const [x1, y1, x2, y2] = SIDES.map((side) => Math.round(each[side]));
    const where = `x ${x1} to ${x2}, y ${y1} to ${y2}`;
    const row = make("button", { type: "button", className: "found", title: `${where} pixels` });
    const sure = make("span", { className: "count", textContent: each.confidence.toFixed(2) });
    row.append(swatchOf(each.label), make("bdi", { textContent: each.label }), sure);
    if (other?.answer?.detections && isAlone(each, other.boxes)) row.append(make("em", { textContent: "only here" }));
    row.append(make("span", { className: "hidden-text", textContent: `, ${where}` }));
    const mark = (on) => () => marked.get(each)?.classList.toggle("marked", on);
    row.onmouseenter = row.onfocus = mark(true);
    row.onmouseleave = row.onblur = mark(false);
    return make("li", {}, row);
  });
  const whose = server === page.here ? " here" : ` by ${server.name}`;
  const text = answer?.error ?? (!answer || answer.waiting ? "Asking…" : "Nothing.");
  const none = make("p", { className: "note", textContent: text });
  const list = [rows.length ? make("ul", { className: "plain" }, ...rows) : none];
  const again = () => queue(page.current, server);
  if (answer?.error) list.push(make("button", { type: "button", textContent: "Try again", onclick: again }));
  return [make("h2", { textContent: `Found${other ? whose : ""}` }), ...list];
}

function swatchOf(label) {
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = colour(label)[0];
  return swatch;
}

// ---- Telling what is right

function beginDraft() {
  const entry = page.current;
  const found = entry.answers.get(page.here);
  const start = found.detections.filter((each) => isOwn(each, page.here) || isSure(each, page.here));
  page.draft = { entry, found, boxes: [], label: page.here.classes[0] ?? "" };
  el("labels").replaceChildren(...page.here.classes.map((value) => make("option", { value })));
  el("boxes").replaceChildren();
  el("comment").value = "";
  render();
  page.views.figures[0].layer.onpointerdown = drag;
  setDrawing(true);
  for (const from of start) mount({ ...from, from });
  el("add").focus({ preventScroll: true });
  el("views").scrollIntoView({ block: "nearest" });
  announce(`Report: ${plural(start.length, "box")} to begin with`);
}

function endDraft() {
  page.draft = null;
  render();
  el("report").focus();
}

function setDrawing(on) {
  el("draw").setAttribute("aria-pressed", on);
  page.views.figures[0].layer.classList.toggle("drawing", on);
}

function mount(box) {
  const { draft } = page;
  const { layer } = page.views.figures[0];
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
  layer.append(box.node);
  el("boxes").append(box.row);
  update(box);
}

function update(box) {
  const { draft } = page;
  const number = draft.boxes.indexOf(box) + 1;
  put(box.node, box, draft.found);
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
  const { width: x, height: y } = page.draft.found;
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
  const { width, height } = page.draft.found;
  const right = Math.min(Math.max(x, -box.x1), width - box.x2);
  const down = Math.min(Math.max(y, -box.y1), height - box.y2);
  Object.assign(box, { x1: box.x1 + right, x2: box.x2 + right, y1: box.y1 + down, y2: box.y2 + down });
  update(box);
}

function select(box) {
  for (const each of page.draft.boxes) {
    each.node.classList.toggle("marked", each === box);
    each.row.classList.toggle("marked", each === box);
  }
}

function discard(box) {
  const { boxes } = page.draft;
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
  const { found, label } = page.draft;
  const [x, y] = [found.width / 2, found.height / 2];
  const box = { label, from: null, x1: x * 0.75, y1: y * 0.75, x2: x * 1.25, y2: y * 1.25 };
  mount(box);
  box.node.focus();
  box.node.scrollIntoView({ block: "nearest", inline: "nearest" });
}

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function byKey(event, box) {
  const { width, height } = page.draft.found;
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
  const { found, label } = page.draft;
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
function judge() {
  const { boxes, found } = page.draft;
  const own = found.detections.filter((each) => isOwn(each, page.here));
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

async function send(event) {
  event.preventDefault();
  const { entry, boxes } = page.draft;
  const { verdict } = judge();
  const right = boxes.map(({ label, x1, y1, x2, y2 }) => ({ label: label.trim(), box: { x1, y1, x2, y2 } }));
  el("send").disabled = true;
  warn("");
  try {
    if (entry.report) await answer(entry, page.here); // an answer has one verdict: a new one for a correction
    const { id, error } = entry.answers.get(page.here);
    if (error) throw new Refusal(error);
    const fields = { request_id: id, verdict, boxes: JSON.stringify(right), comment: el("comment").value };
    const say = async (body) => (await page.here.ask("feedback", { method: "POST", body })).json();
    let said = await say(formOf(null, fields));
    if (said.picture !== "kept") said = await say(formOf(entry.file, fields));
    if (said.picture !== "kept") throw new Refusal("the server did not keep it");
    entry.report = verdict;
    entry.reportId = String(said.kept_as ?? id);
    keepReport(entry.reportId);
    endDraft();
    announce(`Reported as ${verdict}${said.annotator ? `, an annotation of ${said.annotator}` : ""}. Thank you!`);
    lookAtReports();
  } catch (error) {
    warn(`Not reported: ${sentence(error)}`);
  } finally {
    el("send").disabled = false;
  }
}

// ---- What became of reports

const REPORTS = `reports to ${HERE}`; // in the tab's storage: ids and nothing else, the newest first
const fates = new Map(); // of a report, in words

const reportIds = () => JSON.parse(sessionStorage.getItem(REPORTS) ?? "[]");

function keepReport(id) {
  const others = reportIds().filter((each) => each !== id);
  sessionStorage.setItem(REPORTS, JSON.stringify([id, ...others].slice(0, MOST_REPORTS)));
}

async function lookAtReports() {
  for (const id of reportIds()) {
    renderReports();
    fates.set(id, await fateOf(id));
  }
  renderReports();
}

async function fateOf(id) {
  try {
    const { state } = await (await page.here.ask(`feedback/${encodeURIComponent(id)}`)).json();
    return FATES[state] ?? String(state);
  } catch (error) {
    return sentence(error);
  }
}

function renderReports() {
  const name = (id) => page.entries.find((each) => each.reportId === id)?.name ?? `Report ${id.slice(0, 8)}`;
  const rows = reportIds().map((id) => [name(id), fates.get(id) ?? "asking…"]);
  el("reports").hidden = !rows.length;
  fill(el("report-list"), rows, () =>
    rows.map(([about, fate]) => make("li", {}, make("bdi", { textContent: about }), `: ${fate}`)),
  );
}

// ---- The camera

async function openCamera() {
  // A phone's own camera takes better pictures than a page does.
  if (!navigator.mediaDevices?.getUserMedia || matchMedia("(pointer: coarse)").matches) return el("photo").click();
  let stream;
  try {
    const video = { facingMode: "environment", width: { ideal: 1920 } };
    stream = await navigator.mediaDevices.getUserMedia({ video });
  } catch (error) {
    return warn(`The camera cannot be used: ${error.name}`);
  }
  const [dialog, video] = [el("camera-dialog"), el("video")];
  video.srcObject = stream;
  dialog.onclose = () => {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
  dialog.showModal();
}

function shoot() {
  const video = el("video");
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const name = `camera ${new Date().toTimeString().slice(0, 8)}.jpg`;
  canvas.toBlob((blob) => blob && addFiles([new File([blob], name, { type: "image/jpeg" })]), "image/jpeg", 0.92);
  el("camera-dialog").close();
}

// ---- Start

function compareWith(url) {
  page.other = page.servers.get(url) ?? null;
  el("compare-key").hidden = !url;
  if (page.other && page.current && !page.current.answers.has(page.other)) queue(page.current, page.other);
  else render();
}

function setZoom(times) {
  page.zoom = Math.min(Math.max(page.zoom * times, 1), 8);
  el("views").style.setProperty("--zoom", page.zoom);
  el("zoom-text").textContent = `${page.zoom} ×`;
}

function listen() {
  el("zoom-in").onclick = () => setZoom(2);
  el("zoom-out").onclick = () => setZoom(0.5);
  el("choose").onclick = () => el("files").click();
  for (const id of ["files", "photo"]) {
    el(id).onchange = () => {
      addFiles(el(id).files);
      el(id).value = "";
    };
  }
  el("camera").onclick = openCamera;
  el("shoot").onclick = shoot;
  el("camera-cancel").onclick = () => el("camera-dialog").close();
  el("key").onclick = () => changeKey(page.here);
  el("key-cancel").onclick = () => el("key-dialog").close();
  el("compare").onchange = () => compareWith(el("compare").value);
  el("compare-key").onclick = () => changeKey(page.other);
  el("confidence").oninput = () => {
    el("own").checked = false;
    render();
  };
  el("own").onchange = render;
  el("report").onclick = beginDraft;
  el("look").onclick = async () => {
    await lookAtReports();
    announce("Your reports are up to date");
  };
  el("add").onclick = addBox;
  el("draw").onclick = () => setDrawing(el("draw").getAttribute("aria-pressed") !== "true");
  el("editor").onsubmit = send;
  el("cancel").onclick = endDraft;
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  };
  document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("dropping");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    addFiles(event.dataTransfer.files);
  };
  document.onpaste = (event) => addFiles(event.clipboardData.files);
}

async function begin() {
  for (;;) {
    try {
      await page.here.load();
      warn("");
      return render();
    } catch (error) {
      warn(`${sentence(error)}.`);
      if (page.here.declined) return;
    }
    await pause(3);
  }
}

page.here = new Server(HERE);
page.settings = await (await page.here.ask("try/settings")).json();
el("keeping").hidden = !page.settings.keeps_pictures;
el("confidence").value = 0.25;
el("compare-box").hidden = !page.settings.compare_urls.length;
el("compare").append(make("option", { value: "", textContent: "nothing" }));
for (const url of page.settings.compare_urls) {
  page.servers.set(url, new Server(url));
  el("compare").append(make("option", { value: url, textContent: page.servers.get(url).name }));
}
listen();
el("main").hidden = false;
await begin();
lookAtReports();
