/* Two registered photos of one eye over each other, with a slider or blinking; new and gone lesions are marked. */

class VisitsPage {
  constructor(host) {
    this.host = host;
    this.timer = null;
  }

  update(data) {
    const before = this.data;
    this.data = data;
    if (!before || JSON.stringify(before) !== JSON.stringify(data)) this.build();
  }

  build() {
    const { side, words, first, second } = this.data;
    clearInterval(this.timer);
    this.timer = null;
    this.over = make("image", { href: first, width: side, height: side });
    this.marks = make("g", { "data-layer": "changes", class: "mark" });
    this.ring = make("g", { class: "mark chosen-ring" });
    this.svg = make("svg", {
      "data-photo": true, viewBox: `0 0 ${side} ${side}`, width: side, height: side, tabindex: 0, role: "img", "aria-label": words.label,
    }, [make("image", { href: second, width: side, height: side }), this.over, this.marks, this.ring]);
    this.root = make("div", { class: "viewer visits", "data-viewer": true }, [
      make("div", { class: "stage" }, [this.svg]), this.makeButtons(), ...(this.data.known ? [this.makeTable()] : []),
    ]);
    this.host.replaceChildren(this.root);
    this.drawMarks();
    this.viewer = attachViewer(this.root);
    this.slide(50);
  }

  makeButtons() {
    const { words } = this.data;
    const button = (attributes) => make("button", { type: "button", ...attributes });
    this.range = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": words.slide, "data-slide": true });
    this.range.addEventListener("input", () => { this.stop(); this.slide(this.range.value); });
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
    this.visitName = make("span", { class: "dim small", "aria-live": "polite" });
    const box = make("input", { type: "checkbox", "data-show": "changes" });
    box.checked = true;
    return make("div", { class: "controls" }, [
      make("div", { class: "slide" }, [make("span", { class: "small", text: words.earlier }), this.range, make("span", { class: "small", text: words.later })]),
      make("div", { class: "buttons", role: "group", "aria-label": words.zoom }, [
        button({ "data-zoom": "out", "aria-label": words.zoomOut, text: "−" }),
        button({ "data-zoom": "in", "aria-label": words.zoomIn, text: "+" }),
        button({ "data-zoom": "all", text: words.whole }), this.blink, swap, this.visitName,
        make("label", { class: "check" }, [box, words.marks]),
      ]),
    ]);
  }

  makeTable() {
    const { words, changes, colors, language } = this.data;
    const form = new Intl.NumberFormat(language);
    const rows = changes.map((change, index) => {
      const place = change.quadrant ? words.quadrants[change.quadrant] : "–";
      const find = make("button", { type: "button", class: "find", "aria-label": filled(words.find, { name: words.structures[change.code], place }) }, [swatch(colors[change.code], change.what === "new")]);
      const row = make("tr", { "data-row": index }, [
        make("td", {}, [find]), make("th", { scope: "row", text: words.structures[change.code] }),
        make("td", { text: words[change.what] }), make("td", { text: form.format(change.area) }), make("td", { text: place }),
      ]);
      row.addEventListener("click", () => this.choose(change, row));
      return row;
    });
    const heads = ["", words.kind, words.change, words.area, words.place];
    return make("div", { class: "card" }, [
      make("div", { class: "rows" }, [make("table", { class: "small lesions" }, [
        make("thead", {}, [make("tr", {}, heads.map((text) => make("th", { scope: "col", text })))]), make("tbody", {}, rows),
      ])]),
      ...(rows.length ? [] : [make("p", { class: "dim small", text: words.none })]),
    ]);
  }

  drawMarks() {
    const { changes, colors, side } = this.data;
    this.marks.replaceChildren(...changes.flatMap((change) => {
      const radius = Math.max(side / 90, Math.sqrt(change.area / Math.PI) / 4);
      const place = { cx: change.x, cy: change.y, r: radius };
      return [make("circle", { class: "casing", ...place }), make("circle", { class: change.what === "gone" ? "line gone" : "line", stroke: colors[change.code], ...place })];
    }));
  }

  /* Shows the earlier photo in this share of the width, from the left. */
  slide(percent) {
    this.over.setAttribute("style", `clip-path: inset(0 ${100 - percent}% 0 0)`);
    this.range.value = percent;
    this.visitName.textContent = "";
  }

  swap() {
    const isEarlier = Number(this.range.value) < 50;
    this.slide(isEarlier ? 100 : 0);
    this.visitName.textContent = isEarlier ? this.data.words.earlier : this.data.words.later;
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.blink.setAttribute("aria-pressed", "false");
  }

  choose(change, row) {
    for (const other of row.parentElement.children) other.classList.toggle("is-chosen", other === row);
    const wide = this.data.side / 4;
    this.viewer.look(change.x - wide / 2, change.y - wide / 2, wide);
    this.ring.replaceChildren(...["casing", "line"].map((kind) => make("circle", { class: kind, cx: change.x, cy: change.y, r: this.data.side / 50 })));
  }
}

const pages = new WeakMap();

export default function ({ data, parentElement }) {
  const host = parentElement.querySelector("[data-host]");
  if (!pages.has(host)) pages.set(host, new VisitsPage(host));
  pages.get(host).update(data);
  return () => clearInterval(pages.get(host) && pages.get(host).timer);
}
