// The telling half of the page: reads the JSON that `isonorm stats --json` prints, says what it shows, and has the charts drawn.

const data = JSON.parse(document.getElementById("data").textContent);
const tensors = data.tensors;
const filled = tensors.filter((t) => t.rms !== null);
const byId = (id) => document.getElementById(id);
const COLOURS = 8, MOST_SERIES = 24, MOST_ROWS = 60;

// ---- names: without the parts that all of them have in common

function shortener(names) {
  const parts = [...new Set(names)].map((name) => name.split("."));
  let head = 0, tail = 0;
  const least = Math.min(...parts.map((p) => p.length));
  while (parts.length > 1 && head < least - 1 && parts.every((p) => p[head] === parts[0][head])) head += 1;
  while (parts.length > 1 && tail < least - 1 - head && parts.every((p) => p[p.length - 1 - tail] === parts[0][parts[0].length - 1 - tail])) tail += 1;
  return (name) => name.split(".").slice(head, name.split(".").length - tail).join(".");
}
const shortName = shortener(tensors.map((t) => t.name)), shortSeries = shortener(tensors.map((t) => t.series));
// Files that hold the same names are told apart; files of other names, one for each layer perhaps, belong together.
const alike = data.same_names.length > 0;
const fileName = (index) => data.files[index].path.split("/").pop();
// What a name says besides its layer; the words before the number go too, if they are the same everywhere.
const beforeLayer = new Set(tensors.filter((t) => t.layer !== null).map((t) => shortSeries(t.series).split("*")[0]));
function part(t) {
  if (t.layer === null) return shortName(t.name);
  const [before, ...after] = shortSeries(t.series).split("*");
  return ((beforeLayer.size > 1 ? before : "") + after.join("*")).replace(/^[._/-]+/, "").replace(/[._/-]{2,}/, ".");
}
const short = (t) => (t.layer === null ? part(t) : `layer ${t.layer} ${part(t)}`.trim());
const inFile = (t) => (alike ? ` (${fileName(t.file).replace(/\.(safetensors|npy)$/, "")})` : "");
const label = (t) => short(t) + inFile(t);

const most = (list, value) => list.reduce((best, t) => (value(t) !== null && (best === null || value(t) > value(best)) ? t : best), null);
const least = (list, value) => most(list, (t) => (value(t) === null ? null : -value(t)));
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const degrees = (cosine) => (cosine === null ? null : (Math.acos(Math.min(Math.max(cosine, -1), 1)) * 180) / Math.PI);
const worstFactor = (t) => (t.channels.worst.length ? t.channels.worst[0].factor : null);

// ---- in short

function finding(title, big, unit, text, look) {
  byId("findings").append(node("div", { class: look ? "finding look" : "finding" }, node("h3", {}, title),
                               node("p", { class: "big" }, big, node("small", {}, unit)), node("p", {}, text)));
}

