/**
 * How the fields of a message travel: those of an object as a list in the order of its schema, without their names; what is hex digits in a
 * program as bytes; all else as it is.
 */
import * as v from 'valibot';
import type { Plain } from './msgpack.ts';
import { bytesToHex, hexToBytes } from './uuid.ts';

/** Fields of a message of any version: nobody needs thousands of them. */
const MAX_FIELDS = 32;

/** Ids and hashes, in hex digits; they travel as bytes. @param least - bytes. @param most - bytes */
export const hexBytes = (least: number, most = least) =>
  v.pipe(
    v.string(),
    v.minLength(2 * least),
    v.maxLength(2 * most),
    v.regex(/^(?:[0-9a-f]{2})*$/),
    v.metadata({ mostBytes: most }),
  );

/** What has come in another form: no schema takes it. */
const MALFORMED = Symbol('malformed');

/** What valibot says of a schema, as far as it matters here. */
type Described = v.GenericSchema & {
  readonly entries?: Readonly<Record<string, v.GenericSchema>>;
  readonly item?: v.GenericSchema;
  readonly wrapped?: v.GenericSchema;
};

interface Layout {
  /** From the fields of a program to what travels. */
  readonly write: (value: unknown) => unknown;
  /** From what has come to what the schema is to check. */
  readonly read: (value: unknown) => unknown;
}

const layouts = new WeakMap<v.GenericSchema, Layout | null>();

/** What travels of fields that a schema has taken. */
export function toWire(schema: v.GenericSchema, fields: unknown): Plain {
  return (layoutOf(schema)?.write(fields) ?? fields) as Plain;
}

/** The fields that a schema is to check, of what has come. */
export function fromWire(schema: v.GenericSchema, value: Plain): unknown {
  const layout = layoutOf(schema);
  return layout === null ? value : layout.read(value);
}

/** null: as it is. */
function layoutOf(schema: Described): Layout | null {
  let layout = layouts.get(schema);
  if (layout === undefined) layouts.set(schema, (layout = makeLayout(schema)));
  return layout;
}

function makeLayout(schema: Described): Layout | null {
  const { mostBytes } = v.getMetadata(schema) as { readonly mostBytes?: number };
  if (mostBytes !== undefined) return bytesLayout(mostBytes);
  const { type, entries, item, wrapped } = schema;
  if (entries !== undefined) return fieldsLayout(entries, type === 'strict_object');
  if (wrapped !== undefined) return wrappedLayout(layoutOf(wrapped));
  return item === undefined ? null : itemsLayout(layoutOf(item));
}

function bytesLayout(most: number): Layout {
  return {
    write: (value) => hexToBytes(value as string),
    read: (value) => (value instanceof Uint8Array && value.length <= most ? bytesToHex(value) : MALFORMED),
  };
}

function fieldsLayout(entries: Readonly<Record<string, v.GenericSchema>>, isStrict: boolean): Layout {
  const fields = Object.entries(entries).map(([name, schema]) => [name, layoutOf(schema)] as const);
  return {
    write: (value) =>
      fields.map(([name, layout]) => {
        const field = (value as Readonly<Record<string, unknown>>)[name];
        return layout === null ? field : layout.write(field);
      }),
    read(value) {
      if (!Array.isArray(value) || value.length > MAX_FIELDS) return MALFORMED;
      if (isStrict && value.length !== fields.length) return MALFORMED;
      // What a later version adds stands behind them; what an earlier one lacks is missing.
      return Object.fromEntries(
        fields
          .slice(0, value.length)
          .map(([name, layout], i) => [name, layout === null ? value[i] : layout.read(value[i])]),
      );
    },
  };
}

function wrappedLayout(layout: Layout | null): Layout | null {
  if (layout === null) return null;
  const unless = (convert: (value: unknown) => unknown) => (value: unknown) =>
    value === null || value === undefined ? value : convert(value);
  return { write: unless(layout.write), read: unless(layout.read) };
}

function itemsLayout(layout: Layout | null): Layout | null {
  if (layout === null) return null;
  return {
    write: (value) => (value as readonly unknown[]).map((item) => layout.write(item)),
    read: (value) => (Array.isArray(value) ? value.map((item) => layout.read(item)) : MALFORMED),
  };
}
