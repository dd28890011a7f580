// A box that scrolls sideways (a wide table, formula, figure or printed output) must scroll without a
// mouse too: while its content is wider than the box, Tab stops at it and the arrow keys move it.
(() => {
  const BOXES = ".bd-article :is(pre, div.math, .cell_output .output, .pst-scrollable-table-container,"
    + " .scroll-box)";
  const NAMES = [["div.math", "formula"], ["table, .pst-scrollable-table-container", "table"],
                 ["pre", "text"], [":has(img)", "figure"]];

  function look(box) {
    if (box.scrollWidth > box.clientWidth + 1) {
      if (box.tabIndex >= 0) return;
      box.tabIndex = 0;
      box.dataset.scrolls = "";
      if (box.hasAttribute("role") || box.hasAttribute("aria-label")) return;
      const name = NAMES.find(([selector]) => box.matches(selector))?.[1] ?? "content";
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", `wide ${name}, scrolls sideways`);
    } else if ("scrolls" in box.dataset) {
      ["tabindex", "role", "aria-label", "data-scrolls"].forEach(name => box.removeAttribute(name));
    }
  }

  const lookAll = () => document.querySelectorAll(BOXES).forEach(look);
  let waiting;
  const later = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(lookAll); };
  addEventListener("load", () => {
    lookAll();
    addEventListener("resize", later);
    document.addEventListener("toggle", later, true);  // an opened cell
    window.MathJax?.startup?.promise?.then(later);
  });
})();
