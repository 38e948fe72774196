/** Forms of values that messages, records and files are checked for; all of them have a limit. */
import * as v from 'valibot';

/** An object, and no list: valibot's own forms of objects take lists as well. */
export const object = v.custom<Record<string, unknown>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'expected an object',
);

/** A number that JSON can say: 1e999 is read as infinity. */
export const finite = v.pipe(v.number(), v.finite());

/** A whole number, to ±(2^53 − 1) at most. */
export const integer = (min: number, max = Number.MAX_SAFE_INTEGER) =>
  v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max));

/** Characters at most, and at least. */
export const text = (max: number, min = 0) => v.pipe(v.string(), v.minLength(min), v.maxLength(max));

/** Hex digits, so many. */
export const hexOf = (bytes: number) => v.pipe(v.string(), v.length(2 * bytes), v.regex(/^[0-9a-f]+$/));

/** A list of so many at most. */
export const list = <Item extends v.GenericSchema>(item: Item, max: number) => v.pipe(v.array(item), v.maxLength(max));

/** The value in that form. @throws ValiError for any other, at the first thing that does not fit */
export function read<Schema extends v.GenericSchema>(schema: Schema, value: unknown): v.InferOutput<Schema> {
  return v.parse(schema, value, { abortEarly: true });
}
