// Rows and counts in words, for the eye and for a screen reader.

/** 1 match, 2 matches. */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

export function cameraOf(row) {
  return row.camera === null ? "unknown" : String(row.camera);
}

/** By the clock of who looks; "" where it is not known. */
export function timeOf(row) {
  if (row.time === null) {
    return "";
  }
  return new Date(row.time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** File, and where in a video. */
export function placeOf(row) {
  return row.seconds === null ? row.source : `${row.source}, at ${row.seconds.toFixed(1)} s`;
}

/** What a picture of a row shows to who cannot see it. */
export function described(row) {
  const when = timeOf(row);
  const where = row.camera === null ? "Person" : `Person before camera ${row.camera}`;
  return when ? `${where}, ${when}` : where;
}

/** Two decimals, never rounded up to a 1 that it is not. */
export function similarity(value) {
  return (value < 1 ? Math.min(value, 0.99) : value).toFixed(2);
}

function digits(probability) {
  if (probability < 0.01) return "<\u202f1";
  return probability > 0.99 ? ">\u202f99" : String(Math.round(100 * probability));
}

/** A probability in percent: never 0 or 100, which nothing is. */
export const percent = (value) => `${digits(value)}\u00a0%`;

/** The interval of a probability. */
export function interval({ low, high }) {
  return digits(low) === digits(high) ? percent(low) : `${digits(low)} to ${percent(high)}`;
}

/** How sure a match is: in words and percent, or how similar where no probability is known. */
export function sureness(match) {
  const { probability } = match;
  return probability ? `${probability.words} (${percent(probability.value)})` : similarity(match.similarity);
}

/** What a screen reader is told when matches have come. */
export function announced(matches, more) {
  if (!matches.length) {
    return "No match: other cameras, another time or another picture may help.";
  }
  const best = matches[0];
  const where = best.camera === null ? "" : ` before camera ${best.camera}`;
  const rest = more ? ", and there are more" : "";
  return `${counted(matches.length, "match", "matches")}${rest}. The most similar one, ${sureness(best)}, is${where || " at an unknown camera"}.`;
}

/** The name of a query in the trail. */
export function refinedName(right, wrong) {
  const parts = [];
  if (right) parts.push(`${right} right`);
  if (wrong) parts.push(`${wrong} wrong`);
  return `with ${parts.join(", ")}`;
}
