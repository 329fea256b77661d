"use strict";
/* A photo that can be zoomed and moved, with layers that can be switched and faded.

   Works on every element with `data-viewer` that holds an `svg[data-photo]`; its viewBox is what is seen of the photo.
   Controls inside the element: `button[data-zoom="in|out|all"]`, `button[data-bare]` (the photo alone),
   `input[type=checkbox][data-show=CODE]` and `input[type=range][data-fade=CODE]` for `g[data-layer=CODE]`.
   `attachViewer(element)` does it for one that came later, and gives back what moves it. */
const attachViewer = (() => {
  const DEEPEST = 40;
  const STEP = 1.4;

  const attach = (root) => {
    const svg = root.querySelector("svg[data-photo]");
    const whole = { width: svg.viewBox.baseVal.width, height: svg.viewBox.baseVal.height };
    let seen = { x: 0, y: 0, width: whole.width };
    const fingers = new Map();

    const look = (x, y, width) => {
      const clamped = Math.min(whole.width, Math.max(whole.width / DEEPEST, width));
      const height = (clamped * whole.height) / whole.width;
      seen = {
        x: Math.min(whole.width - clamped, Math.max(0, x)),
        y: Math.min(whole.height - height, Math.max(0, y)),
        width: clamped,
      };
      svg.setAttribute("viewBox", `${seen.x} ${seen.y} ${clamped} ${height}`);
      root.classList.toggle("is-zoomed", clamped < whole.width);
    };

    const middle = () => ({
      x: seen.x + seen.width / 2,
      y: seen.y + (seen.width * whole.height) / whole.width / 2,
    });

    const toPhoto = (clientX, clientY) => {
      const point = new DOMPoint(clientX, clientY).matrixTransform(svg.getScreenCTM().inverse());
      return { x: point.x, y: point.y };
    };

    const zoom = (factor, around) => {
      const at = around || middle();
      const width = Math.min(whole.width, Math.max(whole.width / DEEPEST, seen.width / factor));
      const kept = width / seen.width;
      look(at.x - (at.x - seen.x) * kept, at.y - (at.y - seen.y) * kept, width);
    };

    const move = (right, down) => look(seen.x + right * seen.width, seen.y + down * seen.width, seen.width);

    const bare = root.querySelector("button[data-bare]");
    const setBare = (on) => {
      bare.setAttribute("aria-pressed", String(on));
      root.classList.toggle("is-bare", on);
    };

    // At the whole photo, turning the wheel outwards scrolls the page as anywhere else.
    svg.addEventListener("wheel", (event) => {
      if (event.deltaY > 0 && seen.width >= whole.width) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / (event.deltaMode === 0 ? 400 : 12)), toPhoto(event.clientX, event.clientY));
    }, { passive: false });

    svg.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, event);
      svg.setPointerCapture(event.pointerId);
    });

    svg.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const others = [...fingers.values()].filter((one) => one.pointerId !== event.pointerId);
      const from = toPhoto(before.clientX, before.clientY);
      const to = toPhoto(event.clientX, event.clientY);
      fingers.set(event.pointerId, event);
      if (others.length === 0) {
        look(seen.x + from.x - to.x, seen.y + from.y - to.y, seen.width);
      } else {
        const still = others[0];
        const apart = (one) => Math.max(1, Math.hypot(one.clientX - still.clientX, one.clientY - still.clientY));
        zoom(apart(event) / apart(before), toPhoto(still.clientX, still.clientY));
      }
    });

    const lift = (event) => fingers.delete(event.pointerId);
    svg.addEventListener("pointerup", lift);
    svg.addEventListener("pointercancel", lift);
    svg.addEventListener("dblclick", (event) => zoom(STEP * STEP, toPhoto(event.clientX, event.clientY)));

    const keys = {
      "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: () => look(0, 0, whole.width),
      ArrowLeft: () => move(-0.1, 0), ArrowRight: () => move(0.1, 0),
      ArrowUp: () => move(0, -0.1), ArrowDown: () => move(0, 0.1),
      h: () => setBare(!root.classList.contains("is-bare")),
    };
    svg.addEventListener("keydown", (event) => {
      const action = keys[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });

    const buttons = { in: () => zoom(STEP), out: () => zoom(1 / STEP), all: () => look(0, 0, whole.width) };
    for (const button of root.querySelectorAll("button[data-zoom]")) {
      button.addEventListener("click", buttons[button.dataset.zoom]);
    }
    if (bare) bare.addEventListener("click", keys.h);

    const layer = (code) => svg.querySelector(`[data-layer="${CSS.escape(code)}"]`);
    for (const box of root.querySelectorAll("input[data-show]")) {
      const apply = () => layer(box.dataset.show).toggleAttribute("hidden", !box.checked);
      box.addEventListener("change", apply);
      apply();
    }
    for (const slider of root.querySelectorAll("input[data-fade]")) {
      const apply = () => layer(slider.dataset.fade).setAttribute("opacity", slider.value / 100);
      slider.addEventListener("input", apply);
      apply();
    }
    return { look, zoom, toPhoto, seen: () => seen };
  };

  return attach;
})();

document.querySelectorAll("[data-viewer]").forEach(attachViewer);
