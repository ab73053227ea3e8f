// The page /try: pictures in, boxes over them, and what was missed back to the server.
//
// It asks each server once per picture, down to a low confidence, and filters what it shows by itself.

import { SAME, SIDES, colour, el, fill, labels, make, meet, overlap, put } from "./dom.js";
import { announce, pause, plural, warn } from "./dom.js";
import { edit, judge, rightBoxes } from "./editor.js";
import { HERE, Refusal, Server, askKey, formOf, sentence } from "./server.js";

const MOST = 300; // boxes of a picture
const FEW = 12; // classes that are listed all
const MOST_REPORTS = 20; // whose states are asked for

const page = {
  settings: null, // of the server
  here: null, // the server of this page
  servers: new Map(), // those that it may be compared with, by their URLs
  other: null, // the one that it is compared with
  entries: [], // pictures, with the answers to each
  current: null, // the entry that is shown
  hidden: new Set(), // classes that are not
  reporting: false, // whether the editor is open
  views: { about: [], url: "", figures: [] },
  zoom: 1,
};
const marked = new WeakMap(); // of a detection, its box; the list of what was found says the same to a screen reader

// What became of a report, by the state that the server gives it.
const FATES = {
  received: "received; on its way to the annotators",
  open: "waits for an annotator",
  labelled: "an annotator has drawn it",
  skipped: "an annotator could not use it",
  in_dataset: "in the data of the next training",
  in_model: "the model that answers here has learned from it",
};

async function changeKey(server) {
  await askKey(server, server.key ? "This tab keeps a key. An empty one forgets it." : "This tab keeps no key yet.");
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
  if (page.reporting) render();
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

function read(answer) {
  const detections = answer.detections.slice(0, MOST).map(({ label, confidence, box }) => ({
    label: String(label),
    confidence: Number(confidence),
    ...Object.fromEntries(SIDES.map((side) => [side, Number(box[side])])),
  }));
  meet(detections.map(({ label }) => label));
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
    entry.ratio = image.naturalWidth / image.naturalHeight;
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

function isAlone(detection, others) {
  return !others.some((each) => each.label === detection.label && overlap(each, detection) >= SAME);
}

function summary(detections) {
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].map(([label, count]) => `${count} ${label}`).join(", ") || "nothing found";
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

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
  el("panel").hidden = page.reporting;
  el("editor").hidden = !page.reporting;
  if (!page.reporting) renderPanel();
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
    entry.button.disabled = page.reporting;
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
  const servers = page.other && !page.reporting ? [page.here, page.other] : [page.here];
  const about = [entry, entry.picture, page.reporting, ...servers];
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
    const whose = `${server === page.here ? "Here" : server.name}${server.title && ` (${server.title})`}`;
    const name = servers.length === 1 ? entry.name : whose;
    const waiting = !found || found.waiting;
    const text = found?.error ?? (waiting ? "asking…" : page.reporting ? "what is right?" : summary(boxes));
    const note = found?.note ? `; ${found.note}` : "";
    caption.replaceChildren(make("strong", {}, make("bdi", { textContent: name })), `: ${text}${note}`);
    caption.classList.toggle("problem", Boolean(found?.error || found?.note));
    canvas.hidden = !entry.picture;
    if (entry.ratio) canvas.style.setProperty("--ratio", entry.ratio); // also where a server gave no answer
    if (!found?.width) {
      fill(layer, [], () => []);
      continue;
    }
    image.alt = page.reporting ? entry.name : `${entry.name}: ${summary(boxes)}`;
    if (page.reporting) continue; // the editor's boxes stay
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
  // It scrolls when zoomed, and has the focus then.
  const frame = make("div", { className: "frame", role: "group", ariaLabel: "Picture" }, canvas);
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

function beginReport() {
  const found = page.current.answers.get(page.here);
  const start = found.detections.filter((each) => isOwn(each, page.here) || isSure(each, page.here));
  page.reporting = true;
  el("comment").value = "";
  render();
  edit(found, page.views.figures[0].layer, start, page.here.classes, (each) => isOwn(each, page.here));
  el("add").focus({ preventScroll: true });
  el("views").scrollIntoView({ block: "nearest" });
  announce(`Report: ${plural(start.length, "box")} to begin with`);
}

function endReport() {
  page.reporting = false;
  warn("");
  render();
  el("report").focus();
}

async function send(event) {
  event.preventDefault();
  const entry = page.current;
  const [{ verdict }, right] = [judge(), rightBoxes()];
  el("send").disabled = true;
  warn("");
  try {
    const before = entry.answers.get(page.here);
    if (entry.report) await answer(entry, page.here); // an answer has one verdict: a new one for a correction
    const { id, error } = entry.answers.get(page.here);
    if (error) {
      entry.answers.set(page.here, before);
      throw new Refusal(error);
    }
    const fields = { request_id: id, verdict, boxes: JSON.stringify(right), comment: el("comment").value };
    const say = async (body) => (await page.here.ask("feedback", { method: "POST", body })).json();
    let said = await say(formOf(null, fields));
    if (said.picture !== "kept") said = await say(formOf(entry.file, fields));
    if (said.picture !== "kept") throw new Refusal("the server did not keep it");
    entry.report = verdict;
    entry.reportId = String(said.kept_as ?? id);
    keepReport(entry.reportId);
    endReport();
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
  el("report").onclick = beginReport;
  el("look").onclick = async () => {
    await lookAtReports();
    announce("Your reports are up to date");
  };
  el("editor").onsubmit = send;
  el("cancel").onclick = endReport;
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
