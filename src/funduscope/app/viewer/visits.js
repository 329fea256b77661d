/* Two registered photos of one eye over each other, with a divider or blinking; new and gone lesions are marked. */

class VisitsPage {
  constructor(host) {
    this.host = host;
    this.timer = null;
    this.percent = 50;
  }

  update(data) {
    const before = this.data;
    this.data = data;
    if (!before || JSON.stringify(before) !== JSON.stringify(data)) this.build();
  }

  build() {
    const { side, words, first, second, language } = this.data;
    this.stop();
    this.over = make("image", { href: first, width: side, height: side });
    this.under = make("image", { href: second, width: side, height: side });
    this.marks = make("g", { "data-layer": "changes", class: "mark" });
    this.ring = make("g", { class: "mark chosen-ring" });
    this.svg = make("svg", {
      "data-photo": true, viewBox: `0 0 ${side} ${side}`, width: side, height: side, tabindex: 0, role: "application", "aria-label": words.label,
    }, [this.under, this.over, this.marks, this.ring]);
    this.names = ["earlier", "later"].map((name) => make("span", {
      class: name === "later" ? "corner is-right" : "corner", "data-visit": name, text: words[name],
    }));
    this.root = make("div", { class: "viewer visits" }, [
      make("div", { class: "stage" }, [this.svg, this.makeDivider(), ...this.names]),
      make("div", { class: "panel" }, [this.makeButtons(), ...(this.data.known ? [this.makeTable()] : [])]),
    ]);
    this.host.replaceChildren(this.root);
    this.drawMarks();
    if (this.viewer) this.viewer.end();
    this.viewer = attachViewer(this.root, { language, words, onRegionChange: () => this.slide(this.percent) });
    this.slide(this.percent);
  }

  /* A line on the photo that is dragged, or moved by arrow keys; the earlier photo is on its left. */
  makeDivider() {
    this.divider = make("div", {
      class: "divider", role: "slider", tabindex: 0, "data-slide": true, "aria-label": this.data.words.slide, "aria-valuemin": 0, "aria-valuemax": 100,
    });
    const follow = (event) => {
      const bounds = this.svg.getBoundingClientRect();
      this.slide((100 * (event.clientX - bounds.left)) / bounds.width);
    };
    this.divider.addEventListener("pointerdown", (event) => {
      this.stop();
      this.divider.setPointerCapture(event.pointerId);
    });
    this.divider.addEventListener("pointermove", (event) => { if (this.divider.hasPointerCapture(event.pointerId)) follow(event); });
    this.divider.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.percent - 5, ArrowRight: this.percent + 5, Home: 0, End: 100 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      this.stop();
      this.slide(to);
    });
    return this.divider;
  }

  makeButtons() {
    const { words } = this.data;
    const button = (attributes) => make("button", { type: "button", ...attributes });
    this.blink = button({ "data-blink": true, "aria-pressed": "false", text: words.blink });
    this.blink.addEventListener("click", () => {
      if (this.timer) this.stop();
      else {
        this.timer = setInterval(() => this.swap(), 800);
        this.blink.setAttribute("aria-pressed", "true");
        this.swap();
      }
    });
    const swap = button({ "data-swap": true, text: words.swap });
    swap.addEventListener("click", () => { this.stop(); this.swap(); });
    const box = make("input", { type: "checkbox", "data-show": "changes" });
    box.checked = true;
    return make("div", { class: "buttons", role: "group", "aria-label": words.view }, [
      button({ "data-zoom": "out", "aria-label": words.zoomOut, text: "−" }),
      button({ "data-zoom": "in", "aria-label": words.zoomIn, text: "+" }),
      button({ "data-zoom": "all", text: words.whole }), this.blink, swap,
      make("label", { class: "check" }, [box, words.marks]),
    ]);
  }

  makeTable() {
    const { words, changes, colors, language } = this.data;
    const form = new Intl.NumberFormat(language);
    const rows = changes.map((change, index) => {
      const row = make("tr", { "data-row": index, tabindex: index ? -1 : 0 }, [
        make("th", { scope: "row" }, [make("span", { class: "named" }, [swatch(colors[change.code], change.what === "new"), words.structures[change.code]])]),
        make("td", { text: words[change.what] }), make("td", { text: form.format(change.area) }),
        make("td", { text: change.quadrant ? words.quadrants[change.quadrant] : "–" }),
      ]);
      row.addEventListener("click", () => this.choose(change, row));
      row.addEventListener("focus", () => this.choose(change, row));
      return row;
    });
    const body = make("tbody", {}, rows);
    body.addEventListener("keydown", stepRows);
    const heads = [words.kind, words.change, words.area, words.place];
    return make("div", { class: "card" }, [
      make("div", { class: "rows", tabindex: -1 }, [make("table", { class: "small lesions", role: "grid", "aria-label": words.tableLabel }, [
        make("thead", {}, [make("tr", {}, heads.map((text) => make("th", { scope: "col", text })))]), body,
      ])]),
      ...(rows.length ? [] : [make("p", { class: "dim small", text: words.none })]),
    ]);
  }

  drawMarks() {
    const { changes, colors, side } = this.data;
    this.marks.replaceChildren(...changes.flatMap((change) => {
      const place = { cx: change.x, cy: change.y, r: change.radius + side / 100 };
      return [make("circle", { class: "casing", ...place }), make("circle", { class: change.what === "gone" ? "line gone" : "line", stroke: colors[change.code], ...place })];
    }));
  }

  /* Shows the earlier photo in this share of what is seen, from the left. */
  slide(percent) {
    this.percent = Math.min(100, Math.max(0, percent));
    if (!this.viewer) return;
    const { x, width } = this.viewer.seen();
    const edge = (x + (this.percent / 100) * width) / this.data.side;
    this.over.setAttribute("style", `clip-path: inset(0 ${100 * (1 - edge)}% 0 0)`);
    const photo = this.svg.getBoundingClientRect(), stage = this.divider.parentElement.getBoundingClientRect();
    this.divider.style.left = `${photo.left - stage.left + (this.percent / 100) * photo.width}px`; // the stage is wider
    this.divider.setAttribute("aria-valuenow", Math.round(this.percent));
    const [earlier, later] = this.names;
    earlier.hidden = this.percent === 0;
    later.hidden = this.percent === 100;
  }

  swap() {
    this.slide(this.percent < 50 ? 100 : 0);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    if (this.blink) this.blink.setAttribute("aria-pressed", "false");
  }

  choose(change, row) {
    chooseRow(row);
    const wide = this.data.side / 4;
    this.viewer.showRegion(change.x - wide / 2, change.y - wide / 2, wide);
    this.ring.replaceChildren(...["casing", "line"].map((kind) => make("circle", { class: kind, cx: change.x, cy: change.y, r: change.radius + this.data.side / 50 })));
  }
}

const pages = new WeakMap();

export default function ({ data, parentElement }) {
  const host = parentElement.querySelector("[data-host]");
  if (!pages.has(host)) pages.set(host, new VisitsPage(host));
  pages.get(host).update(data);
  return () => {
    const page = pages.get(host);
    page.stop();
    if (page.viewer) page.viewer.end();
  };
}
