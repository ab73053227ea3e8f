// A model server: requests with its key, which goes to no other server, and what it says of its model.

import { el, meet, pause } from "./dom.js";

export const HERE = new URL("..", import.meta.url).href; // the server of this page, with a slash at its end
const LOWEST = 0.05; // confidence that servers are asked for; less where a model's own thresholds are lower
const TRIES = 5; // of a request that a busy server refuses
const PATIENCE_SECONDS = 10; // longest Retry-After that is waited for

export class Refusal extends Error {}

export class Server {
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
    meet(this.classes);
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
  const why = tried ? "This server refused the key." : "This server wants a key.";
  const turn = keyTurn.then(() => server.key === tried && !server.declined && askKey(server, why));
  keyTurn = turn;
  await turn;
  if (server.key === tried) throw new Refusal(`${server.name} wants a key`);
}

export function askKey(server, why) {
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

export function formOf(file, fields = {}) {
  const form = new FormData();
  for (const [name, text] of Object.entries(fields)) form.append(name, text);
  if (file) form.append("file", file, "picture"); // its own name may say more than its owner wants
  return form;
}

// A refusal's own words; whatever else went wrong is a surprise, and told in the console.
export function sentence(error) {
  if (error instanceof Refusal) return error.message;
  console.error(error);
  return "the answer cannot be read; is it the same version of the server?";
}
