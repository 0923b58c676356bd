"use strict";
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
