/* The tools that correct lesions and landmarks in the photo. Each finished action is sent as one edit.

   `photo` is the photo's page: its data, svg, viewer, chosen lesion, pending edits, and `edit`, `choose`, `point`, `middle`. */

const PAINTS = new Set(["brush", "erase"]);
const LARGEST_BRUSH_PX = 200;
const MOST_POINTS = 5000; // of an edit: edits.py takes no more

/* The brush's diameter in pixels of the photo: the same for every photo. */
const brush = { px: 20 };

/* A stroke with few enough points: those nearer to the last kept one than a step are left out, so that its shape stays. */
const thinned = (points) => {
  let kept = points;
  for (let step = 0.5; kept.length > MOST_POINTS; step *= 2) {
    let last = null;
    kept = points.filter((point, index) => {
      const isFar = !last || Math.hypot(point[0] - last[0], point[1] - last[1]) >= step;
      if (isFar) last = point;
      return isFar || index === points.length - 1;
    });
  }
  return kept;
};

class CorrectionTools {
  constructor(photo) {
    const { words, layers } = photo.data;
    this.photo = photo;
    this.tool = "view";
    this.stroke = null;
    const button = (attributes, act) => {
      const node = make("button", { type: "button", ...attributes });
      node.addEventListener("click", act);
      return node;
    };
    const kinds = [...layers].reverse();
    const named = (one) => make("option", { value: one.code, text: words.structures[one.code] });
    this.buttons = Object.entries(words.tools).map(([tool, text]) => button({ "data-tool": tool, text }, () => this.take(tool)));
    this.kind = make("select", { "aria-label": words.kind, "data-kind": true }, kinds.map(named));
    this.kind.addEventListener("change", () => this.show());
    this.other = make("select", { "aria-label": words.relabel, "data-relabel": true },
      [make("option", { value: "", text: words.relabel }), ...kinds.filter((one) => one.lesion).map(named)]);
    this.other.addEventListener("change", () => this.relabel());
    this.remove = button({ "data-remove": true, text: words.remove }, () => this.removeChosen());
    this.undo = button({ "data-undo": true, text: words.undo }, () => photo.edit({ what: "undo" }));
    this.redo = button({ "data-redo": true, text: words.redo }, () => photo.edit({ what: "redo" }));
    this.size = make("input", { type: "range", min: 1, max: LARGEST_BRUSH_PX, "data-size": true, "aria-label": words.brushSize });
    this.size.addEventListener("input", () => this.resize(Number(this.size.value)));
    this.sizeText = make("span", { class: "dim small" });
    this.sizeRow = make("label", { class: "brush" }, [make("span", { text: words.brushSize }), this.size, this.sizeText]);
    this.hint = make("p", { class: "dim small", "aria-live": "polite" });
    const group = (...nodes) => make("div", { class: "buttons", role: "group", "aria-label": words.correct }, nodes);
    this.root = make("details", { class: "card tools" }, [
      make("summary", { text: words.correct }),
      group(...this.buttons, this.kind), this.sizeRow, group(this.remove, this.other, this.undo, this.redo), this.hint,
    ]);
    // Closing the tools puts the current one away.
    this.root.addEventListener("toggle", () => { if (!this.root.open) this.take("view"); });
    this.pen = make("path", { class: "pen", "vector-effect": "non-scaling-stroke" });
    this.track = make("path", { class: "track" });
    this.round = make("circle", { class: "brush-edge", "vector-effect": "non-scaling-stroke" });
    this.drawn = make("g", { "aria-hidden": "true" }, [this.track, this.pen, this.round]);
  }

  get isActive() {
    return this.tool !== "view";
  }

  take(tool) {
    this.tool = tool;
    this.drop();
    this.round.style.display = "none";
    this.show();
  }

  /* Ends a stroke without an edit. */
  drop() {
    this.stroke = null;
    this.pen.removeAttribute("d");
    this.track.removeAttribute("d");
  }

  show() {
    const { words, canUndo, canRedo } = this.photo.data;
    const { chosen, pending } = this.photo;
    for (const node of this.buttons) node.setAttribute("aria-pressed", String(node.dataset.tool === this.tool));
    this.kind.hidden = this.tool !== "draw" && !PAINTS.has(this.tool);
    this.sizeRow.hidden = !PAINTS.has(this.tool);
    // An edit that waits for the server can be undone, and an undo that waits can be redone.
    this.undo.disabled = !canUndo && !pending.length;
    this.redo.disabled = !canRedo && !pending.length;
    this.remove.disabled = !chosen;
    this.other.disabled = !chosen;
    this.other.value = "";
    for (const option of this.other.options) option.hidden = Boolean(chosen) && option.value === chosen.code;
    if (!PAINTS.has(this.tool)) this.round.style.display = "none";
    this.hint.textContent = words.hints[this.tool];
    this.photo.root.classList.toggle("is-editing", this.isActive);
    this.resize(brush.px);
  }