function findings() {
  const small = least(filled, (t) => t.rms), large = most(filled, (t) => t.rms);
  if (small !== null) {
    const range = small === large || small.rms === large.rms ? number(large.rms, 3) : `${number(small.rms, 3)} to ${number(large.rms, 3)}`;
    const growth = small.rms > 0 && small !== large ? `, ${number(large.rms / small.rms, 3)} times as much` : "";
    finding("RMS", range, "", small === large ? label(large) : `least in ${label(small)}, most in ${label(large)}${growth}`, large.rms > 1000 || small.rms < 1e-4);
  }
  const drift = most(filled, (t) => t.drift), apart = least(filled, (t) => t.norms.cosine_min.value);
  if (drift !== null) {
    const angle = apart === null ? "" : `; LayerNorm turns rows by ${number(degrees(apart.norms.cosine_min.value), 2)}° at most`;
    finding("Mean drift", number(drift.drift, 3), " of the RMS at most", `in ${label(drift)}${angle}`, drift.drift > 0.3);
  }
  const loud = filled.filter((t) => t.channels.outliers > 0), worst = most(filled, worstFactor);
  if (worst !== null) {
    finding("Outlier channels", loud.length ? `×${number(worstFactor(worst), 3)}` : "none", loud.length ? " the median" : "",
            `channel ${worst.channels.worst[0].channel} of ${label(worst)}${loud.length ? `; ${loud.length} of ${plural(tensors.length, "tensor")} have some` : ` is the loudest, ×${number(worstFactor(worst), 3)}`}`,
            loud.length > 0);
  }
  const sum = (value) => tensors.reduce((total, t) => total + value(t), 0);
  const troubles = [[sum((t) => t.nan + t.infinite), "value is not finite", "values are not finite"],
                    [sum((t) => t.f16.overflow), "value is too large for f16", "values are too large for f16"],
                    [sum((t) => t.plain_sum.f32_overflow_rows), "row overflows a plain f32 sum", "rows overflow a plain f32 sum"],
                    [sum((t) => t.plain_sum.f32_vanish_rows), "row vanishes in a plain f32 sum", "rows vanish in a plain f32 sum"],
                    [sum((t) => t.plain_sum.f16_overflow_rows), "row overflows a sum in f16", "rows overflow a sum in f16"],
                    [sum((t) => t.f16.to_zero), "value becomes zero in f16", "values become zero in f16"]].filter((t) => t[0] > 0);
  const text = troubles.map(([n, one, many]) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`).join(", ");
  finding("Number formats", troubles.length ? `${troubles.length} to look at` : "all clear", "",
          text || "every value is finite and fits f16; no row needs a scaled sum of squares", troubles.length > 0);
}

// ---- charts over the tensors

const layers = [...new Set(filled.filter((t) => t.layer !== null).map((t) => t.layer))].sort((a, b) => a - b);
const outside = filled.some((t) => t.layer === null);
const slots = [...(outside ? ["–"] : []), ...layers.map(String)];
const slotOf = (t) => (t.layer === null ? 0 : layers.indexOf(t.layer) + (outside ? 1 : 0));

function seriesOf(list, value, words) {
  const groups = new Map();
  for (const t of list) {
    const key = alike ? `${t.file} ${t.series}` : t.series;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(t);
  }
  return [...groups.values()].slice(0, MOST_SERIES).map((group, i) => ({
    label: (part(group[0]) || "layers") + inFile(group[0]),
    colour: `var(--c${i % COLOURS})`,
    dash: ["none", "7 4", "2 3"][Math.floor(i / COLOURS)],
    points: group.map((t) => ({ slot: slotOf(t), y: value(t), words: words(t) })),
  }));
}

// One value of each tensor: lines over the layers, or bars where there are no layers.
function overTensors(id, { value, format, words, title }) {
  const box = byId(id), shown = filled.filter((t) => value(t) !== null);
  if (shown.length === 0) return box.closest("section").remove();
  const values = shown.map(value).filter((v) => v > 0);
  const log = values.length > 1 && Math.max(...values) / Math.min(...values) > 30;
  if (layers.length < 2) {
    const rows = shown.slice(0, MOST_ROWS).map((t) => ({ name: label(t), value: value(t), words: [label(t), words(t)], colour: `var(--c${t.file % COLOURS})` }));
    keepDrawn(box, (width) => barChart(width, { rows, log, format, words: title }));
    return;
  }
  const series = seriesOf(shown, value, (t) => `${label(t)}: ${words(t)}`);
  const hidden = new Set();
  const legend = node("div", { class: "legend" });
  box.before(legend);
  const axis = outside ? "layer (–: outside the layers)" : "layer";
  const redraw = keepDrawn(box, (width) => lineChart(width, {
    series: series.filter((s) => !hidden.has(s)), slots, log, format, axis, words: title,
  }));
  for (const s of series) {
    const button = node("button", { type: "button", "aria-pressed": "true" }, swatch(s), node("span", {}, s.label));
    button.addEventListener("click", () => {
      if (!hidden.delete(s)) hidden.add(s);
      button.setAttribute("aria-pressed", String(!hidden.has(s)));
      redraw();
    });
    legend.append(button);
  }
}

function swatch(s) {
  const mark = s.fill ? node("rect", { x: 1, y: 1, width: 20, height: 10, rx: 2, fill: s.colour, "fill-opacity": 0.35, stroke: s.colour })
                      : node("line", { x1: 0, x2: 22, y1: 6, y2: 6, stroke: s.colour, "stroke-width": 2.6, "stroke-dasharray": s.dash });
  return node("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" }, mark);
}

function see(id, text) {
  byId(id)?.replaceChildren(text);  // its section may be gone
}

// Between the first and the last layer, in the series where most happens.
function trend() {
  let best = null;
  for (const name of new Set(filled.filter((t) => t.layer !== null && t.rms > 0).map((t) => t.series))) {
    const group = filled.filter((t) => t.series === name && (!alike || t.file === 0) && t.rms > 0).sort((a, b) => a.layer - b.layer);
    if (group.length < 2) continue;
    const from = group[0], to = group[group.length - 1], change = Math.abs(Math.log(to.rms / from.rms));
    if (best === null || change > best.change) best = { from, to, change };
  }
  if (best === null) return "";
  if (best.change < Math.log(1.2)) return "From the first to the last layer it changes by less than a fifth.";
  return `From ${label(best.from)} to ${label(best.to)} it goes from ${number(best.from.rms, 3)} to ${number(best.to.rms, 3)}.`;
}

function overviews() {
  overTensors("chart-rms", {
    value: (t) => t.rms, format: (v) => number(v, 3), title: "RMS of each tensor, over the layers",
    words: (t) => `${number(t.rms)}; rows from ${number(t.row_rms_min.value, 3)} to ${number(t.row_rms_max.value, 3)}`,
  });
  const loud = most(filled, (t) => (t.rms > 0 ? t.row_rms_max.value / t.rms : null));
  const row = loud !== null && loud.row_rms_max.value > 3 * loud.rms
    ? ` Single rows stand out: row ${loud.row_rms_max.row} of ${label(loud)} has an RMS of ${number(loud.row_rms_max.value, 3)}, ` +
      `${number(loud.row_rms_max.value / loud.rms, 3)} times that of the whole tensor.` : "";
  see("see-rms", trend() + row);
  overTensors("chart-drift", {
    value: (t) => t.drift, format: (v) => number(v, 3), title: "Mean drift of each tensor, over the layers",
    words: (t) => `${number(t.drift, 3)}; ${number(t.drift_max.value, 3)} in row ${t.drift_max.row}`,
  });
  const drift = most(filled, (t) => t.drift_max.value);
  if (drift !== null) {
    see("see-drift", drift.drift_max.value < 0.1
      ? `Here it stays below ${number(drift.drift_max.value * 1.0005, 3)} in every row: the means hardly matter.`
      : `The largest of any row is ${number(drift.drift_max.value, 3)}, in row ${drift.drift_max.row} of ${label(drift)}.`);
  }
  overTensors("chart-angle", {
    value: (t) => degrees(t.norms.cosine_min.value), format: (v) => `${number(v, 3)}°`, title: "Angle between LayerNorm and RMSNorm, over the layers",
    words: (t) => `${number(degrees(t.norms.cosine_min.value), 3)}° in row ${t.norms.cosine_min.row}`,
  });
  const apart = least(filled, (t) => t.norms.cosine_min.value);
  see("see-angle", apart === null ? "" : `They are farthest apart in row ${apart.norms.cosine_min.row} of ${label(apart)}: ${number(degrees(apart.norms.cosine_min.value), 3)}°, ` +
    `cosine ${apart.norms.cosine_min.value.toFixed(6)}.`);
}

// ---- channels

function channels() {
  const t0 = data.outlier_factor, steps = [t0 / 4, t0 / 2, t0, 2 * t0, 4 * t0];
  const level = (factor) => (factor === null ? 0 : steps.filter((step) => factor >= step).length);
  const names = [`below ×${number(steps[0], 2)}`, ...steps.map((step, i) => (i === 4 ? `×${number(step, 3)} and more` : `from ×${number(step, 3)}`))];
  names.forEach((name, i) => byId("legend-channels").append(node("span", { class: "key" }, swatch({ fill: true, colour: `var(--h${i})` }), name)));
  for (const rect of byId("legend-channels").querySelectorAll("rect")) rect.setAttribute("fill-opacity", 1);
  let shown = filled.filter((t) => t.profile && t.profile.length > 1);
  const all = shown.length;
  if (all === 0) return byId("chart-channels").closest("section").remove();
  if (all > MOST_ROWS) {
    const keep = new Set([...shown].sort((a, b) => worstFactor(b) - worstFactor(a)).slice(0, MOST_ROWS));
    shown = shown.filter((t) => keep.has(t));
  }
  const rows = shown.map((t) => ({
    name: short(t), profile: t.profile,
    lines: (share) => {
      const slice = Math.floor(share * t.profile.length);
      const from = Math.floor((slice * t.cols) / t.profile.length), to = Math.floor(((slice + 1) * t.cols) / t.profile.length) - 1;
      const worst = t.channels.worst.slice(0, 3).map((c) => `#${c.channel} ×${number(c.factor, 3)}`).join(", ");
      return [label(t), `${from === to ? `channel ${from}` : `channels ${from} to ${to}`}: ×${number(t.profile[slice], 3)}`, `loudest: ${worst}`];
    },
  }));
  const widths = new Set(shown.map((t) => t.cols));
  const axis = widths.size === 1 ? ["channel 0", `channel ${[...widths][0] - 1}`] : ["first channel", "last channel"];
  keepDrawn(byId("chart-channels"), (width) => heatMap(width, { rows, level, axis, words: "Channels of each tensor, coloured by their RMS over the median" }));
  const loud = filled.filter((t) => t.channels.outliers > 0), worst = most(filled, worstFactor);
  const often = new Map();
  for (const t of loud) {
    for (const c of t.channels.worst.filter((w) => w.factor >= t0)) {
      const seen = often.get(c.channel) ?? { channel: c.channel, count: 0, factor: 0 };
      often.set(c.channel, { ...seen, count: seen.count + 1, factor: Math.max(seen.factor, c.factor) });
    }
  }
  const top = [...often.values()].sort((a, b) => b.count - a.count || b.factor - a.factor).slice(0, 6);
  see("see-channels", (loud.length === 0
    ? `No channel reaches ×${number(t0)}; the loudest is channel ${worst.channels.worst[0].channel} of ${label(worst)}, ×${number(worstFactor(worst), 3)}.`
    : `The loudest is channel ${worst.channels.worst[0].channel} of ${label(worst)}, ×${number(worstFactor(worst), 3)}.`) +
    (top.length && top[0].count > 1 ? ` Channel ${top[0].channel} is one in ${top[0].count} tensors: loud channels keep their place.` : "") +
    (all > shown.length ? ` Of ${all} tensors the ${shown.length} with the loudest channels are drawn.` : ""));
  byId("top-channels").append(...top.map((c) => node("li", {}, node("b", {}, `#${c.channel}`), node("span", {}, ` in ${plural(c.count, "tensor")}, up to ×${number(c.factor, 3)}`))));
}

