// Boxes [x1, y1, x2, y2] in pixels of the picture, and where they lie on the screen.

export const LEAST = 4; // pixels of a side that somebody meant to draw

/** The box between two points, whichever comes first, within a picture of that size. */
export function between([ax, ay], [bx, by], width, height) {
  const inside = (value, side) => Math.min(Math.max(value, 0), side);
  return [
    inside(Math.min(ax, bx), width),
    inside(Math.min(ay, by), height),
    inside(Math.max(ax, bx), width),
    inside(Math.max(ay, by), height),
  ];
}

export const isBox = ([x1, y1, x2, y2]) => x2 - x1 >= LEAST && y2 - y1 >= LEAST;

/** Left, top, width and height as shares of the picture, for CSS. */
export function placed([x1, y1, x2, y2], width, height) {
  const share = (value, side) => `${(100 * value) / side}%`;
  return {
    left: share(x1, width),
    top: share(y1, height),
    width: share(x2 - x1, width),
    height: share(y2 - y1, height),
  };
}

/** A point of the screen in pixels of the picture, which fills `frame` (a DOMRect). */
export function inPicture(x, y, frame, width, height) {
  return [((x - frame.left) * width) / frame.width, ((y - frame.top) * height) / frame.height];
}

export const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