  /* The brush's size, in pixels of the photo and in disc diameters. */
  resize(px) {
    const { words, language, disc_diameter_px: disc, width, height } = this.photo.data;
    const largest = Math.min(LARGEST_BRUSH_PX, Math.floor(Math.max(width, height) / 4)); // edits.py takes no larger one
    brush.px = Math.min(largest, Math.max(1, px));
    this.size.max = largest;
    const form = new Intl.NumberFormat(language, { maximumSignificantDigits: 2 });
    this.size.value = brush.px;
    this.sizeText.textContent = filled(disc ? words.brushPxDd : words.brushPx, { px: brush.px, dd: disc ? form.format(brush.px / disc) : "" });
    this.size.setAttribute("aria-valuetext", this.sizeText.textContent);
    this.round.setAttribute("r", brush.px / 2);
    this.track.setAttribute("stroke-width", brush.px);
  }

  down(event) {
    if (this.tool === "draw" || PAINTS.has(this.tool)) this.stroke = [this.photo.point(event)];
    this.trace();
  }

  move(event) {
    const [x, y] = this.photo.point(event);
    this.round.style.display = PAINTS.has(this.tool) ? "" : "none";
    this.round.setAttribute("cx", x);
    this.round.setAttribute("cy", y);
    if (!this.stroke) return false;
    this.stroke.push([x, y]);
    this.trace();
    return true;
  }

  trace() {
    if (!this.stroke) return;
    const path = `M${this.stroke.map((point) => point.join(" ")).join("L")}`;
    if (PAINTS.has(this.tool)) this.track.setAttribute("d", this.stroke.length > 1 ? path : `${path}h0`);
    else this.pen.setAttribute("d", path);
  }

  /* far: how far from its start the stroke has been, in screen pixels; a closed outline ends where it began. */
  up(event, far) {
    const { stroke } = this;
    this.drop();
    if (PAINTS.has(this.tool) && stroke) this.paint(stroke);
    else if (this.tool === "draw" && stroke && far >= 5 && stroke.length > 2) this.photo.edit({ what: "draw", code: this.kind.value, points: thinned(stroke) });
    else this.place(this.photo.point(event));
  }

  paint(points) {
    this.photo.edit({ what: this.tool, code: this.kind.value, points: thinned(points), radius: brush.px / 2 });
  }

  /* Sets a dot, a dab of the brush, the disc's center or the fovea at a point; Enter takes the middle of the visible part. */
  place(point) {
    const { photo } = this;
    if (PAINTS.has(this.tool)) this.paint([point]);
    else if (this.tool === "draw") {
      const radius = Math.max(photo.data.width / 600, photo.viewer.seen().width / 200);
      photo.edit({ what: "draw", code: this.kind.value, points: [point], radius });
    } else photo.edit({ what: this.tool, points: [point] });
  }

  removeChosen() {
    const one = this.photo.chosen;
    if (!one) return;
    this.photo.edit({ what: "delete", code: one.code, points: [one.pixel] });
    this.photo.choose(null, false); // so that a second Delete does not remove another lesion at the same place
  }

  relabel() {
    const one = this.photo.chosen;
    if (!one || !this.other.value) return;
    this.photo.edit({ what: "relabel", code: one.code, to: this.other.value, points: [one.pixel] });
    this.photo.choose(null, false);
  }

  /* Keys of the photo: Enter places, Escape ends, [ and ] change the brush, Ctrl+Z undoes, Ctrl+Y or with Shift redoes. */
  key(event) {
    const isCommand = event.ctrlKey || event.metaKey;
    const name = event.key.toLowerCase();
    if (isCommand && (name === "z" || name === "y")) {
      const isRedo = name === "y" || event.shiftKey;
      if (!(isRedo ? this.redo : this.undo).disabled) this.photo.edit({ what: isRedo ? "redo" : "undo" });
    } else if (event.key === "Enter" && this.isActive) {
      const { x, y } = this.photo.middle();
      this.place([x, y]);
    } else if (event.key === "Escape" && this.isActive) this.take("view");
    else if (event.key === "Delete" && this.photo.chosen) this.removeChosen();
    else if ((event.key === "[" || event.key === "]") && PAINTS.has(this.tool)) {
      const step = Math.max(1, Math.round(brush.px / 10));
      this.resize(brush.px + (event.key === "]" ? step : -step));
    } else return;
    event.preventDefault();
  }
}
