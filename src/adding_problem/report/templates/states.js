"use strict";
// A picture of cell states: one row for each cell, one column for each stretch of steps.

// Seen on light and on dark ground: the size of a state is its opacity.
const POSITIVE = [222, 107, 40], NEGATIVE = [47, 133, 190];

/** Draw states (columns, rows), read by `at(column, row)` in [-1, 1], over the whole canvas. */
function drawStates(canvas, columns, rows, at) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let row = 0, p = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, p += 4) {
      const value = Math.max(-1, Math.min(1, at(column, row)));
      image.data.set(value < 0 ? NEGATIVE : POSITIVE, p);
      image.data[p + 3] = 255 * Math.sqrt(Math.abs(value));
    }
  }
  context.putImageData(image, 0, 0);
}
