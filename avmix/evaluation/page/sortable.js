
"use strict";
// Tables: a click on a heading orders the rows by it; cells without a number stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const text = head.classList.contains("text");
    const was = head.getAttribute("aria-sort");
    const rises = was ? was === "descending" : text;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rises ? "ascending" : "descending");
    const keyed = [...table.tBodies[0].rows].map(row => {
      const cell = row.cells[column], data = cell && cell.querySelector("data");
      return [text ? cell.textContent.trim() : data ? Number(data.value) : null, row];
    });
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = text ? a.localeCompare(b, "en", {numeric: true}) : a - b;
      return rises ? order : -order;
    });
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  }));
}
