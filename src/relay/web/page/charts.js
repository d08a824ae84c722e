"use strict";
// Curves as SVG. Knows no guest: takes numbers, gives elements.

const Charts = (() => {
  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  // The points as pieces of a curve: where a value is missing one ends, and after it another begins.
  const pieces = (points) => {
    const all = [[]];
    for (const point of points) {
      if (point[1] === null) all.push([]);
      else all[all.length - 1].push(point);
    }
    return all.filter((piece) => piece.length > 0);
  };

  // Curves in a box of 100 by 100, from `since` to `until`, from 0 to `most`.
  const curves = (box, points, { since, until, most }, kind) => {
    const x = (at) => (until > since ? (100 * (at - since)) / (until - since) : 100);
    const y = (value) => 100 - (100 * Math.min(value, most)) / most;
    for (const piece of pieces(points)) {
      const line = piece.map(([at, value]) => `${x(at).toFixed(2)},${y(value).toFixed(2)}`).join(" L");
      const [first, last] = [x(piece[0][0]).toFixed(2), x(piece[piece.length - 1][0]).toFixed(2)];
      const group = svg("g", { class: kind });
      group.append(
        svg("path", { class: "below", d: `M${first},100 L${line} L${last},100 Z` }),
        // A single reading is a short stroke.
        svg("path", { class: "curve", d: piece.length > 1 ? `M${line}` : `M${line} h0.5` }),
      );
      box.append(group);
    }
  };

  const box = (kind, label) =>
    svg("svg", { class: kind, viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": label });

  // A small curve of shares, without axes.
  const spark = (points, label) => {
    const it = box("spark", label);
    if (points.length > 0) {
      const [since, until] = [points[0][0], points[points.length - 1][0]];
      curves(it, points, { since, until, most: 100 }, "first");
    }
    return it;
  };

  // A chart of one or two series of the same unit: `{ title, show, most, series: [{ name, points }], clock }`, where `show` and
  // `clock` make texts of a value and of a time, and `most` is the upper end, or null for what the highest value asks for.
  const chart = ({ title, show, most, series, clock }) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const name = document.createElement("span");
    name.textContent = title;
    const newest = document.createElement("output");
    const values = series.map(({ points }) => points[points.length - 1]?.[1] ?? null);
    newest.textContent = values.map(show).join(" / ");
    caption.append(name, newest);
    const all = series.flatMap(({ points }) => points);
    const highest = Math.max(0, ...all.map(([, value]) => value ?? 0));
    const top = most ?? (highest > 0 ? highest * 1.1 : 1);
    const [since, until] = all.length > 0 ? [all[0][0], all[all.length - 1][0]] : [0, 0];
    const label = `${title}: ${values.map(show).join(" and ")} now, ${show(highest)} at most in ${all.length / series.length} readings`;
    const it = box("chart", label);
    for (const y of [0, 50, 100]) it.append(svg("path", { class: "grid", d: `M0,${y} H100` }));
    series.forEach(({ points }, index) => curves(it, points, { since, until, most: top }, index === 0 ? "first" : "second"));
    const axis = document.createElement("p");
    axis.className = "axis";
    const part = (text) => {
      const span = document.createElement("span");
      span.textContent = text;
      axis.append(span);
      return span;
    };
    part(all.length > 0 ? clock(since) : "");
    if (series.length > 1) series.forEach((one, index) => (part(one.name).className = `key-${index + 1}`));
    part(`0 to ${show(top)}`);
    part(all.length > 0 ? clock(until) : "no reading");
    figure.append(caption, it, axis);
    return figure;
  };

  return { spark, chart };
})();
