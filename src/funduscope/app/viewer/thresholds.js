/* Threshold sliders. While one moves, the browser itself shows what lies above it, from a picture of the probabilities.
   When it is released, the server draws the outlines and updates counts, evidence and advice. */

const SETTLED_MS = 250;

class Thresholds {
  /* svg: the photo. layers: structure code to its group. send: sends an edit. */
  constructor(svg, layers, send) {
    this.layers = layers;
    this.send = send;
    this.moved = null;
    this.timers = new Map();
    this.rows = new Map();
    this.sharpen = make("feFuncA", { type: "linear", slope: 1, intercept: 0 });
    this.color = make("feColorMatrix", { type: "matrix" });
    // The red channel becomes alpha, which is cut at the threshold; a finite slope keeps the edge smooth.
    const filter = make("filter", { id: "funduscope-above", x: 0, y: 0, width: 1, height: 1, "color-interpolation-filters": "sRGB" }, [
      this.color, make("feComponentTransfer", {}, [this.sharpen]),
    ]);
    this.image = make("image", { "data-above": true, preserveAspectRatio: "none", filter: "url(#funduscope-above)" });
    this.image.style.display = "none";
    svg.querySelector("image").after(make("defs", {}, [filter]), this.image);
    this.list = make("ul", { class: "layers" });
    this.reset = make("button", { type: "button", "data-reset": true });
    this.reset.addEventListener("click", () => this.send({ what: "thresholds_reset" }));
    this.title = make("summary");
    this.note = make("p", { class: "dim small" });
    this.root = make("details", { class: "card thresholds" }, [
      this.title, this.note, this.list, make("div", { class: "buttons" }, [this.reset]),
    ]);
  }

  update(data) {
    this.data = data;
    const { words } = data;
    this.title.textContent = words.thresholds;
    this.note.textContent = words.thresholdsNote;
    this.reset.textContent = words.thresholdsReset;
    this.reset.hidden = data.thresholds.every((one) => one.fixed || one.value === one.model);
    if (this.list.children.length !== data.thresholds.length) this.build();
    if (this.moved || this.timers.size) return; // the server will send newer data
    for (const one of data.thresholds) {
      const row = this.rows.get(one.code);
      row.slider.value = Math.round(100 * one.value);
      row.slider.disabled = one.fixed;
      row.slider.title = one.fixed ? words.thresholdsFixed : "";
      this.showValue(one.code);
    }
    this.hide();
  }

  build() {
    const { data } = this;
    this.list.replaceChildren(...data.thresholds.map((one) => {
      const name = data.words.structures[one.code];
      const value = make("span", { class: "dim" });
      const slider = make("input", { type: "range", min: 1, max: 99, "data-threshold": one.code, "aria-label": `${data.words.thresholds}: ${name}` });
      slider.addEventListener("input", () => this.show(one.code));
      // A slider that is released where it began changes nothing and sends no "change".
      for (const end of ["change", "pointerup", "pointercancel", "blur"]) {
        slider.addEventListener(end, () => this.moved === one.code && this.settle(one.code));
      }
      this.rows.set(one.code, { slider, value });
      return make("li", {}, [make("span", { class: "named" }, [make("span", { text: name }), value]), slider]);
    }));
  }

  showValue(code) {
    const { slider, value } = this.rows.get(code);
    const form = new Intl.NumberFormat(this.data.language, { minimumFractionDigits: 2 });
    value.textContent = form.format(slider.value / 100);
    slider.setAttribute("aria-valuetext", value.textContent);
  }

  /* Shows what lies above the slider's value in the layer's color, instead of its outlines. */
  show(code) {
    const { data } = this;
    this.stop(code);
    if (this.moved !== code) {
      this.hide();
      this.moved = code;
      const [x, y, side] = data.frame;
      for (const [name, text] of Object.entries({ href: data.planes[code], x, y, width: side, height: side })) this.image.setAttribute(name, text);
      const hex = data.layers.find((layer) => layer.code === code).color;
      const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
      this.color.setAttribute("values", `0 0 0 0 ${red} 0 0 0 0 ${green} 0 0 0 0 ${blue} 1 0 0 0 0`);
      this.layers.get(code).style.visibility = "hidden";
    }
    const slope = 40;
    const value = this.rows.get(code).slider.value / 100;
    this.sharpen.setAttribute("slope", slope);
    this.sharpen.setAttribute("intercept", 0.5 - slope * value);
    this.image.style.display = "";
    this.showValue(code);
  }

  /* Sends the value after a pause, so that several key presses are one change. */
  settle(code) {
    const photo = this.data.id; // the page may show another one by then
    this.stop(code);
    this.timers.set(code, setTimeout(() => {
      this.timers.delete(code);
      if (this.moved === code) this.moved = null;
      const value = this.rows.get(code).slider.value / 100;
      const isSame = value === this.data.thresholds.find((one) => one.code === code).value;
      if (!isSame) this.send({ what: "threshold", code, value, photo });
      else if (!this.moved) this.hide();
    }, SETTLED_MS));
  }

  /* Forgets that a slider has settled: it moves again. */
  stop(code) {
    clearTimeout(this.timers.get(code));
    this.timers.delete(code);
  }

  hide() {
    this.image.style.display = "none";
    for (const group of this.layers.values()) group.style.visibility = "";
  }
}
