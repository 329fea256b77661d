// Filters and order; without this script everything is on the page, worst first.
"use strict";
(() => {
  const form = document.querySelector("[data-controls]");
  if (!form) return;
  form.hidden = false;
  const place = document.querySelector("[data-sections]");
  const sections = [...place.querySelectorAll(":scope > section")];
  const held = new Map(sections.map((section) => [section, [...section.querySelectorAll("[data-finding]")].map(
    (item) => ({ item, text: item.textContent.toLowerCase(), file: item.dataset.file, place: Number(item.dataset.place) }))]));
  const kind = form.querySelector("[data-kind]");
  const sort = form.querySelector("[data-sort]");
  const search = form.querySelector("[data-search]");
  const shown = form.querySelector("[data-shown]");

  const filter = () => {
    const wanted = new Set([...form.querySelectorAll("[data-severity]")].filter((box) => box.checked).map((box) => box.dataset.severity));
    const words = search.value.trim().toLowerCase();
    let count = 0;
    for (const section of sections) {
      const chosen = !kind.value || kind.value === section.id || kind.value === "group:" + section.dataset.group;
      let left = 0;
      for (const { item, text } of held.get(section)) {
        item.hidden = words !== "" && !text.includes(words);
        if (!item.hidden) left += 1;
      }
      section.hidden = !chosen || !wanted.has(section.dataset.severity) || left === 0;
      const rest = section.querySelector(".rest");
      if (rest && words) rest.open = [...rest.querySelectorAll("[data-finding]")].some((item) => !item.hidden);
      if (!section.hidden) count += words ? left : Number(section.dataset.count);
    }
    shown.textContent = count === 1 ? "1 finding shown" : count + " findings shown";
  };

  const orders = {
    worst: (a, b) => a.dataset.place - b.dataset.place,
    most: (a, b) => b.dataset.count - a.dataset.count || a.dataset.place - b.dataset.place,
    title: (a, b) => a.dataset.title.localeCompare(b.dataset.title) || a.dataset.place - b.dataset.place,
  };
  const order = () => {
    place.append(...[...sections].sort(orders[sort.value] || orders.worst));
    const byFile = sort.value === "file";
    for (const section of sections) {
      const list = [...held.get(section)].sort((a, b) => byFile
        ? a.file.localeCompare(b.file, undefined, { numeric: true }) || a.place - b.place : a.place - b.place);
      for (const { item } of list) item.parentNode.append(item);
    }
  };

  form.addEventListener("input", filter);
  sort.addEventListener("change", order);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
})();
