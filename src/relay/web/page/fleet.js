"use strict";
// The fleet, live. What a guest says is set as text and never as HTML.

(() => {
  const ROWS_MAX = 500; // more rows than a person reads; the filter finds the others
  const SPARK_MAX = 40;
  const NEWS_EVERY = 10_000; // ms; what is read aloud must not chatter
  const AGAIN_AFTER = 5_000; // ms

  const id = (name) => document.getElementById(name);
  const guests = new Map(); // by name: the row, and the points of its spark
  const rows = new Map(); // by name: the elements that are shown
  const sort = { by: "vm", descending: false };
  let ahead = 0; // ms that the relay's clock is before this one
  let active = null; // the guest whose link is in the order of Tab
  let opened = null; // the guest whose page is shown

  // ---- words and figures

  const element = (name, text = "", kind = "") => {
    const it = document.createElement(name);
    if (text !== "") it.textContent = text;
    if (kind !== "") it.className = kind;
    return it;
  };
  const percent = (value) => (value === null || value === undefined ? "–" : `${value.toFixed(value < 100 ? 1 : 0)} %`);
  const number = (value) => (value === null ? "–" : value.toFixed(2));
  const bytes = (value) => {
    if (value === null) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
    return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
  };
  const rate = (value) => (value === null ? "–" : `${bytes(value)}/s`);
  const age = (at) => {
    if (at === 0) return "–";
    const seconds = Math.max(0, Math.round((Date.now() + ahead - at) / 1000));
    if (seconds < 100) return `${seconds} s`;
    if (seconds < 6000) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
    return `${Math.floor(seconds / 86_400)} d`;
  };
  // The reader's own time, as ISO 8601 has it.
  const clock = (at) => new Date(at).toLocaleTimeString("sv");
  const day = (at) => new Date(at).toLocaleString("sv");
  // As the relay writes a name into a subject: one part of a path, whatever is in it.
  const escaped = (vm) =>
    [...new TextEncoder().encode(vm)]
      .map((byte) => {
        const letter = String.fromCharCode(byte);
        return /[A-Za-z0-9_-]/.test(letter) ? letter : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
      })
      .join("");
  const address = (vm) => `/guests/${escaped(vm)}`;
  const place = (vm) => `#/guest/${encodeURIComponent(vm)}`;

  // ---- the table

  const collator = new Intl.Collator(undefined, { numeric: true });
  const worth = (guest) => guest[sort.by] ?? (sort.by === "vm" ? "" : -1);
  const compare = (one, other) => {
    const [a, b] = [worth(one), worth(other)];
    const order = typeof a === "string" && typeof b === "string" ? collator.compare(a, b) : a < b ? -1 : a > b ? 1 : 0;
    return (sort.descending ? -order : order) || collator.compare(one.vm, other.vm);
  };

  const makeRow = (vm) => {
    const row = element("tr");
    const name = element("th");
    name.scope = "row";
    const link = element("a", vm);
    link.href = place(vm);
    link.tabIndex = -1;
    name.append(link);
    row.append(name);
    const kinds = ["", "number", "wide", "number", "number", "number", "number", "wide", "wide event"];
    const cells = kinds.map((kind) => element("td", "", kind));
    row.append(...cells);
    row.addEventListener("click", (event) => {
      if (event.target !== link && String(getSelection()) === "") location.hash = place(vm);
    });
    link.addEventListener("focus", () => activate(vm));
    row.dataset.vm = vm;
    inSight.observe(row);
    return { row, link, cells, isSeen: false, drawn: null };
  };

  // Only rows that are seen are kept up: of a thousand guests that would be all that a browser does.
  const inSight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const vm = target.dataset.vm;
      if (!rows.has(vm)) continue;
      rows.get(vm).isSeen = isIntersecting;
      if (isIntersecting && guests.has(vm)) fill(rows.get(vm), guests.get(vm));
    }
  });

  const set = (cell, text, kind = null) => {
    if (cell.textContent !== text) cell.textContent = text;
    if (kind !== null) cell.className = kind;
  };
  const full = (value) => (value !== null && value >= 90 ? "number full" : "number");

  const fill = (shown, guest) => {
    const [state, cpu, spark, memory, disk, lost, last, version, event] = shown.cells;
    set(state, guest.state, guest.state);
    set(cpu, percent(guest.cpu), full(guest.cpu));
    set(memory, percent(guest.memory), full(guest.memory));
    set(disk, percent(guest.disk), full(guest.disk));
    set(lost, guest.lost.toLocaleString("en"), guest.lost > 0 ? "number lossy" : "number");
    set(last, age(guest.last));
    set(version, guest.version ?? "–");
    set(event, guest.event?.text ?? "–", `wide event ${severity(guest.event)}`);
    event.title = guest.event ? `${day(guest.event.at)}: ${guest.event.text}` : "";
    const newest = guest.spark[guest.spark.length - 1]?.[0] ?? 0;
    if (shown.drawn !== newest) {
      spark.replaceChildren(Charts.spark(guest.spark, `CPU in the last ${guest.spark.length} readings`));
      shown.drawn = newest;
    }
  };
  const severity = (event) => (["warn", "error"].includes(event?.severity) ? event.severity : "");

  const activate = (vm) => {
    if (active !== null && rows.has(active)) rows.get(active).link.tabIndex = -1;
    active = vm;
    if (vm !== null && rows.has(vm)) rows.get(vm).link.tabIndex = 0;
  };

  const draw = () => {
    const all = [...guests.values()];
    const count = (state) => all.filter((guest) => guest.state === state).length;
    const lost = all.reduce((sum, guest) => sum + guest.lost, 0);
    const guestsOf = all.length === 1 ? "1 guest" : `${all.length} guests`;
    set(id("counts"), `${guestsOf}: ${count("up")} up, ${count("down")} down, ${count("never")} never heard; ${lost.toLocaleString("en")} lost`);
    if (opened !== null) return;
    const wanted = id("filter").value.trim().toLowerCase();
    const fits = (guest) => [guest.vm, guest.state, guest.version ?? ""].some((text) => text.toLowerCase().includes(wanted));
    const fitting = all.filter(fits).sort(compare);
    const shown = fitting.slice(0, ROWS_MAX);
    const body = id("guests").tBodies[0];
    const focused = document.activeElement;
    for (const guest of shown) {
      if (!rows.has(guest.vm)) rows.set(guest.vm, makeRow(guest.vm));
      if (rows.get(guest.vm).isSeen) fill(rows.get(guest.vm), guest);
    }
    // Only what is at another place is moved: a focus stays where it is.
    shown.forEach((guest, index) => {
      const { row } = rows.get(guest.vm);
      if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
    });
    const kept = new Set(shown.map((guest) => guest.vm));
    for (const [vm, { row }] of rows) {
      if (kept.has(vm)) continue;
      inSight.unobserve(row);
      row.remove();
      rows.delete(vm);
    }
    if (body.contains(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
    if (!kept.has(active)) activate(shown[0]?.vm ?? null);
    id("none").hidden = all.length > 0;
    id("guests").hidden = all.length === 0;
    const text = fitting.length > shown.length ? `the first ${shown.length} of ${fitting.length}; filter to see others` : wanted === "" ? "" : `${shown.length} of ${all.length}`;
    set(id("shown"), text);
  };

  const keys = (event) => {
    const links = [...id("guests").tBodies[0].querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: links.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    links[Math.min(Math.max(next, 0), links.length - 1)].focus();
  };

  // ---- one guest

  const pairs = (list, entries) => {
    list.replaceChildren(
      ...entries.map(([name, value, kind]) => {
        const pair = element("div");
        pair.append(element("dt", name), element("dd", value, kind ?? ""));
        return pair;
      }),
    );
  };

  const drawGuest = (guest) => {
    set(id("guest-title"), guest.vm);
    pairs(id("facts"), [
      ["State", guest.state, guest.state],
      ["Last line", guest.last === 0 ? "–" : `${age(guest.last)} ago`],
      ["Agent", guest.version ?? "–"],
      ["Memory", percent(guest.memory)],
      ["Disk (fullest)", percent(guest.disk)],
      ["Lost", guest.lost.toLocaleString("en")],
    ]);
    const points = (key) => guest.readings.map((reading) => [reading.at, reading[key]]);
    const one = (key) => [{ name: key, points: points(key) }];
    const traffic = ["received", "sent"].flatMap(one);
    id("charts").replaceChildren(
      Charts.chart({ title: "CPU", show: percent, most: 100, series: one("cpu"), clock }),
      Charts.chart({ title: "Memory", show: percent, most: 100, series: one("memory"), clock }),
      Charts.chart({ title: "Disk, the fullest", show: percent, most: 100, series: one("disk"), clock }),
      Charts.chart({ title: "Network", show: rate, most: null, series: traffic, clock }),
      Charts.chart({ title: "Load, one minute", show: number, most: null, series: one("load"), clock }),
    );
    id("processes").tBodies[0].replaceChildren(
      ...guest.processes.map((process) => {
        const row = element("tr");
        const name = element("th", process.name);
        name.scope = "row";
        row.append(
          element("td", String(process.pid), "number"),
          name,
          element("td", percent(process.cpu), "number"),
          element("td", bytes(process.memory_bytes), "number"),
          element("td", process.status),
        );
        return row;
      }),
    );
    id("processes").hidden = guest.processes.length === 0;
    id("no-processes").hidden = guest.processes.length > 0;
    id("events").replaceChildren(
      ...guest.events.toReversed().map((event) => {
        const item = element("li");
        const time = element("time", day(event.at));
        time.dateTime = new Date(event.at).toISOString();
        item.append(time);
        if (event.severity !== "") item.append(element("span", event.severity, severity(event)));
        item.append(element("span", event.text));
        return item;
      }),
    );
    id("no-events").hidden = guest.events.length > 0;
    const counted = Object.entries(guest.counts).flatMap(([family, values]) =>
      Object.entries(values).map(([label, times]) => [`${family}, ${label.replaceAll("_", " ")}`, times.toLocaleString("en")]),
    );
    pairs(id("counted"), counted);
  };

  let asking = false;
  const ask = async () => {
    const vm = opened;
    if (vm === null || asking) return;
    asking = true;
    try {
      const answer = await fetch(address(vm));
      if (answer.status === 401) return location.assign("/login");
      const guest = answer.ok ? await answer.json() : null;
      if (vm !== opened) return;
      if (guest === null) set(id("guest-title"), `${vm} is not here`);
      else drawGuest(guest);
    } catch {
      // The relay is away, which the head of the page says; the next event asks again.
    } finally {
      asking = false;
      if (vm !== opened) ask();
    }
  };

  const route = () => {
    const before = opened;
    const match = /^#\/guest\/(.+)$/.exec(location.hash);
    try {
      opened = match === null ? null : decodeURIComponent(match[1]);
    } catch {
      opened = null;
    }
    id("fleet").hidden = opened !== null;
    id("guest").hidden = opened === null;
    id("skip").textContent = opened === null ? "To the guests" : "To the guest";
    Commands.open(opened, opened === null ? "" : `${address(opened)}/command`);
    document.title = opened === null ? "Guests" : `${opened} – guests`;
    if (opened !== null) {
      set(id("guest-title"), opened);
      for (const list of ["facts", "charts", "events", "counted"]) id(list).replaceChildren();
      id("processes").tBodies[0].replaceChildren();
      id("guest-title").focus();
      ask();
    } else {
      draw();
      if (before !== null && rows.has(before)) rows.get(before).link.focus();
    }
  };

  // ---- what comes

  const news = { states: new Map(), said: 0, timer: null };
  const tell = () => {
    news.timer = null;
    news.said = Date.now();
    const changed = [...news.states].filter(([vm, state]) => guests.get(vm)?.state === state);
    news.states.clear();
    if (changed.length === 0) return;
    const text = changed.slice(0, 3).map(([vm, state]) => `${vm} is ${state}`).join(", ");
    set(id("news"), changed.length > 3 ? `${text} and ${changed.length - 3} more have changed` : text);
  };
  const changedState = (vm, state) => {
    news.states.set(vm, state);
    news.timer ??= setTimeout(tell, Math.max(1000, news.said + NEWS_EVERY - Date.now()));
  };

  const take = (row) => {
    const before = guests.get(row.vm);
    const spark = row.spark ?? before?.spark ?? [];
    const newest = spark[spark.length - 1]?.[0] ?? 0;
    if (row.at !== null && row.at > newest) spark.push([row.at, row.cpu]);
    if (spark.length > SPARK_MAX) spark.splice(0, spark.length - SPARK_MAX);
    if (before !== undefined && before.state !== row.state) changedState(row.vm, row.state);
    guests.set(row.vm, { ...row, spark });
  };

  const linked = (text, live) => {
    set(id("link"), text);
    id("link").classList.toggle("live", live);
  };

  const listen = () => {
    const events = new EventSource("/events");
    events.addEventListener("fleet", ({ data }) => {
      const fleet = JSON.parse(data);
      ahead = fleet.now - Date.now();
      const names = new Set(fleet.guests.map((row) => row.vm));
      for (const vm of guests.keys()) if (!names.has(vm)) guests.delete(vm);
      fleet.guests.forEach(take);
      set(id("site"), fleet.site);
      linked("live", true);
      draw();
      ask();
    });
    events.addEventListener("changes", ({ data }) => {
      const { now, changed, gone } = JSON.parse(data);
      ahead = now - Date.now();
      changed.forEach(take);
      gone.forEach((vm) => guests.delete(vm));
      draw();
      if (changed.some((row) => row.vm === opened) || gone.includes(opened)) ask();
    });
    events.addEventListener("error", async () => {
      linked("not connected", false);
      if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      events.close();
      const answer = await fetch("/guests/").catch(() => null);
      if (answer?.status === 401) location.assign("/login");
      else setTimeout(listen, AGAIN_AFTER);
    });
  };

  for (const head of id("guests").tHead.querySelectorAll("th[data-sort]")) {
    head.querySelector("button").addEventListener("click", () => {
      const by = head.dataset.sort;
      const falls = !["vm", "state", "version"].includes(by);
      sort.descending = sort.by === by ? !sort.descending : falls;
      sort.by = by;
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
      draw();
    });
  }
  id("guests").addEventListener("keydown", keys);
  id("filter").addEventListener("input", draw);
  id("filter").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" || active === null) return;
    event.preventDefault();
    rows.get(active)?.link.focus();
  });
  id("skip").addEventListener("click", (event) => {
    event.preventDefault();
    id("main").focus();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = Boolean(document.activeElement?.closest("form"));
    if (event.key === "Escape" && opened !== null && !isTyping) location.hash = "";
    if (event.key === "/" && opened === null && !(document.activeElement instanceof HTMLInputElement)) {
      event.preventDefault();
      id("filter").focus();
    }
  });
  addEventListener("hashchange", route);
  // Ages grow while nothing comes.
  const grow = () => {
    for (const [vm, { cells, isSeen }] of rows) if (isSeen && guests.has(vm)) set(cells[6], age(guests.get(vm).last));
  };
  setInterval(grow, 1000);

  route();
  listen();
})();