// ---- one tensor

function shares(counts) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  return counts.map((n) => (total > 0 ? n / total : 0));
}

// Drops the ends where no kind has more than a thousandth of its values, but never what is largest before the norm.
function trimmed(t) {
  const h = t.histogram;
  const kinds = [h.before, h.rms_norm, h.layer_norm].map(shares);
  let begin = 0;
  while (begin < kinds[0].length - 8 && kinds.every((k) => (k[begin] ?? 0) < 0.001)) begin += 1;
  return { first: h.first_half_octave + begin, kinds: kinds.map((k) => k.slice(begin)), cut: begin > 0 };
}

// The median size after RMSNorm says how much of a row the few large values take.
function middle(t) {
  const counts = t.histogram.rms_norm, total = counts.reduce((sum, n) => sum + n, 0);
  let seen = 0, at = 0;
  while (at < counts.length && seen + counts[at] < total / 2) seen += counts[at++];
  if (total < 100) return "";
  const bin = t.histogram.first_half_octave + at + (total / 2 - seen) / counts[at];
  return `After RMSNorm half of the values are below ${number(2 ** (bin / 2), 2)}; it would be 0.67 for a bell curve.`;
}

function facts(t) {
  const rows = [
    ["RMS", number(t.rms)], ["mean", number(t.mean)],
    ["RMS of a row", `${number(t.row_rms_min.value, 3)} (row ${t.row_rms_min.row}) to ${number(t.row_rms_max.value, 3)} (row ${t.row_rms_max.row})`],
    ["largest |x|", `${number(t.max_abs.value)} at row ${t.max_abs.row}, channel ${t.max_abs.channel}`],
    ["after RMSNorm", `mean ${number(t.norms.rms_norm.mean, 3)}, std ${number(t.norms.rms_norm.std)}`],
    ["after LayerNorm", `mean ${number(t.norms.layer_norm.mean, 3)}, std ${number(t.norms.layer_norm.std)}`],
    ["cosine of the two", t.norms.cosine_mean === null ? "–" : `${t.norms.cosine_mean.toFixed(6)} on average`],
    ["zeros", t.zeros.toLocaleString("en")], ["not finite", (t.nan + t.infinite).toLocaleString("en"), t.nan + t.infinite > 0],
    ["f16: too large", t.f16.overflow.toLocaleString("en"), t.f16.overflow > 0],
    ["f16: subnormal", `${t.f16.subnormal.toLocaleString("en")}, of which zero ${t.f16.to_zero.toLocaleString("en")}`],
    ["rows a plain f32 sum loses", (t.plain_sum.f32_overflow_rows + t.plain_sum.f32_vanish_rows).toLocaleString("en"),
     t.plain_sum.f32_overflow_rows + t.plain_sum.f32_vanish_rows > 0],
  ];
  byId("facts").replaceChildren(...rows.map(([name, value, look]) => node("div", look ? { class: "look" } : {}, node("dt", {}, name), node("dd", {}, value))));
}

