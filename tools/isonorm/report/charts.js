"use strict";
// The drawing half of the page: small charts as SVG, drawn at the width that they have, and again when it changes. Colours come
// from the style sheet, so that light and dark need no second drawing. Text is always a text node.

const SVG = "http://www.w3.org/2000/svg";

function node(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "rect", "circle", "text", "title"].includes(name);
  const result = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) result.setAttribute(key, value);
  result.append(...children.filter((child) => child !== null && child !== undefined));
  return result;
}

// Four digits at most, without an exponent where a reader does not need one.
function number(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(Math.max(digits - 2, 0)).replace(/\.0+e/, "e").replace("e+", "e");
  if (size >= 1e4) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(digits)));
}

function percent(value) {
  if (value === null) return "–";
  return `${number(value * 100, 3)} %`;
}

function cut(text, length) {
  return text.length > length ? text.slice(0, Math.max(length - 1, 1)) + "…" : text;
}

const tip = document.getElementById("tip");

function hideTip() {
  tip.hidden = true;
}

// lines: the first one is the heading.
function showTip(lines, x, y) {
  tip.replaceChildren(node("b", {}, lines[0]), ...lines.slice(1).map((line) => node("div", {}, line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(x + 14, 6), window.innerWidth - box.width - 6);
  const above = y - box.height - 14;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 6 ? above : y + 18}px`;
}

// Pointer and arrow keys walk over `count` places. place(x, y): which one is there, -1: none. at(i): its middle. lines(i): its words.
function explore(svg, count, place, at, lines, cursor) {
  let current = -1;
  const show = (i) => {
    current = i;
    if (i < 0) return leave();
    const [x, y] = at(i);
    const box = svg.getBoundingClientRect();
    if (cursor) {
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.style.visibility = "visible";
    }
    showTip(lines(i), box.left + x, box.top + y);
  };
  const leave = () => {
    if (cursor) cursor.style.visibility = "hidden";
    hideTip();
  };
  svg.setAttribute("tabindex", "0");
  for (const type of ["pointermove", "pointerdown"]) {
    svg.addEventListener(type, (event) => {
      const box = svg.getBoundingClientRect();
      show(place(event.clientX - box.left, event.clientY - box.top));
    });
  }
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step || count === 0) return;
    event.preventDefault();
    show(Math.min(Math.max(current + step, 0), count - 1));
  });
}

// draw(width) gives an svg; called again whenever the width changes.
function keepDrawn(box, draw) {
  let width = 0;
  const redraw = () => {
    hideTip();
    width = box.clientWidth;
    if (width > 0) box.replaceChildren(draw(width));
  };
  new ResizeObserver(() => {
    if (box.clientWidth !== width) redraw();
  }).observe(box);
  redraw();
  return redraw;
}

function frame(width, height, words) {
  return node("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words, class: "drawn" });
}

// Values where an axis has its lines: decades with 1, 2 and 5 if log, else steps of 1, 2 or 5.
function ticks(low, high, log, wanted = 5) {
  const result = [];
  if (log) {
    const decades = Math.log10(high / low);
    const parts = decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
    const skip = Math.max(1, Math.ceil(decades / 7));
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += 1) {
      if (e % skip !== 0) continue;
      for (const part of parts) {
        const value = part * 10 ** e;
        if (value >= low * 0.999 && value <= high * 1.001) result.push(value);
      }
    }
    return result;
  }
  const raw = (high - low) / wanted || 1;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * base).find((s) => s >= raw);
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i += 1) result.push(i * step);
  return result;
}

// series: {label, colour, dash, points: [{slot, y, words}]}; slots: their words; format(y).
function lineChart(width, { series, slots, log, format, words, axis }) {
  const height = width < 560 ? 250 : 310;
  const left = 54, right = 14, top = 12, bottom = 40;
  const svg = frame(width, height, words);
  const points = series.flatMap((s) => s.points);
  if (points.length === 0) {
    svg.append(node("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing to draw"));
    return svg;
  }
  const all = points.map((p) => p.y).filter((y) => !log || y > 0);
  let low = Math.min(...all), high = Math.max(...all);
  if (log) {
    low /= 1.3;
    high *= 1.3;
  } else {
    low = Math.min(low, 0);
    high = high > low ? high + (high - low) * 0.08 : low + 1;
  }
  const f = log ? Math.log : (v) => v;
  const y = (v) => top + (height - top - bottom) * (1 - (f(Math.max(v, log ? low : v)) - f(low)) / (f(high) - f(low)));
  const pace = (width - left - right) / slots.length;
  const x = (slot) => left + pace * (slot + 0.5);
  for (const value of ticks(low, high, log)) {
    svg.append(node("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
               node("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, format(value)));
  }
  const longest = Math.max(...slots.map((s) => s.length)) * 7 + 10;
  const every = Math.max(1, Math.ceil(longest / pace));
  slots.forEach((word, i) => {
    if (i % every === 0) svg.append(node("text", { x: x(i), y: height - bottom + 18, "text-anchor": "middle" }, word));
  });
  svg.append(node("text", { x: left + (width - left - right) / 2, y: height - 4, "text-anchor": "middle" }, axis));
  const cursor = node("line", { class: "cursor", x1: 0, x2: 0, y1: top, y2: height - bottom });
  svg.append(cursor);
  for (const s of series) {
    const sorted = [...s.points].sort((a, b) => a.slot - b.slot);
    const line = sorted.map((p) => `${x(p.slot).toFixed(1)},${y(p.y).toFixed(1)}`);
    svg.append(node("path", {
      d: `M${line.join("L")}`, fill: "none", stroke: s.colour, "stroke-width": 2.2, "stroke-linejoin": "round", "stroke-dasharray": s.dash,
    }));
    for (const p of sorted) {
      svg.append(node("circle", { cx: x(p.slot), cy: y(p.y), r: slots.length > 60 ? 2 : 3.8, fill: s.colour, stroke: "var(--card)", "stroke-width": 1.2 }));
    }
  }
  const here = (i) => points.filter((p) => p.slot === i);
  explore(svg, slots.length, (px) => Math.min(Math.max(Math.floor((px - left) / pace), 0), slots.length - 1),
          (i) => [x(i), here(i).length ? Math.min(...here(i).map((p) => y(p.y))) : top],
          (i) => [slots[i] === "–" ? "outside the layers" : `layer ${slots[i]}`, ...here(i).slice(0, 12).map((p) => p.words)], cursor);
  return svg;
}

// rows: {name, value, words, colour}, one bar under its name: for tensors that are no layers.
function barChart(width, { rows, log, format, words }) {
  const pitch = 40, height = rows.length * pitch + 8, right = 70;
  const svg = frame(width, height, words);
  const values = rows.map((r) => r.value).filter((v) => v !== null && (!log || v > 0));
  const high = Math.max(...values, 0) || 1, low = log ? Math.min(...values) / 2 : 0;
  const share = (v) => (log ? Math.log(v / low) / Math.log(high / low) : v / high);
  rows.forEach((row, i) => {
    const top = i * pitch;
    const length = row.value === null || (log && row.value <= 0) ? 0 : Math.max(share(row.value) * (width - right), 2);
    svg.append(node("text", { class: "name", x: 0, y: top + 14 }, cut(row.name, Math.floor(width / 7))),
               node("rect", { x: 0, y: top + 20, width: Math.max(length, 0), height: 12, rx: 3, fill: row.colour }),
               node("text", { x: length + 8, y: top + 30 }, format(row.value)));
  });
  explore(svg, rows.length, (px, py) => Math.min(Math.max(Math.floor(py / pitch), 0), rows.length - 1),
          (i) => [Math.min(60, width / 2), i * pitch + 18], (i) => rows[i].words);
  return svg;
}

// rows: {name, profile, lines(share)}; level(factor): 0 to 5, which names a colour. One path for each colour keeps the page light.
function heatMap(width, { rows, level, words, axis }) {
  const left = Math.min(230, Math.round(width * 0.36)), right = 2;
  const pitch = rows.length > 40 ? 14 : 20, bottom = 24;
  const height = rows.length * pitch + bottom;
  const svg = frame(width, height, words);
  const paths = ["", "", "", "", "", ""];
  rows.forEach((row, i) => {
    const cell = (width - left - right) / Math.max(row.profile.length, 1);
    svg.append(node("text", { class: "name", x: 0, y: i * pitch + pitch / 2 + 4 }, cut(row.name, Math.floor((left - 6) / 6.6))));
    row.profile.forEach((factor, c) => {
      paths[level(factor)] += `M${(left + c * cell).toFixed(1)},${i * pitch + 1}h${(cell + 0.3).toFixed(1)}v${pitch - 3}h${(-cell - 0.3).toFixed(1)}z`;
    });
  });
  paths.forEach((d, l) => {
    if (d) svg.append(node("path", { d, fill: `var(--h${l})` }));
  });
  svg.append(node("text", { x: left, y: height - 4 }, axis[0]), node("text", { x: width - right, y: height - 4, "text-anchor": "end" }, axis[1]));
  let share = 0.5;
  explore(svg, rows.length, (px, py) => {
    share = Math.min(Math.max((px - left) / (width - left - right), 0), 0.9999);
    return Math.min(Math.max(Math.floor(py / pitch), 0), rows.length - 1);
  }, (i) => [left + share * (width - left - right), i * pitch], (i) => rows[i].lines(share));
  return svg;
}

// Shares of values in half octaves. series: {label, colour, dash, fill, shares}; guides: {bin, text}.
function histogram(width, { first, series, guides, words }) {
  const height = width < 560 ? 250 : 300;
  const left = 48, right = 12, top = 30, bottom = 40;
  const svg = frame(width, height, words);
  const count = Math.max(...series.map((s) => s.shares.length), 1);
  const high = Math.max(...series.flatMap((s) => s.shares), 0.01) * 1.06;
  const pace = (width - left - right) / count;
  const x = (bin) => left + (bin - first) * pace;
  const y = (share) => top + (height - top - bottom) * (1 - share / high);
  for (const value of ticks(0, high, false, 4)) {
    svg.append(node("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
               node("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, percent(value)));
  }
  // A power of ten is 6.64 half octaves.
  const decade = 2 * Math.log2(10);
  const every = Math.max(1, Math.ceil(52 / (decade * pace)));
  for (let e = Math.ceil(first / decade); e * decade <= first + count; e += 1) {
    const at = x(e * decade);
    svg.append(node("line", { class: "grid", x1: at, x2: at, y1: height - bottom, y2: height - bottom + 5 }));
    if (e % every === 0 && at < width - 16) svg.append(node("text", { x: at, y: height - bottom + 18, "text-anchor": "middle" }, number(10 ** e, 2)));
  }
  svg.append(node("text", { x: left + (width - left - right) / 2, y: height - 4, "text-anchor": "middle" }, "size of a value, |x|"));
  const cursor = node("line", { class: "cursor", x1: 0, x2: 0, y1: top, y2: height - bottom });
  svg.append(cursor);
  for (const s of series) {
    let d = `M${x(first)},${y(0)}`;
    s.shares.forEach((share, i) => { d += `V${y(share).toFixed(1)}h${pace.toFixed(2)}`; });
    d += `V${y(0)}`;
    svg.append(node("path", { d, fill: s.fill ? s.colour : "none", "fill-opacity": 0.22, stroke: s.colour, "stroke-width": s.fill ? 1.2 : 2, "stroke-dasharray": s.dash }));
  }
  let used = -1e9;
  for (const guide of [...guides].sort((a, b) => a.bin - b.bin)) {
    if (guide.bin < first || guide.bin > first + count) continue;
    const at = x(guide.bin), half = guide.text.length * 3.3 + 3;
    svg.append(node("line", { class: "guide", x1: at, x2: at, y1: top - 8, y2: height - bottom }));
    const middle = Math.min(Math.max(at, left + half - 40), width - half);
    if (middle - half < used) continue;  // its words would lie over those before
    used = middle + half;
    svg.append(node("text", { x: middle, y: top - 14, "text-anchor": "middle" }, guide.text));
  }
  explore(svg, count, (px) => Math.min(Math.max(Math.floor((px - left) / pace), 0), count - 1), (i) => [x(first + i + 0.5), top],
          (i) => [`${number(2 ** ((first + i) / 2), 3)} to ${number(2 ** ((first + i + 1) / 2), 3)}`,
                  ...series.map((s) => `${s.label}: ${percent(s.shares[i] ?? 0)}`)], cursor);
  return svg;
}
