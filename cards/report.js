// Sorting by the button in a column's head: numbers by value, names by letter; the table is whole without it.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[column].dataset.value;
      const order = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x !== undefined && y !== undefined) return (x - y) * (down ? -1 : 1);
        if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1; // what is missing comes last
        return a.cells[column].textContent.localeCompare(b.cells[column].textContent, "en", { numeric: true }) * (down ? -1 : 1);
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