function oneTensor() {
  const shown = filled.filter((t) => t.histogram && t.histogram.before.length > 0);
  const select = byId("tensor");
  if (shown.length === 0) return byId("chart-values").closest("section").remove();
  shown.forEach((t, i) => select.append(node("option", { value: i }, label(t))));
  const start = most(shown, worstFactor);
  select.value = String(Math.max(shown.indexOf(start), 0));
  const kinds = [["before", "var(--c0)", "none", true], ["after RMSNorm", "var(--c1)", "none", false], ["after LayerNorm", "var(--c2)", "5 3", false]];
  kinds.forEach(([name, colour, dash, fill]) => byId("legend-values").append(node("span", { class: "key" }, swatch({ colour, dash, fill }), name)));
  const redraw = keepDrawn(byId("chart-values"), (width) => {
    const t = shown[Number(select.value)];
    const h = trimmed(t);
    return histogram(width, {
      first: h.first,
      series: kinds.map(([name, colour, dash, fill], i) => ({ label: name, colour, dash, fill, shares: h.kinds[i] })),
      guides: [{ bin: 2 * Math.log2(t.max_abs.value), text: `largest before: ${number(t.max_abs.value, 3)}` },
               { bin: 2 * Math.log2(65504), text: "f16 ends" }, { bin: -28, text: "f16 subnormal" }],
      words: `Sizes of the values of ${label(t)} before and after the norms`,
    });
  });
  const update = () => {
    const t = shown[Number(select.value)];
    see("see-values", t.rms > 0 ? `Here the largest value is ${number(t.max_abs.value / t.rms, 3)} times the RMS. ${middle(t)}` : "");
    facts(t);
    redraw();
  };
  const step = (by) => {
    select.value = String((Number(select.value) + by + shown.length) % shown.length);
    update();
  };
  select.addEventListener("change", update);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  update();
}

