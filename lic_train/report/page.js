"use strict";
// Draws every chart of the page from the numbers that stand, as JSON, within its own box.
const NS = "http://www.w3.org/2000/svg";
let W = 1130, H = 520;  // as wide as there is room, so that text keeps its size on a phone
const LEFT = 62, RIGHT = 18, TOP = 14, BOTTOM = 46;
const LABELS = {
  psnr: "PSNR (dB), 8-bit RGB, mean over images",
  ms_ssim_mean_of_db: "MS-SSIM (dB), mean over images of dB",
  ms_ssim_db_of_mean: "MS-SSIM (dB), dB of the mean over images",
};
const node = (name, attributes, parent, text) => {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.appendChild(made);
  return made;
};
const fixed = (value, digits) => (value === null || value === undefined) ? "–" : value.toFixed(digits);

function ticks(low, high, logarithmic) {
  if (logarithmic) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const m of [1, 2, 5]) found.push(m * 10 ** e);
    return found.filter((v) => v >= low && v <= high);
  }
  const raw = (high - low) / (W < 700 ? 4 : 9), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) found.push(v);
  return found.map((v) => +v.toPrecision(10));
}

class Chart {
  constructor(box) {
    this.box = box;
    this.data = JSON.parse(box.querySelector("script").textContent);
    this.hidden = new Set(this.data.series.filter((s) => s.hidden).map((s) => s.label));
    for (const control of box.querySelectorAll("select, input"))
      control.addEventListener("input", () => this.draw());
    this.legend();
    this.svg = node("svg", { viewBox: `0 0 ${W} ${H}`, class: "plot", role: "img" },
                    box.querySelector(".chart"));
    this.tip = box.querySelector(".tip");
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerdown", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.leave(); });
    window.addEventListener("resize", () => this.draw());
    this.draw();
  }
  measure() {
    const room = this.box.querySelector(".chart").clientWidth || 1130;
    W = Math.max(320, Math.min(1130, room)); H = W < 700 ? Math.round(W * 0.95) : 520;
    this.svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  }
  value(name) { const c = this.box.querySelector(`[name=${name}]`); return c.type === "checkbox" ? c.checked : c.value; }
  legend() {
    const legend = this.box.querySelector(".legend"), rest = document.createElement("details");
    rest.innerHTML = `<summary>${this.hidden.size} published curves</summary>`;
    for (const series of this.data.series) {
      const button = document.createElement("button");
      const sample = node("svg", { viewBox: "0 0 26 10" }, button);
      node("line", { x1: 0, x2: 26, y1: 5, y2: 5, stroke: series.colour, "stroke-width": series.width,
                     "stroke-dasharray": series.dash }, sample);
      if (series.marker) node("circle", { cx: 13, cy: 5, r: 4, fill: series.colour }, sample);
      button.append(series.label);
      button.title = "click: show or hide; double click: only this one, or all";
      button.addEventListener("click", () => { this.toggle(series.label); });
      button.addEventListener("dblclick", () => { this.only(series.label); });
      series.button = button;
      (series.hidden ? rest : legend).append(button);
    }
    if (this.hidden.size) legend.append(rest);
    this.press();
  }
  press() { for (const s of this.data.series) s.button.setAttribute("aria-pressed", !this.hidden.has(s.label)); }
  toggle(label) { this.hidden.has(label) ? this.hidden.delete(label) : this.hidden.add(label); this.press(); this.draw(); }
  only(label) {
    const others = this.data.series.map((s) => s.label).filter((l) => l !== label);
    const alone = others.every((l) => this.hidden.has(l));
    this.hidden = new Set(alone ? [] : others);
    this.press(); this.draw();
  }
  points(series) {
    const image = this.value("image"), metric = this.value("metric");
    const rows = image === "" ? series.points : (series.images || {})[image] || [];
    return rows.filter((p) => Number.isFinite(p[metric]) && p[metric] !== null);
  }
  window(shown, metric) {
    // By default what the trained codecs span and some more, so that anchors do not flatten them.
    const all = shown.flatMap((s) => s.drawn), own = shown.filter((s) => s.trained || s.focus).flatMap((s) => s.drawn);
    const focus = own.length && !this.value("whole") ? own : all;
    const x = focus.map((p) => p.bpp);
    let [low, high] = [Math.min(...x), Math.max(...x)];
    if (focus === own) {
      const span = high - low;
      low = Math.max(this.value("log") ? low / 2 : 0, low - Math.max(0.1 * span, 0.4 * low));
      high += Math.max(0.3 * span, 0.6 * low);
    }
    const y = all.filter((p) => p.bpp >= low && p.bpp <= high).map((p) => p[metric]);
    let [bottom, top] = [Math.min(...y), Math.max(...y)];
    const margin = 0.06 * (top - bottom) || 0.5;
    if (low === high) { low *= 0.8; high *= 1.2; }
    return { low, high, bottom: bottom - margin, top: top + margin };
  }
  draw() {
    const metric = this.value("metric"), logarithmic = this.value("log");
    this.svg.replaceChildren(); this.dots = []; this.leave(); this.measure();
    const shown = this.data.series.filter((s) => !this.hidden.has(s.label));
    for (const series of shown) series.drawn = this.points(series);
    if (!shown.some((s) => s.drawn.length)) {
      node("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, this.svg, "nothing here has this metric");
      return;
    }
    const { low, high, bottom, top } = this.window(shown, metric);
    const scale = logarithmic ? Math.log10 : (v) => v;
    const X = (v) => LEFT + (scale(v) - scale(low)) / (scale(high) - scale(low)) * (W - LEFT - RIGHT);
    const Y = (v) => H - BOTTOM - (v - bottom) / (top - bottom) * (H - TOP - BOTTOM);
    const clip = `clip${Math.random().toString(36).slice(2)}`;
    const shape = node("clipPath", { id: clip }, node("defs", {}, this.svg));
    node("rect", { x: LEFT, y: TOP, width: W - LEFT - RIGHT, height: H - TOP - BOTTOM }, shape);
    for (const v of ticks(low, high, logarithmic)) {
      node("line", { x1: X(v), x2: X(v), y1: TOP, y2: H - BOTTOM, stroke: "#e4e7eb" }, this.svg);
      node("text", { x: X(v), y: H - BOTTOM + 17, "text-anchor": "middle" }, this.svg, String(+v.toPrecision(3)));
    }
    for (const v of ticks(bottom, top, false)) {
      node("line", { x1: LEFT, x2: W - RIGHT, y1: Y(v), y2: Y(v), stroke: "#e4e7eb" }, this.svg);
      node("text", { x: LEFT - 8, y: Y(v) + 4, "text-anchor": "end" }, this.svg, String(v));
    }
    node("path", { d: `M${LEFT} ${TOP}V${H - BOTTOM}H${W - RIGHT}`, stroke: "#52606d", fill: "none" }, this.svg);
    node("text", { x: (W + LEFT) / 2, y: H - 6, "text-anchor": "middle", class: "title" }, this.svg, "bits per pixel, of whole files");
    node("text", { transform: `translate(15 ${H / 2}) rotate(-90)`, "text-anchor": "middle", class: "title" }, this.svg, LABELS[metric]);
    const area = node("g", { "clip-path": `url(#${clip})` }, this.svg);
    for (const series of [...shown].sort((a, b) => a.trained - b.trained)) {
      const line = series.drawn.map((p, i) => `${i ? "L" : "M"}${X(p.bpp).toFixed(1)} ${Y(p[metric]).toFixed(1)}`).join("");
      node("path", { d: line, fill: "none", stroke: series.colour, "stroke-width": series.width,
                     "stroke-dasharray": series.dash, "stroke-linejoin": "round", "data-series": series.label }, area);
      for (const point of series.drawn) {
        const [x, y] = [X(point.bpp), Y(point[metric])];
        if (x < LEFT - 1 || x > W - RIGHT + 1 || y < TOP - 1 || y > H - BOTTOM + 1) continue;
        const dot = node("circle", { cx: x, cy: y, r: series.marker ? 5 : 2.5, fill: series.colour,
                                     stroke: "#fff", "stroke-width": series.marker ? 1.3 : 0 }, area);
        this.dots.push({ x, y, dot, point, series, r: series.marker ? 5 : 2.5 });
      }
    }
  }
  hover(event) {
    const frame = this.svg.getBoundingClientRect(), zoom = frame.width / W;
    const [x, y] = [(event.clientX - frame.left) / zoom, (event.clientY - frame.top) / zoom];
    const far = (d) => Math.hypot(d.x - x, d.y - y) - (d.series.trained ? 4 : 0);
    const nearest = this.dots.reduce((best, d) => (!best || far(d) < far(best) ? d : best), null);
    this.leave();
    if (!nearest || far(nearest) > 36) return;
    nearest.dot.setAttribute("r", nearest.r + 2.5);
    this.lit = nearest;
    const p = nearest.point, tip = this.tip;
    const lines = [["b", nearest.series.label + (p.name ? `, ${p.name}` : "")],
      ["div", `${fixed(p.bpp, 4)} bpp`], ["div", `${fixed(p.psnr, 3)} dB PSNR`]];
    if (p.ms_ssim !== null && p.ms_ssim !== undefined) lines.push(["div", `${fixed(p.ms_ssim, 5)} MS-SSIM`]);
    if (p.decode_s) lines.push(["div", `${fixed(p.encode_s, 3)} s encoding, ${fixed(p.decode_s, 3)} s decoding`]);
    if (p.saved) lines.push(["div", p.saved]);
    tip.replaceChildren(...lines.map(([tag, text]) => { const e = document.createElement(tag); e.textContent = text; return e; }));
    tip.style.display = "block";
    const left = nearest.x * zoom + 14, width = tip.offsetWidth;
    tip.style.left = `${left + width > frame.width ? left - width - 28 : left}px`;
    tip.style.top = `${Math.max(0, nearest.y * zoom - tip.offsetHeight / 2)}px`;
  }
  leave() {
    if (this.lit) this.lit.dot.setAttribute("r", this.lit.r);
    this.lit = null;
    if (this.tip) this.tip.style.display = "none";
  }
}
for (const box of document.querySelectorAll(".curves")) box.chart = new Chart(box);
