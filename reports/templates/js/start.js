/* Draw, show what the address names, and stay fit when the window changes. */

if (measured.length) { decide(); whenResized.unshift(decide); }
let resizing = 0;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => { for (const redraw of whenResized) redraw(); }, 150);
});
readAddress();
for (const finish of whenDrawn) finish();
clearTimeout(writing);
