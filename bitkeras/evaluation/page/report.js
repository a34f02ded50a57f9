"use strict";
// The page can be read without this: it makes tables sort, commands copy, and opens what is folded before printing.
(() => {
  const announced = document.querySelector(".announced");
  const tell = (text) => { announced.textContent = text; };

  // Numbers by value, words by the alphabet, and what is empty last in either direction.
  const key = (cell) => {
    if (cell.dataset.key !== undefined) return Number(cell.dataset.key);
    const text = cell.textContent.trim();
    return text === "" ? null : text;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a.localeCompare(b, undefined, { numeric: true, sensitivity: "base" });
  };
  const isMissing = (cell, numeric) => key(cell) === null || (numeric && typeof key(cell) !== "number");

  const sort = (table, heading, column) => {
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.some((row) => typeof key(row.cells[column]) === "number");
    const before = heading.getAttribute("aria-sort");
    // Of scores one wants the highest first, of names the alphabet.
    const first = numeric ? "descending" : "ascending";
    const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    rows.sort((one, other) => {
      const [a, b] = [one.cells[column], other.cells[column]];
      const missing = isMissing(a, numeric) - isMissing(b, numeric);
      return missing || (isMissing(a, numeric) ? 0 : sign * compare(key(a), key(b)));
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    table.tBodies[0].append(...rows);
    tell(`Sorted by ${heading.textContent.trim()}, ${order}.`);
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    if (table.tBodies[0].rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading, column));
    });
  }

  const copy = async (text) => {
    if (navigator.clipboard) {
      try { return await navigator.clipboard.writeText(text); } catch { /* Refused: the old way below. */ }
    }
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  };
  for (const command of document.querySelectorAll("pre.command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    const text = command.textContent;
    button.addEventListener("click", async () => {
      await copy(text);
      button.textContent = "Copied";
      tell("The command is copied.");
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    const holder = document.createElement("div");
    holder.className = "copied";
    command.replaceWith(holder);
    holder.append(command, button);
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });
})();
