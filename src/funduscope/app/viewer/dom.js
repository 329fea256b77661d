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
