"use strict";
// A click on a heading sorts by it: numbers from the largest, words from the first. The second click turns the order
// around, the third one brings back the order of calls.
const table = document.getElementById("layers");
const body = table.tBodies[0];
const calls = Array.from(body.rows);
const headings = Array.from(table.tHead.rows[0].cells);

function compare(one, other) {
  return typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true });
}

function value(row, column, isNumber) {
  const text = row.cells[column].dataset.value;
  return isNumber ? (text === "" ? -1 : Number(text)) : text;
}

function sort(heading) {
  const column = headings.indexOf(heading);
  const isNumber = heading.classList.contains("number");
  const orders = isNumber ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
  const now = heading.getAttribute("aria-sort");
  const next = orders[(orders.indexOf(now) + 1) % 3];
  headings.forEach((other) => other.setAttribute("aria-sort", "none"));
  heading.setAttribute("aria-sort", next);
  const rows = calls.slice();
  const sign = next === "descending" ? -1 : 1;
  if (next !== "none") {
    rows.sort((a, b) => sign * compare(value(a, column, isNumber), value(b, column, isNumber)));
  }
  body.append(...rows);
}

headings.forEach((heading) => heading.firstElementChild.addEventListener("click", () => sort(heading)));

// A link to a layer's plots opens them.
function open() {
  const target = location.hash.startsWith("#plots-") ? document.getElementById(location.hash.slice(1)) : null;
  if (target !== null) {
    target.open = true;
    target.scrollIntoView();
  }
}

window.addEventListener("hashchange", open);
open();

// A table wider than the window says so, and has a shade where it goes on.
const scroll = document.querySelector(".scroll");
const frame = scroll.parentElement;

function showRest() {
  const rest = scroll.scrollWidth - scroll.clientWidth;
  frame.parentElement.classList.toggle("scrolls", rest > 1);
  frame.classList.toggle("more", rest - scroll.scrollLeft > 1);
}

scroll.addEventListener("scroll", showRest, { passive: true });
new ResizeObserver(showRest).observe(scroll);
showRest();
