/* Makes DOM nodes. Every text is set as text, never parsed as markup. */

const SVG = "http://www.w3.org/2000/svg";

const SVG_TAGS = new Set(["svg", "g", "path", "circle", "image", "rect", "defs", "filter", "feColorMatrix", "feComponentTransfer", "feFuncA"]);

const make = (tag, attributes = {}, children = []) => {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);

const swatch = (color, isFilled) => make("svg", { class: "swatch", viewBox: "0 0 16 16", "aria-hidden": "true" }, [
  make("rect", { x: 1.5, y: 1.5, width: 13, height: 13, rx: 3, fill: isFilled ? color : "none", stroke: color, "stroke-width": 2.5 }),
]);

/* Gives an existing swatch another color. */
const recolor = (node, color, isFilled) => {
  const [square] = node.children;
  square.setAttribute("fill", isFilled ? color : "none");
  square.setAttribute("stroke", color);
};

/* Marks one row of a table as chosen, none without a row. The chosen row, otherwise the first one, is the table's one tab stop. */
const chooseRow = (row, body = row.parentElement) => {
  const stop = row || body.firstElementChild;
  for (const node of body.children) {
    node.classList.toggle("is-chosen", node === row);
    node.setAttribute("aria-selected", String(node === row));
    node.tabIndex = node === stop ? 0 : -1;
  }
  return row;
};

/* Arrow keys go from row to row of a table's body. */
const stepRows = (event) => {
  const rows = [...event.currentTarget.children];
  const at = rows.indexOf(event.target.closest("tr"));
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 10, PageUp: at - 10, Home: 0, End: rows.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  rows[Math.min(rows.length - 1, Math.max(0, to))].focus();
};
