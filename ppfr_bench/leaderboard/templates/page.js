"use strict";
// A screen reader names a number by its table, "0.50, LPIPS, Ridge inversion", and a head by its own words alone.
{
  const said = (cell) => {
    const copy = cell.cloneNode(true);
    for (const part of copy.querySelectorAll("small, .definition, .point, .badge, details, p, img")) part.remove();
    for (const part of copy.querySelectorAll("br")) part.replaceWith(" ");
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const wide = (cells) => cells.reduce((sum, cell) => sum + cell.colSpan, 0);
  for (const table of document.querySelectorAll("table")) {
    const heads = [...(table.tHead?.rows ?? [])].map((row) => [...row.cells]);
    const columns = (heads.at(-1) ?? []).flatMap((head) => Array(head.colSpan).fill(said(head)));
    const groups = heads.length > 1 ? heads[0].flatMap((head) => Array(head.colSpan).fill(said(head))) : [];
    for (const head of heads.flat()) if (head.matches("th")) head.setAttribute("aria-label", said(head));
    let named = "";
    for (const row of table.tBodies[0]?.rows ?? []) {
      const cells = [...row.cells];
      const head = cells.find((cell) => cell.matches("th"));
      named = head ? said(head) : named;
      if (head && named) head.setAttribute("aria-label", named);
      const absent = columns.length - wide(cells); // Below a head that spans several rows.
      for (const [at, cell] of cells.entries()) {
        const column = absent + wide(cells.slice(0, at));
        const place = [...(cell === head ? [] : [columns[column], groups[column]]), named].filter(Boolean).join(", ");
        for (const part of cell.querySelectorAll("summary, a[href]")) {
          const words = part.textContent.replace(/\s+/g, " ").trim();
          if (part.hasAttribute("aria-label") || part.querySelector("img") || !place) continue;
          if (part.matches("summary") || !/[a-z]/i.test(words)) part.setAttribute("aria-label", `${words}, ${place}`);
        }
      }
    }
  }
  for (const link of document.querySelectorAll(".record code + a, .records code + a")) {
    const key = link.previousElementSibling.textContent.split(" ").at(-1);
    link.setAttribute("aria-label", `${link.textContent} of record ${key}`);
  }
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.querySelectorAll("th[data-column]")];
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    // A link to a definition stays beside the button: a button holds no link.
    button.append(...[...head.childNodes].filter((node) => node.className !== "definition"));
    head.prepend(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first === "ascending" ? ["ascending", "descending"] : ["descending", "ascending"];
      const next = { [first[0]]: first[1], [first[1]]: "none" }[head.getAttribute("aria-sort")] ?? first[0];
      for (const other of heads) other.removeAttribute("aria-sort");
      body.classList.toggle("sorted", next !== "none");
      if (next === "none") return body.append(...original);
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const value = (row) => row.cells[Number(head.dataset.column)].dataset.sort ?? "";
      body.append(...[...original].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        // What was not measured stays last either way.
        if (x === "" || y === "") return (x === "") - (y === "");
        const numbers = Number(x) - Number(y);
        return sign * (Number.isNaN(numbers) ? x.localeCompare(y) : numbers);
      }));
    });
  }
}
for (const table of document.querySelectorAll("table.filtered")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 8) continue;
  const label = document.createElement("label");
  label.className = "filter";
  const box = document.createElement("input");
  box.type = "search";
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  label.append("Filter by name, family, attack or flag ", box, " ", count);
  const scroll = table.closest(".scroll");
  scroll.before(label);
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = `${row.textContent} ${row.dataset.more ?? ""}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${left} of ${rows.length}` : "";
  });
}
// Who follows a link into a folded part finds it open, and so does who prints.
const unfold = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.matches("details")) part.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.fold")) part.open = true;
});
