/* The page's photo: the report's viewer, with lesions that can be chosen and tools to correct them.

   Every text comes from `data` and is set as text, never as markup. Edits are sent back as the trigger `edits`. */

const discMark = (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0M${-0.7 * r} ${-0.7 * r}L${0.7 * r} ${0.7 * r}M${-0.7 * r} ${0.7 * r}L${0.7 * r} ${-0.7 * r}`;
const foveaMark = (r) => `M${-1.25 * r} 0H${-0.35 * r}M${0.35 * r} 0H${1.25 * r}M0 ${-1.25 * r}V${-0.35 * r}M0 ${0.35 * r}V${1.25 * r}`;

/* Which layers are shown, how opaque, and which filters are on: the same for every photo. */
const layerState = { shown: {}, faded: {}, filters: {} };

/* The panel next to the photo is another component of the page: whichever of the two comes later joins them. */
const PANEL = "funduscope-panel";
const NARROW = window.matchMedia("(max-width: 40rem)");

class PhotoPage {
  constructor(host) {
    this.host = host;
    this.chosen = null;
    this.count = 0;
    this.pending = [];
  }

  update(data, send) {
    const before = this.data;
    const pending = this.pending.filter((edit) => edit.number > data.handled);
    const isAnswered = pending.length < this.pending.length;
    this.pending = pending;
    this.count = Math.max(this.count, data.handled); // after another view of the page, numbers continue
    this.data = data;
    this.send = send;
    // `editable`: a refused photo that is graded anyway gets its layers, in the same picture.
    const fixed = (one) => JSON.stringify([one.id, one.language, one.picture, one.editable]);
    if (!before || fixed(before) !== fixed(data)) {
      this.build(before && before.id === data.id);
    } else if (before.stamp !== data.stamp) {
      Object.assign(this.view, data);
      this.drawLayers();
      this.drawMarks();
      this.fillTable();
      if (this.tools) this.tools.show();
    } else if (isAnswered && this.tools) this.tools.show();
    if (this.thresholds) this.thresholds.update(data);
    this.showPlace();
  }

  /* Which eye it is and which of how many photos: while others are read or the fovea is moved, these change alone. */
  showPlace() {
    const { position, words } = this.data;
    this.corner.textContent = words.eye;
    this.corner.hidden = !words.eye;
    this.place.textContent = `${position.number} / ${position.count}`;
    for (const node of this.steps) node.hidden = position.count < 2;
  }

  build(isSamePhoto) {
    const { data } = this;
    const visible = isSamePhoto && this.viewer ? this.viewer.seen() : null;
    if (!isSamePhoto) this.chosen = null;
    this.tools = data.editable ? new CorrectionTools(this) : null;
    const hadFocus = Boolean(this.svg) && this.svg.getRootNode().activeElement === this.svg;
    this.root = make("div", { class: "viewer" });
    this.svg = this.makePhoto();
    this.corner = make("span", { class: "corner" });
    this.root.append(make("div", { class: "stage" }, [this.svg, this.corner]));
    this.controls = [this.makeButtons(), ...(this.tools ? [this.tools.root] : [])];
    if (this.panel) this.panel.remove();
    this.panel = make("div", { class: "panel" });
    this.thresholds = data.layers.length ? new Thresholds(this.svg, this.layerNodes, (what) => this.edit(what)) : null;
    if (this.thresholds) this.panel.append(this.makeLayerList(), this.thresholds.root, this.makeTable());
    this.host.replaceChildren(this.root);
    this.joinPanel();
    this.drawLayers();
    this.drawMarks();
    this.listen();
    if (this.viewer) this.viewer.end();
    this.view = { ...data, onChoose: (one) => this.choose(one, false) };
    this.viewer = attachViewer(this.root, this.view, [this.panel]);
    if (visible) this.viewer.showRegion(visible.x, visible.y, visible.width);
    if (data.layers.length) this.fillTable();
    if (this.tools) this.tools.show();
    if (hadFocus) this.svg.focus({ preventScroll: true });
  }

  joinPanel() {
    const host = window[PANEL];
    const place = host && host.isConnected ? host : this.root;
    if (this.panel.parentNode !== place) place.append(this.panel);
    // In a narrow window the answer stands directly under the photo, and everything that is operated under the answer.
    if (NARROW.matches) this.panel.prepend(...this.controls);
    else this.root.querySelector(".stage").after(...this.controls);
  }

  makePhoto() {
    const { data } = this;
    const { width, height, words } = data;
    this.layerNodes = new Map(data.layers.map((layer) => [layer.code, make("g", {
      "data-layer": layer.code, class: layer.lesion ? "layer" : "layer open", fill: layer.color, stroke: layer.color,
    })]));
    this.marks = make("g", { "data-layer": "landmarks", class: "mark" });
    const svg = make("svg", {
      "data-photo": true, viewBox: `0 0 ${width} ${height}`, width, height, tabindex: 0, role: "application",
      "aria-label": words.photoLabel,
    }, [
      make("image", { href: data.picture, width, height, preserveAspectRatio: "none" }),
      ...this.layerNodes.values(), this.marks, ...(this.tools ? [this.tools.drawn] : []),
    ]);
    return svg;
  }

  makeButtons() {
    const { words, layers } = this.data;
    const button = (attributes) => make("button", { type: "button", ...attributes });
    const filter = (name, text) => {
      const node = button({ "data-filter": name, "aria-pressed": String(Boolean(layerState.filters[name])), text });
      node.addEventListener("change", () => { layerState.filters[name] = node.getAttribute("aria-pressed") === "true"; });
      return node;
    };
    const step = (what, sign, label) => {
      const node = button({ [`data-${what}`]: true, "aria-label": label, title: label, text: sign });
      node.addEventListener("click", () => this.edit({ what }));
      return node;
    };
    this.place = make("span", { class: "small" });
    this.steps = [step("previous", "‹", words.previous), this.place, step("next", "›", words.next)];
    return make("div", { class: "buttons", role: "group", "aria-label": words.view }, [
      ...this.steps,
      button({ "data-zoom": "out", "aria-label": words.zoomOut, text: "−" }),
      button({ "data-zoom": "in", "aria-label": words.zoomIn, text: "+" }),
      button({ "data-zoom": "all", text: words.whole }),
      button({ "data-zoom": "own", title: words.ownPixels, text: "100 %" }),
      ...(layers.length ? [button({ "data-bare": true, "aria-pressed": "false", text: words.bare })] : []),
      filter("red-free", words.redFree), filter("contrast", words.contrast),
      button({ "data-ruler": true, "aria-pressed": "false", title: words.rulerHint, text: words.ruler }),
      make("span", { class: "dim small", "data-scale": true }),
    ]);
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
    return make("details", { class: "card", open: true }, [
      make("summary", { text: data.words.layers }), make("ul", { class: "layers" }, rows),
    ]);
  }

  makeTable() {
    const { words } = this.data;
    this.body = make("tbody");
    this.only = make("select", { "aria-label": words.kind, "data-only": true });
    this.only.addEventListener("change", () => this.fillTable());
    const heads = [words.columns.kind, words.columns.area, words.columns.fovea, words.columns.place, words.columns.probability];
    this.none = make("p", { class: "dim small", text: words.noLesion });
    this.body.addEventListener("keydown", (event) => {
      stepRows(event);
      if (event.key === "Delete" && this.chosen && this.tools) this.tools.removeChosen();
    });
    return make("div", { class: "card" }, [
      make("div", { class: "title" }, [make("h2", { text: words.lesions }), this.only]),
      make("div", { class: "rows", tabindex: -1 }, [make("table", { class: "small lesions", role: "grid" }, [
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
      const row = make("tr", { "data-row": one.id }, [
        make("th", { scope: "row" }, [make("span", { class: "named" }, [swatch(color[one.code], true), words.structures[one.code]])]),
        make("td", { text: form.format(one.area) }),
        make("td", { text: one.fovea_dd === null ? "–" : fine.format(one.fovea_dd) }),
        make("td", { text: place }),
        make("td", { text: `${form.format(Math.round(100 * one.probability))} %` }),
      ]);
      row.addEventListener("click", () => this.choose(one, true));
      row.addEventListener("focus", () => this.choose(one, true));
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
    const row = this.body && chooseRow([...this.body.children].find((node) => one && node.dataset.row === one.id), this.body);
    if (row && !isShown) {
      const box = row.closest(".rows");
      box.scrollTop = row.offsetTop - box.clientHeight / 2;
    }
    if (one && isShown && !this.viewer.isMeasuring()) this.viewer.show(one);
    this.viewer.choose(one);
    if (this.tools) this.tools.show();
  }

  listen() {
    const { svg, tools } = this;
    let press = null; // where the pointer that draws went down, and how far from there it has been, in screen pixels
    const isOther = (event) => !press || event.pointerId !== press.id;
    const abort = () => {
      press = null;
      tools.drop();
    };
    svg.addEventListener("pointerdown", (event) => {
      if (!tools || !tools.isActive) return;
      event.stopImmediatePropagation();
      event.preventDefault();
      if (event.button !== 0) return;
      if (press && isOther(event)) { // a second finger: it was no stroke
        abort();
        return;
      }
      press = { id: event.pointerId, x: event.clientX, y: event.clientY, far: 0 };
      svg.focus({ preventScroll: true });
      svg.setPointerCapture(event.pointerId);
      tools.down(event);
    }, { capture: true });
    svg.addEventListener("pointermove", (event) => {
      if (!tools || (press && isOther(event))) return;
      if (press) press.far = Math.max(press.far, Math.hypot(event.clientX - press.x, event.clientY - press.y));
      if (tools.move(event)) event.stopImmediatePropagation();
    }, { capture: true });
    svg.addEventListener("pointerup", (event) => {
      if (!tools || !tools.isActive) {
        press = null;
        return;
      }
      event.stopImmediatePropagation();
      if (isOther(event)) return;
      const { far } = press;
      press = null;
      tools.up(event, far);
    }, { capture: true });
    svg.addEventListener("pointercancel", (event) => { if (!isOther(event)) abort(); }, { capture: true });
    svg.addEventListener("dblclick", (event) => { // two quick dots are no wish to zoom
      if (tools && tools.isActive) event.stopImmediatePropagation();
    }, { capture: true });
    if (tools) svg.addEventListener("keydown", (event) => tools.key(event));
    svg.addEventListener("keydown", (event) => {
      const what = { n: "next", p: "previous" }[event.key];
      if (what && this.data.position.count > 1 && !event.ctrlKey && !event.metaKey && !event.altKey) this.edit({ what });
    });
  }

  /* The middle of the visible part, in photo pixels. */
  middle() {
    return this.viewer.middle();
  }

  point(event) {
    const at = this.viewer.toPhoto(event.clientX, event.clientY);
    return [Math.round(at.x * 10) / 10, Math.round(at.y * 10) / 10];
  }

  /* Sends an edit with those before it that the server has not handled: while it is busy, a trigger replaces one that waits. */
  edit(what) {
    this.count += 1;
    this.pending.push({ photo: this.data.id, ...what, number: this.count });
    this.send("edits", [...this.pending]);
    if (this.tools) this.tools.show();
  }

  /* Listens to the page, once: Streamlit calls the function below anew with all data, and its cleanup only at the end. */
  attach() {
    if (this.joined) return;
    this.joined = () => { if (this.host.isConnected) this.joinPanel(); else this.detach(); };
    this.ask = (event) => { if (this.data.unsaved) event.preventDefault(); };
    document.addEventListener(PANEL, this.joined);
    NARROW.addEventListener("change", this.joined);
    window.addEventListener("beforeunload", this.ask);
  }

  /* Leaves nothing of the photo behind: neither listeners nor its panel, which stands in another component. */
  detach() {
    document.removeEventListener(PANEL, this.joined);
    NARROW.removeEventListener("change", this.joined);
    window.removeEventListener("beforeunload", this.ask);
    this.joined = null;
    this.panel.remove();
  }
}

const pages = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const host = parentElement.querySelector("[data-host]");
  if (!pages.has(host)) pages.set(host, new PhotoPage(host));
  const page = pages.get(host);
  page.update(data, setTriggerValue);
  page.joinPanel();
  page.attach();
  return () => page.detach();
}
