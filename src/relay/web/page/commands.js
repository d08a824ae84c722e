"use strict";
// Commands for the guest that is shown, where the relay takes them. What the guest answers is set as text and never as HTML.

const Commands = (() => {
  const id = (name) => document.getElementById(name);
  let offer = { timeout: 1, actions: [] };
  let shown = null; // the guest that is shown, and where its commands go: { vm, address }
  let isWaiting = false;

  const chosen = () => offer.actions[id("action").selectedIndex];

  // ---- the form

  const field = ({ name, is_text, is_needed }) => {
    const label = document.createElement("label");
    label.textContent = is_needed ? name : `${name} (may be left out)`;
    const input = document.createElement("input");
    Object.assign(input, { name, required: is_needed, autocomplete: "off", spellcheck: false });
    input.dataset.kind = is_text ? "text" : "json";
    label.append(input);
    return label;
  };

  // For arguments that are known in words only.
  const anything = (takes) => {
    const label = field({ name: `Arguments as a JSON object: ${takes}`, is_text: false, is_needed: true });
    Object.assign(label.querySelector("input"), { name: "", value: "{}" });
    return label;
  };

  const choose = () => {
    const { does, takes, parameters } = chosen();
    id("does").textContent = takes === "" ? does : `${does}; takes ${takes}`;
    id("parameters").replaceChildren(...(parameters === null ? [anything(takes)] : parameters.map(field)));
  };

  const draw = () => {
    id("commands").hidden = shown === null || offer.actions.length === 0;
    id("run").textContent = shown === null ? "Run" : `Run on ${shown.vm}`;
    id("run").disabled = isWaiting;
  };

  // A number, a flag, a list or an object where it reads as one, else a text.
  const typed = (text) => {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  };

  const message = () => {
    const { type, name } = chosen();
    const values = {};
    for (const input of id("parameters").querySelectorAll("input")) {
      if (input.value === "") continue;
      const value = input.dataset.kind === "text" ? input.value : typed(input.value);
      if (input.name === "") Object.assign(values, value);
      else values[input.name] = value;
    }
    const random = crypto.getRandomValues(new Uint8Array(16));
    const number = [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const head = { type, id: number, timeout: Number(id("timeout").value) };
    return type === "SafeCommand" ? { ...head, command_type: { action: name, ...values } } : { ...head, ...values };
  };

  // ---- the answer

  const tell = (text, kind, answer = "") => {
    id("outcome").textContent = text;
    id("outcome").className = kind;
    id("answer").textContent = answer;
    id("answer").hidden = answer === "";
  };

  const show = (name, { error, line }) => {
    if (error !== undefined) return tell(`${name} did not get an answer: ${error.message}`, "error");
    const data = line.data && JSON.stringify(line.data, null, 2);
    const parts = new Set([line.error, line.stdout, line.stderr, data].map((part) => part?.trim()));
    const code = Number.isInteger(line.exit_code) ? `, exit code ${line.exit_code}` : "";
    const text = `${name} ${line.success ? "succeeded" : "failed"} after ${line.execution_time_ms} ms${code}`;
    tell(text, line.success ? "up" : "error", [...parts].filter((part) => part).join("\n"));
  };

  const send = async (event) => {
    event.preventDefault();
    if (isWaiting || shown === null) return;
    const [to, { name }] = [shown, chosen()];
    isWaiting = true;
    draw();
    tell(`${name}: waiting for ${to.vm}`, "");
    try {
      const headers = { "Content-Type": "application/json" };
      const reply = await fetch(to.address, { method: "POST", headers, body: JSON.stringify(message()) });
      if (reply.status === 401) return location.assign("/login");
      const isJson = reply.headers.get("Content-Type") === "application/json";
      const what = isJson ? await reply.json() : { error: { message: await reply.text() } };
      if (shown?.vm === to.vm) show(name, what);
    } catch {
      if (shown?.vm === to.vm) tell(`${name}: the relay is not reached; the command may have run`, "error");
    } finally {
      isWaiting = false;
      draw();
    }
  };

  id("action").addEventListener("change", choose);
  id("command").addEventListener("submit", send);

  fetch("/actions").then(async (reply) => {
    if (!reply.ok) return;
    offer = await reply.json();
    if (offer.actions.length === 0) return;
    id("action").replaceChildren(...offer.actions.map(({ name }) => new Option(name)));
    id("timeout").max = offer.timeout;
    id("timeout").value = Math.min(30, offer.timeout);
    choose();
    draw();
  }, () => {});

  return {
    // The guest `vm` is shown, whose commands go to `address`; null where none is.
    open: (vm, address) => {
      if (shown?.vm !== vm) tell("", "");
      shown = vm === null ? null : { vm, address };
      draw();
    },
  };
})();
