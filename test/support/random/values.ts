/**
 * Random values as SQL literals, of every storage class and with the odd ones among them: int64 to its limits, −0.0,
 * infinities, NUL inside of text, numbers as text. Literals, so that a story can be played again in any SQLite shell.
 */
import type { Chance } from './chance.ts';

/** What a cell holds, read with every INTEGER as a bigint. */
export type Cell = bigint | number | string | Buffer | null;

/** The literal that stores exactly this value. */
export function literal(value: Cell): string {
  if (value === null) return 'NULL';
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return realLiteral(value);
  if (typeof value === 'string') {
    if (!value.includes('\u0000')) return `'${value.replaceAll("'", "''")}'`;
    return `CAST(x'${Buffer.from(value, 'utf8').toString('hex')}' AS TEXT)`;
  }
  return `x'${value.toString('hex')}'`;
}

function realLiteral(value: number): string {
  if (value === Infinity) return '9e999';
  if (value === -Infinity) return '-9e999';
  if (Object.is(value, -0)) return '-0.0';
  const text = String(value);
  return /[.e]/.test(text) ? text.replace(/^(-?\d+)e/, '$1.0e') : `${text}.0`;
}

/** A value with its storage class, so that 5, 5.0 and '5' differ. */
export function cellText(value: Cell): string {
  if (value === null) return 'n';
  if (typeof value === 'bigint') return `i${value}`;
  if (typeof value === 'number') return Object.is(value, -0) ? 'r-0' : `r${value}`;
  if (typeof value === 'string') return `t${value}`;
  return `b${value.toString('hex')}`;
}

const INTEGERS: readonly Cell[] = [
  0n,
  1n,
  -1n,
  42n,
  255n,
  65_536n,
  2_147_483_648n,
  9_007_199_254_740_991n,
  9_007_199_254_740_992n,
  9_007_199_254_740_993n,
  -9_007_199_254_740_993n,
  9_223_372_036_854_775_807n,
  -9_223_372_036_854_775_808n,
];
const REALS: readonly Cell[] = [
  0,
  -0,
  1,
  -1,
  0.1,
  -1.5,
  3.0000000000000004,
  1e308,
  5e-324,
  9_007_199_254_740_992,
  9_223_372_036_854_775_808,
  1e19,
  Infinity,
  -Infinity,
];
const TEXTS: readonly Cell[] = [
  '',
  'a',
  'A',
  'abc ',
  'ABC',
  'é',
  'e\u0301',
  '表',
  '🙂',
  '5',
  '5.0',
  ' 1e3',
  '-0',
  '9223372036854775808',
  '0x10',
  'null',
  "it's",
  'a"b',
  'a\u0000b',
  '\u0000',
  'line\nbreak\r\n\t',
  'long '.repeat(300),
];
const BLOBS: readonly Cell[] = [
  Buffer.alloc(0),
  Buffer.from([0]),
  Buffer.from([0, 255, 0]),
  Buffer.from('a'),
  Buffer.from('5'),
  Buffer.alloc(1500, 7),
];

/** Values that a STRICT column of the type takes; of any class where the type is no limit. */
function classesFor(type: string, strict: boolean): ReadonlyArray<readonly [number, readonly Cell[]]> {
  if (!strict || type === 'ANY') {
    return [
      [3, INTEGERS],
      [3, REALS],
      [4, TEXTS],
      [2, BLOBS],
    ];
  }
  if (type.startsWith('INT')) return [[1, INTEGERS]];
  if (type === 'REAL') {
    return [
      [3, REALS],
      [1, INTEGERS],
    ];
  }
  return [[1, type === 'TEXT' ? TEXTS : BLOBS]];
}

/** A value for a column that only holds things. */
export function wildValue(chance: Chance, type: string, strict: boolean): string {
  return literal(chance.pick(chance.weighted(classesFor(type, strict))));
}

/** Values of which there are few, so that rows meet: keys, names, unique columns. */
export function fewValue(chance: Chance, type: string, strict: boolean): string {
  if (type.startsWith('INT') || (type === 'NUMERIC' && chance.is(0.7))) return String(chance.below(5));
  if (type === 'REAL') return chance.pick(['0.5', '1.5', '2.0', '-9e999']);
  if (type === 'BLOB' && (strict || chance.is(0.8))) return chance.pick(["x''", "x'00'", "x'00ff'", "x'61'"]);
  if (type === 'TEXT' || type.startsWith('VARCHAR')) return chance.pick(["'a'", "'A'", "'b'", "'B'", "'c'", "'é'"]);
  return chance.pick(['1', '1.0', "'1'", "'a'", "x'61'", '2.5']);
}
