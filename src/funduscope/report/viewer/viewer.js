"use strict";
/* A photo that can be zoomed and moved, with layers that can be switched and faded, lesions that answer a click with
   their details, a red-free view, contrast, and a ruler.

   `attachViewer(root, view, panels)` works on an element that holds an `svg[data-photo]`; its viewBox is what is seen of
   the photo. Controls may be in it or in `panels`: `button[data-zoom="in|out|all|own"]`, `button[data-bare]` (the photo
   alone), `button[data-filter="red-free|contrast"]`, `button[data-ruler]`, `[data-scale]` (shows the zoom in percent),
   `input[type=checkbox][data-show=CODE]` and `input[type=range][data-fade=CODE]` for `g[data-layer=CODE]`.

   view: `lesions` (id, code, x, y, area, fovea_dd, quadrant, probability), `disc_diameter_px` (null where not known),
   `language`, `words`; where given, `onChoose(lesion)` is called for a clicked lesion, null for none, and `onRegionChange()` when
   another part is seen. An element with `data-viewer` brings its view as JSON in that attribute. */
const attachViewer = (() => {
  const DEEPEST = 40;
  const STEP = 1.4;
  const CLICK_PX = 5;
  const FINGER_PX = 14;
  const SVG_SPACE = "http://www.w3.org/2000/svg";

  const svgNode = (tag, attributes, ...children) => {
    const node = document.createElementNS(SVG_SPACE, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  const htmlNode = (tag, name, ...children) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...children);
    return node;
  };

  /* Red-free: the green channel, in which blood is dark. Contrast: each pixel's difference from its surroundings, tripled. */
  const filters = (width) => {
    const green = () => svgNode("feColorMatrix", { type: "matrix", values: "0 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 0 0 1 0" });
    const local = () => [
      svgNode("feGaussianBlur", { in: "SourceGraphic", stdDeviation: width / 40, edgeMode: "duplicate", result: "surroundings" }),
      svgNode("feComposite", { in: "SourceGraphic", in2: "surroundings", operator: "arithmetic", k2: 3, k3: -2 }),
    ];
    const parts = { "red-free": [green()], contrast: local(), "red-free-contrast": [...local(), green()] };
    return svgNode("defs", {}, ...Object.entries(parts).map(([name, steps]) => svgNode("filter", {
      id: `funduscope-${name}`, x: 0, y: 0, width: 1, height: 1, "color-interpolation-filters": "sRGB",
    }, ...steps)));
  };

  const attach = (root, view = {}, panels = []) => {
    const svg = root.querySelector("svg[data-photo]");
    const stage = svg.parentElement;
    const picture = svg.querySelector("image");
    const all = (selector) => [root, ...panels].flatMap((part) => [...part.querySelectorAll(selector)]);
    const whole = { width: svg.viewBox.baseVal.width, height: svg.viewBox.baseVal.height };
    const form = (digits) => new Intl.NumberFormat(view.language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
    let seen = { x: 0, y: 0, width: whole.width };
    const fingers = new Map();

    const showRegion = (x, y, width) => {
      const clamped = Math.min(whole.width, Math.max(whole.width / DEEPEST, width));
      const height = (clamped * whole.height) / whole.width;
      seen = {
        x: Math.min(whole.width - clamped, Math.max(0, x)),
        y: Math.min(whole.height - height, Math.max(0, y)),
        width: clamped,
      };
      svg.setAttribute("viewBox", `${seen.x} ${seen.y} ${clamped} ${height}`);
      root.classList.toggle("is-zoomed", clamped < whole.width);
      refresh();
    };

    const middle = () => ({
      x: seen.x + seen.width / 2,
      y: seen.y + (seen.width * whole.height) / whole.width / 2,
    });

    const toPhoto = (clientX, clientY) => {
      const point = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
      return { x: point.x, y: point.y };
    };

    /* A point of the photo in pixels of the stage. */
    const toStage = (x, y) => {
      const point = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
      const bounds = stage.getBoundingClientRect();
      return { x: point.x - bounds.left, y: point.y - bounds.top };
    };

    const zoom = (factor, around) => {
      const at = around || middle();
      const width = Math.min(whole.width, Math.max(whole.width / DEEPEST, seen.width / factor));
      const kept = width / seen.width;
      showRegion(at.x - (at.x - seen.x) * kept, at.y - (at.y - seen.y) * kept, width);
    };

    const move = (right, down) => showRegion(seen.x + right * seen.width, seen.y + down * seen.width, seen.width);

    /* Pixels of the screen for each pixel of the photo. */
    const scaleOf = () => {
      const matrix = svg.getScreenCTM();
      return matrix ? matrix.a * (window.devicePixelRatio || 1) : 0;
    };

    const ownSize = () => {
      const at = chosen || middle();
      const width = Math.min(whole.width, seen.width * scaleOf());
      showRegion(at.x - width / 2, at.y - (width * whole.height) / whole.width / 2, width);
    };

    /* Details of a lesion, or the ruler's length, in a box of the stage at a point of the photo. */
    const tip = htmlNode("div", "tip");
    tip.setAttribute("role", "status");
    stage.append(tip);
    let tipAt = null;

    const placeTip = () => {
      if (!tipAt) return;
      const { x, y } = toStage(tipAt.x, tipAt.y);
      const away = tipAt.radius * (scaleOf() / (window.devicePixelRatio || 1)) + 12;
      const left = Math.min(stage.clientWidth - tip.offsetWidth - 4, Math.max(4, x - tip.offsetWidth / 2));
      const above = y - away - tip.offsetHeight;
      const top = above < 4 ? Math.min(stage.clientHeight - tip.offsetHeight - 4, y + away) : above;
      tip.style.left = `${left}px`;
      tip.style.top = `${Math.max(4, top)}px`;
      tip.classList.toggle("is-away", x < 0 || y < 0 || x > stage.clientWidth || y > stage.clientHeight);
    };

    const showTip = (at, ...children) => {
      tipAt = at;
      tip.replaceChildren(...children);
      tip.classList.toggle("is-shown", Boolean(at));
      placeTip();
    };

    const radius = (one) => Math.sqrt(one.area / Math.PI);
    let chosen = null;
    const ring = svgNode("g", { class: "mark chosen-ring", "aria-hidden": "true" });
    svg.append(ring);

    const details = (one) => {
      const { words } = view;
      const rows = [
        [words.columns.probability, `${form(0).format(100 * one.probability)} %`],
        [words.columns.area, form(0).format(one.area)],
        [words.columns.place, one.quadrant ? words.quadrants[one.quadrant] : "–"],
        [words.columns.fovea, one.fovea_dd === null ? "–" : form(2).format(one.fovea_dd)],
      ];
      return [htmlNode("strong", "", words.structures[one.code]), htmlNode("dl", "", ...rows.flatMap(([name, value]) => [
        htmlNode("dt", "", name), htmlNode("dd", "", value)]))];
    };

    /* Rings a lesion and shows its details; null for none. */
    const choose = (one) => {
      chosen = one;
      ring.replaceChildren();
      if (!one) {
        showTip(null);
        return;
      }
      const r = radius(one) * 1.6 + whole.width / 250;
      for (const kind of ["casing", "line"]) ring.append(svgNode("circle", { class: kind, cx: one.x, cy: one.y, r }));
      showTip({ x: one.x, y: one.y, radius: r }, ...details(one));
    };

    /* Centers a lesion and zooms in until it and its surroundings fill the view; never zooms out. */
    const show = (one) => {
      const wide = Math.min(seen.width, Math.max(whole.width / 8, radius(one) * 12));
      showRegion(one.x - wide / 2, one.y - (wide * whole.height) / whole.width / 2, wide);
      const bounds = svg.getBoundingClientRect();
      if (bounds.bottom < 80 || bounds.top > window.innerHeight - 80) svg.scrollIntoView({ block: "nearest" });
    };

    const layer = (code) => svg.querySelector(`[data-layer="${CSS.escape(code)}"]`);

    /* The lesion under a click, or the nearest one within a finger's width. */
    const lesionAt = (event) => {
      const lesions = (view.lesions || []).filter((one) => !layer(one.code).hasAttribute("hidden"));
      const under = (svg.getRootNode().elementsFromPoint(event.clientX, event.clientY) || [])
        .map((node) => node.dataset && node.dataset.lesion).filter(Boolean);
      const exact = under.map((id) => lesions.find((one) => one.id === id)).find(Boolean);
      if (exact) return exact;
      const at = toPhoto(event.clientX, event.clientY);
      const reach = (FINGER_PX * (window.devicePixelRatio || 1)) / scaleOf();
      const near = lesions
        .map((one) => [Math.hypot(one.x - at.x, one.y - at.y) - radius(one), one])
        .filter(([away]) => away < reach)
        .sort((a, b) => a[0] - b[0]);
      return near.length ? near[0][1] : null;
    };

    /* The ruler: a line between two points of the photo, with its length in disc diameters. */
    const ruler = all("button[data-ruler]")[0];
    let line = null;
    const drawn = svgNode("g", { class: "mark ruler", "aria-hidden": "true" });
    svg.append(drawn);

    const isMeasuring = () => Boolean(ruler) && ruler.getAttribute("aria-pressed") === "true";

    const drawLine = () => {
      drawn.replaceChildren();
      if (!line) return;
      const { from, to } = line;
      for (const kind of ["casing", "line"]) drawn.append(svgNode("path", { class: kind, d: `M${from.x} ${from.y}L${to.x} ${to.y}` }));
      const px = Math.hypot(to.x - from.x, to.y - from.y);
      const length = [`${form(0).format(px)} px`];
      if (view.disc_diameter_px) length.unshift(`${form(2).format(px / view.disc_diameter_px)} ${view.words.dd}`);
      showTip({ ...to, radius: 0 }, length.join(" · "));
    };

    const setRuler = (on) => {
      ruler.setAttribute("aria-pressed", String(on));
      root.classList.toggle("is-measuring", on);
      line = null;
      choose(null);
      if (view.onChoose) view.onChoose(null);
      drawLine();
    };

    /* By keyboard: the first Enter begins a line in the middle of what is seen, arrows lead it, the next Enter ends it. */
    const measureHere = () => {
      line = line && line.follows ? { ...line, follows: false } : { from: middle(), to: middle(), follows: true };
      drawLine();
    };

    const showScale = () => {
      const times = scaleOf();
      root.classList.toggle("is-pixelated", times >= 3); // pixels are drawn as squares
      for (const node of all("[data-scale]")) node.textContent = times ? view.words.scale.replace("{percent}", Math.round(100 * times)) : "";
    };

    const refresh = () => {
      if (line && line.follows) {
        line.to = middle();
        drawLine();
      }
      placeTip();
      showScale();
      if (view.onRegionChange) view.onRegionChange();
    };

    const bare = all("button[data-bare]")[0];
    const setBare = (on) => {
      bare.setAttribute("aria-pressed", String(on));
      root.classList.toggle("is-bare", on);
    };

    const toggles = Object.fromEntries(all("button[data-filter]").map((node) => [node.dataset.filter, node]));
    if (Object.keys(toggles).length) svg.prepend(filters(whole.width));
    const applyFilters = () => {
      const names = ["red-free", "contrast"].filter((name) => toggles[name].getAttribute("aria-pressed") === "true");
      if (names.length) picture.setAttribute("filter", `url(#funduscope-${names.join("-")})`);
      else picture.removeAttribute("filter");
    };
    const toggle = (name) => {
      const node = toggles[name];
      node.setAttribute("aria-pressed", String(node.getAttribute("aria-pressed") !== "true"));
      node.dispatchEvent(new Event("change", { bubbles: true }));
      applyFilters();
    };

    // At the whole photo, turning the wheel outwards scrolls the page as anywhere else.
    svg.addEventListener("wheel", (event) => {
      if (event.deltaY > 0 && seen.width >= whole.width) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / (event.deltaMode === 0 ? 400 : 12)), toPhoto(event.clientX, event.clientY));
    }, { passive: false });

    let down = null;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      fingers.set(event.pointerId, event);
      svg.setPointerCapture(event.pointerId);
      down = event;
      if (!isMeasuring()) return;
      const at = toPhoto(event.clientX, event.clientY);
      line = { from: at, to: at };
    });

    svg.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      if (!event.buttons) { // no pointerup arrived, for example because a context menu was open
        fingers.delete(event.pointerId);
        return;
      }
      const others = [...fingers.values()].filter((one) => one.pointerId !== event.pointerId);
      const from = toPhoto(before.clientX, before.clientY);
      const to = toPhoto(event.clientX, event.clientY);
      fingers.set(event.pointerId, event);
      if (others.length === 0 && isMeasuring()) {
        line = { from: line ? line.from : from, to };
        drawLine();
      } else if (others.length === 0) {
        showRegion(seen.x + from.x - to.x, seen.y + from.y - to.y, seen.width);
      } else {
        const still = others[0];
        const apart = (one) => Math.max(1, Math.hypot(one.clientX - still.clientX, one.clientY - still.clientY));
        zoom(apart(event) / apart(before), toPhoto(still.clientX, still.clientY));
      }
    });

    svg.addEventListener("pointerup", (event) => {
      const isClick = down && fingers.size === 1 && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < CLICK_PX;
      fingers.delete(event.pointerId);
      if (!isClick || isMeasuring() || !view.lesions) return;
      choose(lesionAt(event));
      if (view.onChoose) view.onChoose(chosen);
    });
    for (const lost of ["pointercancel", "lostpointercapture"]) svg.addEventListener(lost, (event) => fingers.delete(event.pointerId));
    svg.addEventListener("dblclick", (event) => { if (!isMeasuring()) zoom(STEP * STEP, toPhoto(event.clientX, event.clientY)); });

    const keys = {
      "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: () => showRegion(0, 0, whole.width), 1: ownSize,
      ArrowLeft: () => move(-0.1, 0), ArrowRight: () => move(0.1, 0),
      ArrowUp: () => move(0, -0.1), ArrowDown: () => move(0, 0.1),
      ...(bare ? { h: () => setBare(!root.classList.contains("is-bare")) } : {}),
      ...(ruler ? { m: () => setRuler(!isMeasuring()) } : {}),
      ...(toggles["red-free"] ? { r: () => toggle("red-free"), c: () => toggle("contrast") } : {}),
    };
    svg.addEventListener("keydown", (event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return; // a tool has handled the key
      let action = keys[event.key];
      if (isMeasuring()) action = { Enter: measureHere, Escape: () => setRuler(false) }[event.key] || action;
      else if (event.key === "Escape" && chosen) {
        action = () => {
          choose(null);
          if (view.onChoose) view.onChoose(null);
        };
      }
      if (!action) return;
      event.preventDefault();
      action();
    });

    const zooms = { in: keys["+"], out: keys["-"], all: keys[0], own: ownSize };
    for (const button of all("button[data-zoom]")) button.addEventListener("click", zooms[button.dataset.zoom]);
    if (bare) bare.addEventListener("click", keys.h);
    if (ruler) ruler.addEventListener("click", keys.m);
    for (const [name, node] of Object.entries(toggles)) node.addEventListener("click", () => toggle(name));
    if (toggles.contrast) applyFilters();

    for (const box of all("input[data-show]")) {
      const apply = () => layer(box.dataset.show).toggleAttribute("hidden", !box.checked);
      box.addEventListener("change", apply);
      apply();
    }
    for (const slider of all("input[data-fade]")) {
      const apply = () => layer(slider.dataset.fade).setAttribute("opacity", slider.value / 100);
      slider.addEventListener("input", apply);
      apply();
    }
    const sizes = new ResizeObserver(refresh);
    sizes.observe(svg);
    showScale();
    return { showRegion, middle, toPhoto, choose, show, isMeasuring, seen: () => seen, end: () => sizes.disconnect() };
  };

  return attach;
})();

document.querySelectorAll("[data-viewer]").forEach((root) => attachViewer(root, JSON.parse(root.dataset.viewer)));