// ---- several files

function sideBySide() {
  if (!alike) return;
  byId("files").hidden = false;
  const head = node("tr", {}, node("th", { scope: "col" }, "tensor"), ...data.files.map((f, i) => node("th", { scope: "col" }, fileName(i))));
  const rows = data.same_names.map((same) => node("tr", {}, node("td", {}, shortName(same.name)), ...data.files.map((f, i) => {
    const entry = same.entries.find((e) => e.file === i);
    const text = entry ? number(entry.rms) + (i > 0 && entry.rms_over_first !== null ? ` (×${number(entry.rms_over_first, 3)})` : "") : "–";
    return node("td", { "data-label": fileName(i) }, text, entry ? node("small", {}, `width ${entry.cols}`) : null);
  })));
  byId("same-names").append(node("table", {}, node("thead", {}, head), node("tbody", {}, ...rows)));
}

// ---- light and dark

function themes() {
  const button = byId("theme"), order = ["auto", "light", "dark"];
  let theme = "auto";
  try {
    theme = localStorage.getItem("isonorm-theme") ?? "auto";
  } catch { /* a page from a file may have no storage */ }
  const apply = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    theme = order[(order.indexOf(theme) + 1) % order.length];
    try {
      localStorage.setItem("isonorm-theme", theme);
    } catch { /* it then holds until the page is closed */ }
    apply();
  });
  button.hidden = false;
  if (!order.includes(theme)) theme = "auto";
  apply();
}

// ---- all of it; data-report says that the end was reached, and how many charts were drawn.

themes();
for (const section of document.querySelectorAll(".script:not(#files)")) section.hidden = false;
findings();
if (filled.length === 0) byId("findings").after(node("p", { class: "card" }, "There is no finite value, so there is nothing to draw."));
overviews();
channels();
oneTensor();
sideBySide();
document.documentElement.dataset.charts = String(document.querySelectorAll(".chart svg.drawn").length);
document.documentElement.dataset.report = "drawn";
