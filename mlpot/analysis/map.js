"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const map = $("map"), view = $("view"), tip = $("tip");
  const COLOURS = ["#2f6f9f", "#c0392b", "#2e8b57", "#d98e04", "#7d3c98", "#17a2b8", "#8d5524", "#e377c2", "#555", "#9acd32"];
  let chosen = null, turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]], spots = null, atom = -1, structure = -1;

  const option = (select, value, text) => {
    const made = document.createElement("option");
    made.value = value; made.textContent = text; select.append(made);
  };
  option($("what"), "", "structures (" + data.structures.x.length + ")");
  for (const [name, own] of Object.entries(data.environments)) option($("what"), name, "environments of " + name + " (" + own.x.length + ")");

  const set = () => $("what").value ? data.environments[$("what").value] : data.structures;
  const owner = (k) => $("what").value ? chosen.structure[k] : k;
  function fields() {
    const names = Object.keys(chosen).filter((n) => Array.isArray(chosen[n]) && chosen[n].length === chosen.x.length && !["x", "y", "structure", "atom", "name", "explained", "sketch"].includes(n));
    const per = $("what").value ? Object.keys(data.structures).filter((n) => !["x", "y", "name", "explained", "sketch", "remoteness"].includes(n)) : [];
    return [...new Set([...names, ...per])];
  }
  const values = (name) => chosen.x.map((_, k) => name in chosen && name !== "explained" ? chosen[name][k] : data.structures[name][owner(k)]);
  function pick() {
    chosen = set();
    const old = $("colour").value;
    $("colour").replaceChildren();
    for (const name of fields()) option($("colour"), name, name.replaceAll("_", " "));
    if (fields().includes(old)) $("colour").value = old; else if (fields().includes("novelty")) $("colour").value = "novelty";
    draw();
  }
  const ramp = (t) => `hsl(${250 - 250 * t} 75% ${38 + 14 * t}%)`;
  function colours() {
    const found = values($("colour").value);
    if (found.some((v) => typeof v === "string")) {
      const kinds = [...new Set(found)];
      return [found.map((v) => COLOURS[kinds.indexOf(v) % COLOURS.length]), kinds.map((v, k) => [v, COLOURS[k % COLOURS.length]])];
    }
    const sorted = found.filter((v) => v !== null).sort((a, b) => a - b);
    const low = sorted[Math.floor(0.02 * sorted.length)] ?? 0, high = sorted[Math.ceil(0.98 * sorted.length) - 1] ?? 1;
    const place = (v) => Math.min(Math.max((v - low) / (high - low || 1), 0), 1);
    return [found.map((v) => v === null ? "#bbb" : ramp(place(v))), [0, 0.25, 0.5, 0.75, 1].map((t) => [(low + t * (high - low)).toPrecision(3), ramp(t)])];
  }
  function fit(canvas) {
    const scale = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    canvas.width = box.width * scale; canvas.height = box.height * scale;
    const pen = canvas.getContext("2d"); pen.scale(scale, scale); pen.clearRect(0, 0, box.width, box.height);
    return [pen, box.width, box.height];
  }
  function draw() {
    const [pen, w, h] = fit(map), [paint, legend] = colours();
    const span = (v) => { let a = Infinity, b = -Infinity; for (const x of v) { if (x < a) a = x; if (x > b) b = x; } return [a, b > a ? b : a + 1]; };
    const [xa, xb] = span(chosen.x), [ya, yb] = span(chosen.y), size = chosen.x.length > 20000 ? 1.6 : chosen.x.length > 2000 ? 2.2 : 3.5;
    spots = chosen.x.map((x, k) => [14 + (w - 28) * (x - xa) / (xb - xa), h - 14 - (h - 28) * (chosen.y[k] - ya) / (yb - ya)]);
    pen.globalAlpha = 0.75;
    spots.forEach(([x, y], k) => { pen.fillStyle = paint[k]; pen.fillRect(x - size, y - size, 2 * size, 2 * size); });
    pen.globalAlpha = 1;
    if ($("sketch").checked) { pen.strokeStyle = "#000"; for (const k of chosen.sketch) { pen.beginPath(); pen.arc(...spots[k], size + 2, 0, 7); pen.stroke(); } }
    spots.forEach((p, k) => { if (owner(k) === structure && (atom < 0 || !$("what").value || chosen.atom[k] === atom)) { pen.strokeStyle = "#000"; pen.lineWidth = 2; pen.beginPath(); pen.arc(...p, 8, 0, 7); pen.stroke(); } });
    $("legend").replaceChildren(...legend.slice(0, 30).map(([text, colour]) => {
      const item = document.createElement("span"), dot = document.createElement("i");
      dot.style.background = colour; item.append(dot, String(text)); return item;
    }));
    $("axes").textContent = "horizontal " + (100 * (chosen.explained[0] ?? 0)).toFixed(0) + " %, vertical " + (100 * (chosen.explained[1] ?? 0)).toFixed(0) + " % of the variance";
  }
  function nearest(event) {
    const box = map.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = -1, least = 225;
    spots.forEach(([a, b], k) => { const d = (a - x) ** 2 + (b - y) ** 2; if (d < least) { least = d; best = k; } });
    return best;
  }
  map.addEventListener("mousemove", (event) => {
    const k = nearest(event);
    tip.textContent = k < 0 ? "" : data.structures.name[owner(k)] + ($("what").value ? ", atom " + chosen.atom[k] : "") + ": " + values($("colour").value)[k];
  });
  map.addEventListener("click", (event) => { const k = nearest(event); if (k >= 0) show(owner(k), $("what").value ? chosen.atom[k] : -1); });
  function show(s, a) {
    structure = s; atom = a;
    $("name").textContent = data.structures.name[s] + ", " + data.structures.config_type[s] + (a < 0 ? "" : ", atom " + a);
    draw(); render();
  }
  const apply = (m, v) => m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
  function render() {
    const [pen, w, h] = fit(view), own = data.shapes[structure];
    if (!own) { pen.fillText("not kept in this file", 20, 20); return; }
    const points = []; for (let k = 0; k < own.positions.length; k += 3) points.push(own.positions.slice(k, k + 3));
    const corners = own.cell.length ? [0, 1, 2, 3, 4, 5, 6, 7].map((n) => [0, 1, 2].map((x) => [0, 1, 2].reduce((s, v) => s + (n >> v & 1) * own.cell[3 * v + x], 0))) : [];
    const all = [...points, ...corners], middle = [0, 1, 2].map((x) => all.reduce((s, p) => s + p[x], 0) / all.length);
    const moved = (p) => apply(turn, p.map((v, x) => v - middle[x])), far = Math.max(...all.map((p) => Math.hypot(...moved(p))), 1.5);
    const zoom = 0.46 * Math.min(w, h) / (far + 0.6), flat = ([x, y]) => [w / 2 + zoom * x, h / 2 - zoom * y];
    pen.strokeStyle = "#999";
    corners.forEach((p, n) => [1, 2, 4].forEach((bit) => { if (!(n & bit)) { pen.beginPath(); pen.moveTo(...flat(moved(p))); pen.lineTo(...flat(moved(corners[n | bit]))); pen.stroke(); } }));
    const drawn = points.map((p, k) => [moved(p), k]).sort((a, b) => a[0][2] - b[0][2]);
    pen.strokeStyle = "#666"; pen.lineWidth = Math.max(0.12 * zoom, 1);
    if (points.length < 600) drawn.forEach(([p, k]) => drawn.forEach(([q, l]) => {
      if (k < l && Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]) < 1.2 * (data.radii[own.symbols[k]] + data.radii[own.symbols[l]])) { pen.beginPath(); pen.moveTo(...flat(p)); pen.lineTo(...flat(q)); pen.stroke(); }
    }));
    for (const [p, k] of drawn) {
      const [x, y] = flat(p), r = Math.max(0.45 * data.radii[own.symbols[k]] * zoom, 2);
      pen.beginPath(); pen.arc(x, y, r, 0, 7); pen.fillStyle = data.colours[own.symbols[k]]; pen.fill();
      pen.lineWidth = k === atom ? 3 : 0.6; pen.strokeStyle = k === atom ? "#000" : "#444"; pen.stroke();
      if (points.length < 60) { pen.fillStyle = "#000"; pen.font = "11px sans-serif"; pen.fillText(own.symbols[k], x - 4, y + 4); }
    }
  }
  let last = null;
  view.addEventListener("pointerdown", (event) => { last = [event.clientX, event.clientY]; view.setPointerCapture(event.pointerId); });
  view.addEventListener("pointerup", () => { last = null; });
  view.addEventListener("pointermove", (event) => {
    if (!last || structure < 0) return;
    const a = 0.01 * (event.clientX - last[0]), b = 0.01 * (event.clientY - last[1]);
    last = [event.clientX, event.clientY];
    const y = [[Math.cos(a), 0, Math.sin(a)], [0, 1, 0], [-Math.sin(a), 0, Math.cos(a)]], x = [[1, 0, 0], [0, Math.cos(b), -Math.sin(b)], [0, Math.sin(b), Math.cos(b)]];
    const times = (m, n) => m.map((row) => [0, 1, 2].map((k) => row[0] * n[0][k] + row[1] * n[1][k] + row[2] * n[2][k]));
    turn = times(x, times(y, turn)); render();
  });
  for (const id of ["what"]) $(id).addEventListener("change", pick);
  for (const id of ["colour", "sketch"]) $(id).addEventListener("change", draw);
  window.addEventListener("resize", () => { draw(); if (structure >= 0) render(); });
  for (const row of document.querySelectorAll("[data-structure]")) row.addEventListener("click", () => show(Number(row.dataset.structure), Number(row.dataset.atom)));
  pick(); show(0, -1);
})();
