// A link leads into what is folded: a box around or at its place opens, a tab is chosen. Printed,
// the boxes of claims are open.
(() => {
  function open() {
    const name = decodeURIComponent(location.hash.slice(1));
    const place = name && document.getElementById(name);
    if (!place) return;
    const boxes = [place.querySelector(":scope > details")];
    for (let part = place; part; part = part.parentElement) {
      if (part.matches("details")) boxes.push(part);
      if (part.matches(".sd-tab-content")) {
        part.previousElementSibling.previousElementSibling.checked = true;  // label, button
      }
    }
    boxes.filter(Boolean).forEach(box => { box.open = true; });
    place.scrollIntoView();
  }

  addEventListener("load", open);
  addEventListener("hashchange", open);
  addEventListener("beforeprint", () => document.querySelectorAll(".claim > details").forEach(
    box => { box.open = true; }));
})();
