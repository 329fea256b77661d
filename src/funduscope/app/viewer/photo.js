/* The page's photo: the report's viewer, with lesions that can be chosen and tools to correct them.

   Every text comes from `data` and is set as text, never as markup. Each edit is sent back as the trigger `edit`. */

const discMark = (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0M${-0.7 * r} ${-0.7 * r}L${0.7 * r} ${0.7 * r}M${-0.7 * r} ${0.7 * r}L${0.7 * r} ${-0.7 * r}`;
const foveaMark = (r) => `M${-1.25 * r} 0H${-0.35 * r}M${0.35 * r} 0H${1.25 * r}M0 ${-1.25 * r}V${-0.35 * r}M0 ${0.35 * r}V${1.25 * r}`;

/* Which layers are shown, and how opaque: the same for every photo. */
const layerState = { shown: {}, faded: {} };

class PhotoPage {
  constructor(host) {
    this.host = host;
    this.chosen = null;
    this.tool = "view";
    this.stroke = null;
  }

  update(data, send) {
    const before = this.data;
    this.data = data;
    this.send = send;
    if (!before || before.id !== data.id || before.language !== data.language || before.picture !== data.picture) {
      this.build(before && before.id === data.id);
    } else if (before.stamp !== data.stamp) {
      this.drawLayers();
      this.drawMarks();
      this.fillTable();
      this.showTool();
    }
    if (this.thresholds) this.thresholds.update(data);
  }

  build(isSamePhoto) {
    const { data } = this;
    const visible = isSamePhoto && this.viewer ? this.viewer.seen() : null;
    if (!isSamePhoto) {
      this.chosen = null;
      this.tool = "view";
    }
    this.root = make("div", { class: "viewer", "data-viewer": true });
    this.svg = this.makePhoto();
    this.root.append(
      make("div", { class: "stage" }, [this.svg]),
      this.makeButtons(),
      ...(data.editable ? [this.makeTools()] : []),
      ...(data.layers.length ? [this.makeLayerList(), this.makeTable()] : []),
    );
    this.thresholds = data.layers.length ? new Thresholds(this.svg, this.layerNodes, (what) => this.edit(what)) : null;
    if (this.thresholds) this.root.append(this.thresholds.root);
    this.announcement = make("p", { class: "vh", role: "status" });
    this.root.append(this.announcement);
    this.host.replaceChildren(this.root);
    this.drawLayers();
    this.drawMarks();
    this.listen();
    this.viewer = attachViewer(this.root);
    if (visible) this.viewer.look(visible.x, visible.y, visible.width);
    if (data.layers.length) this.fillTable();
    this.showTool();
    this.showScale();
    if (this.sizes) this.sizes.disconnect();
    this.sizes = new ResizeObserver(() => this.showScale());
    this.sizes.observe(this.svg);
  }

  makePhoto() {
    const { data } = this;
    const { width, height, words } = data;
    this.layerNodes = new Map(data.layers.map((layer) => [layer.code, make("g", {
      "data-layer": layer.code, class: layer.lesion ? "layer" : "layer open", fill: layer.color, stroke: layer.color,
    })]));
    this.marks = make("g", { "data-layer": "landmarks", class: "mark" });
    this.ring = make("g", { class: "mark chosen-ring", "aria-hidden": "true" });
    this.pen = make("path", { class: "pen", "vector-effect": "non-scaling-stroke" });
    const svg = make("svg", {
      "data-photo": true, viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0, role: "img",
      "aria-label": words.photoLabel,
    }, [
      make("image", { href: data.picture, width, height, preserveAspectRatio: "none" }),
      ...this.layerNodes.values(), this.marks, this.ring, this.pen,
    ]);
    return svg;
  }

  makeButtons() {
    const { words, layers } = this.data;
    const button = (attributes) => make("button", { type: "button", ...attributes });
    this.ownPixels = button({ "data-own": true, text: words.ownPixels });
    this.scale = make("span", { class: "dim small" });
    return make("div", { class: "buttons", role: "group", "aria-label": words.zoom }, [
      button({ "data-zoom": "out", "aria-label": words.zoomOut, text: "−" }),
      button({ "data-zoom": "in", "aria-label": words.zoomIn, text: "+" }),
      button({ "data-zoom": "all", text: words.whole }),
      this.ownPixels,
      ...(layers.length ? [button({ "data-bare": true, "aria-pressed": "false", text: words.bare })] : []),
      this.scale,
    ]);
  }

  makeTools() {
    const { words, layers } = this.data;
    this.toolButtons = ["view", "draw", "optic_disc", "fovea"].map((tool) => {
      const node = make("button", { type: "button", "data-tool": tool, text: words.tools[tool] });
      node.addEventListener("click", () => { this.tool = tool; this.showTool(); });
      return node;
    });
    this.kind = make("select", { "aria-label": words.kind, "data-kind": true }, [...layers].reverse().map((layer) =>
      make("option", { value: layer.code, text: words.structures[layer.code] })));
    this.remove = make("button", { type: "button", "data-remove": true, text: words.remove });
    this.remove.addEventListener("click", () => this.removeChosen());
    this.undo = make("button", { type: "button", "data-undo": true, text: words.undo });
    this.undo.addEventListener("click", () => this.edit({ what: "undo" }));
    this.hint = make("p", { class: "dim small", "aria-live": "polite" });
    const tools = make("details", { class: "card tools" }, [
      make("summary", { text: words.correct }),
      make("div", { class: "buttons", role: "group", "aria-label": words.correct }, [...this.toolButtons, this.kind, this.remove, this.undo]),
      this.hint,
    ]);
    // Closing the tools puts the current one away.
    tools.addEventListener("toggle", () => {
      if (tools.open) return;
      this.tool = "view";
      this.showTool();
    });
    return tools;
  }

  makeLayerList() {
    const { data } = this;
    this.counts = new Map();
    this.swatches = new Map();
    const row = (code, picture, name) => {
      const box = make("input", { type: "checkbox", "data-show": code });
      box.checked = layerState.shown[code] ?? true;
      box.addEventListener("change", () => { layerState.shown[code] = box.checked; });
      const slider = make("input", { type: "range", min: 0, max: 100, "data-fade": code, "aria-label": filled(data.words.fade, { name }) });
      slider.value = layerState.faded[code] ?? 100;
      slider.addEventListener("input", () => { layerState.faded[code] = slider.value; });
      const count = make("span", { class: "dim" });
      this.counts.set(code, count);
      this.swatches.set(code, picture);
      return make("li", {}, [make("label", {}, [box, picture, make("span", {}, [`${name} `, count])]), slider]);
    };
    const rows = [...data.layers].reverse().map((layer) =>
      row(layer.code, swatch(layer.color, layer.lesion), data.words.structures[layer.code]));
    const mark = make("svg", { class: "swatch", viewBox: "-9 -9 18 18", "aria-hidden": "true" }, [
      make("path", { d: foveaMark(6.5), fill: "none", stroke: "currentColor", "stroke-width": 1.8 }),
    ]);
    rows.push(row("landmarks", mark, data.words.landmarks));
    // In a narrow window the list starts closed, so that less stands above the answers.
    return make("details", { class: "card", open: window.innerWidth > 640 }, [
      make("summary", { text: data.words.layers }), make("ul", { class: "layers" }, rows),
    ]);
  }

  makeTable() {
    const { words } = this.data;
    this.body = make("tbody");
    this.only = make("select", { "aria-label": words.kind, "data-only": true });
    this.only.addEventListener("change", () => this.fillTable());
    const heads = ["", words.columns.kind, words.columns.area, words.columns.fovea, words.columns.place, words.columns.probability];
    this.none = make("p", { class: "dim small", text: words.noLesion });
    return make("div", { class: "card" }, [
      make("div", { class: "title" }, [make("h2", { text: words.lesions }), this.only]),
      make("div", { class: "rows", tabindex: -1 }, [make("table", { class: "small lesions" }, [
        make("caption", { class: "vh", text: words.tableLabel }),
        make("thead", {}, [make("tr", {}, heads.map((text) => make("th", { scope: "col", text })))]),
        this.body,
      ])]),
      this.none,
      make("p", { class: "dim small", text: words.tableNote }),
    ]);
  }

  drawLayers() {
    for (const layer of this.data.layers) {
      const group = this.layerNodes.get(layer.code);
      group.setAttribute("fill", layer.color);
      group.setAttribute("stroke", layer.color);
      const casing = make("path", { class: "casing", "vector-effect": "non-scaling-stroke", d: layer.paths.join(""), transform: "translate(.5 .5)" });
      group.replaceChildren(casing, ...layer.paths.map((d, index) => make("path", {
        d, "data-lesion": layer.lesion ? `${layer.code}-${index}` : null, "vector-effect": "non-scaling-stroke", transform: "translate(.5 .5)",
      })));
      if (this.swatches) recolor(this.swatches.get(layer.code), layer.color, layer.lesion);
      const count = this.counts && this.counts.get(layer.code);
      if (count && layer.lesion) count.textContent = layer.corrected ? `${layer.count} · ${this.data.words.corrected}` : layer.count;
    }
  }

  drawMarks() {
    const { data } = this;
    const size = data.width / 64;
    const parts = [];
    const add = (d, at, extra = "") => ["casing", "line"].forEach((kind) => parts.push(make("path", {
      class: `${kind} ${extra}`, d, transform: `translate(${at[0]} ${at[1]})`,
    })));
    if (data.circle_px) {
      const r = data.circle_px;
      add(`M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`, data.fovea, "geometry");
    }
    if (data.optic_disc) add(discMark(size), data.optic_disc);
    if (data.fovea) add(foveaMark(size), data.fovea);
    this.marks.replaceChildren(...parts);
  }

  fillTable() {
    const { data } = this;
    const { words } = data;
    const wanted = this.only.value || "all";
    const codes = [...data.layers].reverse().filter((layer) => layer.lesion);
    const options = [make("option", { value: "all", text: words.all }), ...codes.map((layer) =>
      make("option", { value: layer.code, text: `${words.structures[layer.code]} ${layer.count}` }))];
    this.only.replaceChildren(...options);
    this.only.value = codes.some((layer) => layer.code === wanted) ? wanted : "all";
    const rows = data.lesions.filter((one) => this.only.value === "all" || one.code === this.only.value);
    const color = Object.fromEntries(data.layers.map((layer) => [layer.code, layer.color]));
    const form = new Intl.NumberFormat(data.language);
    const fine = new Intl.NumberFormat(data.language, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
    this.body.replaceChildren(...rows.map((one) => {
      const place = one.quadrant ? words.quadrants[one.quadrant] : "–";
      const find = make("button", { type: "button", class: "find", "aria-label": filled(words.find, { name: words.structures[one.code], place }) }, [swatch(color[one.code], true)]);
      const row = make("tr", { "data-row": one.id }, [
        make("td", {}, [find]),
        make("th", { scope: "row", text: words.structures[one.code] }),
        make("td", { text: form.format(one.area) }),
        make("td", { text: one.fovea_dd === null ? "–" : fine.format(one.fovea_dd) }),
        make("td", { text: place }),
        make("td", { text: fine.format(one.probability) }),
      ]);
      row.addEventListener("click", () => this.choose(one, true));
      return row;
    }));
    this.none.hidden = rows.length > 0;
    this.choose(this.chosen && this.matching(this.chosen), false);
  }

  /* The current lesion that matches an earlier one. A dot in a ring has the ring's center: the area distinguishes them. */
  matching({ code, x, y, area }) {
    const near = this.data.lesions.filter((one) => one.code === code && Math.hypot(one.x - x, one.y - y) < 3);
    return near.sort((a, b) => Math.abs(a.area - area) - Math.abs(b.area - area))[0] || null;
  }

  choose(one, isShown) {
    this.chosen = one;
    for (const row of this.body ? this.body.children : []) {
      const isChosen = Boolean(one) && row.dataset.row === one.id;
      row.classList.toggle("is-chosen", isChosen);
      if (isChosen) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    this.ring.replaceChildren();
    if (one) {
      const radius = this.radius(one) * 1.6 + this.data.width / 250;
      for (const kind of ["casing", "line"]) this.ring.append(make("circle", { class: kind, cx: one.x, cy: one.y, r: radius }));
      if (isShown) this.show(one);
    }
    if (this.remove) this.remove.disabled = !one;
  }

  radius(one) {
    return Math.sqrt(one.area / Math.PI);
  }

  /* Centers a lesion and zooms in until it and its surroundings fill the view; never zooms out. */
  show(one) {
    const { width, height } = this.data;
    const wide = Math.min(this.viewer.seen().width, Math.max(width / 8, this.radius(one) * 12));
    this.viewer.look(one.x - wide / 2, one.y - (wide * height) / width / 2, wide);
    this.showScale();
    const bounds = this.svg.getBoundingClientRect();
    if (bounds.bottom < 80 || bounds.top > window.innerHeight - 80) this.svg.scrollIntoView({ block: "nearest" });
  }

  /* The lesion under a click, or the nearest one within a finger's width. */
  lesionAt(event) {
    const at = this.viewer.toPhoto(event.clientX, event.clientY);
    const under = (this.svg.getRootNode().elementsFromPoint(event.clientX, event.clientY) || [])
      .map((node) => node.dataset && node.dataset.lesion).filter(Boolean);
    const exact = under.map((id) => this.data.lesions.find((one) => one.id === id)).find(Boolean);
    if (exact) return exact;
    const reach = (14 * this.viewer.seen().width) / Math.max(1, this.svg.getBoundingClientRect().width);
    const near = this.data.lesions
      .filter((one) => layerState.shown[one.code] ?? true)
      .map((one) => [Math.hypot(one.x - at.x, one.y - at.y) - this.radius(one), one])
      .filter(([away]) => away < reach)
      .sort((a, b) => a[0] - b[0]);
    return near.length ? near[0][1] : null;
  }

  listen() {
    const { svg } = this;
    let down = null;
    svg.addEventListener("pointerdown", (event) => {
      down = { x: event.clientX, y: event.clientY };
      if (this.tool === "view") return;
      event.stopImmediatePropagation();
      event.preventDefault();
      svg.focus({ preventScroll: true });
      svg.setPointerCapture(event.pointerId);
      if (this.tool === "draw") this.stroke = [this.point(event)];
    }, { capture: true });
    svg.addEventListener("pointermove", (event) => {
      if (!this.stroke) return;
      event.stopImmediatePropagation();
      this.stroke.push(this.point(event));
      this.pen.setAttribute("d", `M${this.stroke.map((point) => point.join(" ")).join("L")}`);
    }, { capture: true });
    svg.addEventListener("pointerup", (event) => {
      const moved = down ? Math.hypot(event.clientX - down.x, event.clientY - down.y) : Infinity;
      down = null;
      if (this.tool === "view") {
        if (moved < 5) this.clicked(event);
        return;
      }
      event.stopImmediatePropagation();
      this.finish(event, moved);
    }, { capture: true });
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && this.tool !== "view") {
        event.preventDefault();
        const { x, y } = this.middle();
        this.place([x, y]);
      } else if (event.key === "Escape" && this.tool !== "view") {
        this.tool = "view";
        this.stroke = null;
        this.showTool();
      } else if (event.key === "Delete" && this.chosen) this.removeChosen();
    });
    const later = () => requestAnimationFrame(() => this.showScale());
    for (const kind of ["wheel", "pointermove", "keydown", "dblclick"]) svg.addEventListener(kind, later, { passive: true });
    this.root.querySelectorAll("button[data-zoom]").forEach((node) => node.addEventListener("click", later));
    this.ownPixels.addEventListener("click", () => {
      const wide = Math.min(this.data.width, this.svg.getBoundingClientRect().width * (window.devicePixelRatio || 1));
      const middle = this.chosen || this.middle();
      this.viewer.look(middle.x - wide / 2, middle.y - (wide * this.data.height) / this.data.width / 2, wide);
      this.showScale();
    });
  }

  /* The middle of the visible part, in photo pixels. */
  middle() {
    const visible = this.viewer.seen();
    return { x: visible.x + visible.width / 2, y: visible.y + (visible.width * this.data.height) / this.data.width / 2 };
  }

  clicked(event) {
    const one = this.lesionAt(event);
    this.choose(one, false);
    const row = one && this.body && this.body.querySelector(`[data-row="${CSS.escape(one.id)}"]`);
    if (row) {
      const box = row.closest(".rows");
      box.scrollTop = row.offsetTop - box.clientHeight / 2;
      const { words } = this.data;
      this.announcement.textContent = `${words.structures[one.code]}, ${one.quadrant ? words.quadrants[one.quadrant] : ""}`;
    }
  }

  point(event) {
    const at = this.viewer.toPhoto(event.clientX, event.clientY);
    return [Math.round(at.x * 10) / 10, Math.round(at.y * 10) / 10];
  }

  finish(event, moved) {
    const stroke = this.stroke;
    this.stroke = null;
    this.pen.removeAttribute("d");
    if (this.tool === "draw" && stroke && moved >= 5 && stroke.length > 2) this.edit({ what: "draw", code: this.kind.value, points: stroke });
    else this.place(this.point(event));
  }

  /* Sets a dot, the disc's center or the fovea at a point; Enter takes the middle of the visible part. */
  place(point) {
    if (this.tool === "draw") {
      const radius = Math.max(this.data.width / 600, this.viewer.seen().width / 200);
      this.edit({ what: "draw", code: this.kind.value, points: [point], radius });
    } else this.edit({ what: this.tool, points: [point] });
  }

  removeChosen() {
    const one = this.chosen;
    if (!one || !this.data.editable) return;
    this.edit({ what: "delete", code: one.code, points: [one.pixel] });
    this.choose(null, false); // so that a second Delete does not remove another lesion at the same place
  }

  edit(what) {
    this.count = (this.count || 0) + 1;
    this.send("edit", { ...what, photo: this.data.id, number: this.count });
  }

  showTool() {
    if (!this.toolButtons) return;
    const { words, canUndo } = this.data;
    for (const node of this.toolButtons) node.setAttribute("aria-pressed", String(node.dataset.tool === this.tool));
    this.kind.hidden = this.tool !== "draw";
    this.undo.disabled = !canUndo;
    this.remove.disabled = !this.chosen;
    this.hint.textContent = words.hints[this.tool];
    this.root.classList.toggle("is-editing", this.tool !== "view");
  }

  /* Shows the zoom in percent. From three screen pixels for each pixel of the photo on, pixels are drawn as squares. */
  showScale() {
    const bounds = this.svg.getBoundingClientRect();
    const times = (bounds.width * (window.devicePixelRatio || 1)) / this.viewer.seen().width;
    this.svg.classList.toggle("is-pixelated", times >= 3);
    this.scale.textContent = bounds.width ? filled(this.data.words.scale, { percent: Math.round(100 * times) }) : "";
  }
}

const pages = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector("[data-host]");
  if (!pages.has(host)) pages.set(host, new PhotoPage(host));
  pages.get(host).update(data, setTriggerValue);
  const ask = (event) => event.preventDefault();
  if (data.unsaved) window.addEventListener("beforeunload", ask);
  return () => window.removeEventListener("beforeunload", ask);
}
