"use strict";
// Sorting: each heading becomes a button that sorts up, then down, then as written.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const written = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.key ?? row.cells[column].textContent.trim();
  const compare = (x, y) => {
    const [m, n] = [Number(x), Number(y)];
    return Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y, "en", { numeric: true }) : m - n;
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[heading.getAttribute("aria-sort")];
      const order = next === undefined ? "ascending" : next;
      for (const other of headings) other.removeAttribute("aria-sort");
      if (order === null) return body.append(...written);
      heading.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      body.append(...[...written].sort((a, b) => {
        const [x, y] = [key(a, column), key(b, column)];
        // Cells without a value stay last, whichever way.
        return x === "" || y === "" ? (x === "") - (y === "") : sign * compare(x, y);
      }));
    });
  });
}
// Filtering: a row stays if it holds every word.
for (const input of document.querySelectorAll("input[data-filter]")) {
  const name = input.dataset.filter;
  const rows = [...document.getElementById("table-" + name).tBodies[0].rows];
  const count = document.querySelector(`output[data-count="${name}"]`);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });
}
// A figure of an LR range that is wider than the screen begins at the range.
const boxes = [...document.querySelectorAll(".scroll")];
for (const box of boxes) {
  const band = box.querySelector('svg [id$="-lr-range"]');
  if (!band || box.scrollWidth <= box.clientWidth) continue;
  const middle = (element) => { const { left, width } = element.getBoundingClientRect(); return left + width / 2; };
  box.scrollLeft += middle(band) - middle(box);
}
// Only boxes that scroll are stops of the Tab key; a shade shows where there is more.
const more = (box) => {
  const below = box.scrollHeight - box.clientHeight - box.scrollTop;
  const right = box.scrollWidth - box.clientWidth - box.scrollLeft;
  const sides = { left: box.scrollLeft > 1, right: right > 1, below: below > 1 };
  box.dataset.more = Object.keys(sides).filter((side) => sides[side]).join(" ");
};
const stops = () => {
  for (const box of boxes) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    more(box);
  }
};
for (const box of boxes) box.addEventListener("scroll", () => more(box), { passive: true });
addEventListener("resize", stops);
stops();
// On paper every note is open.
addEventListener("beforeprint", () => { for (const notes of document.querySelectorAll("details")) notes.open = true; });
// Theme: the system's, until the reader chooses.
const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
const show = () => { theme.setAttribute("aria-pressed", String(dark())); };
theme.addEventListener("click", () => { document.documentElement.dataset.theme = dark() ? "light" : "dark"; show(); });
system.addEventListener("change", show);
show();
