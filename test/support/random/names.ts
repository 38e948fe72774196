/** Names that a schema may have: plain ones, keywords, with spaces, quotes, other alphabets. */
import type { Chance } from './chance.ts';

const PLAIN: readonly string[] = [
  'notes',
  'entries',
  'tags',
  'volumes',
  'people',
  'orders',
  'tracks',
  'places',
  'body',
  'title',
  'state',
  'kind',
  'size',
  'parent_id',
  'owner_id',
  'cover_id',
  'author',
  'label',
  'code',
  'extra',
  'hash',
  'slot',
  'rank',
  'memo',
  'place',
  'flag',
];
const ODD: readonly string[] = [
  'order',
  'select',
  'group',
  'index',
  'table',
  'values',
  'default',
  'key',
  'references',
  'set',
  'where',
  'end',
  'row',
  'my table',
  "it's",
  'say "hi"',
  'größe',
  '表',
  'Ünïcode',
  'a.b',
  'semi;colon',
  '--dash',
  '/*star',
  '[bracket]',
  '`tick`',
  '1st',
  '%s',
  '?',
  ':name',
  '$price',
  '@at',
  'new',
  'old',
  'json',
  'value',
  'm',
  't',
  'p',
  'j',
  'uuid',
  'lsn',
  'hlc',
  'run',
  'k1',
  'birth_hlc',
  'x y z',
  '🙂',
  'NULL',
  'true',
  'main',
  'temp',
  'excluded',
];
/** Names that SQLite itself takes for the rowid, unless a column has them. */
const ROWIDS: readonly string[] = ['rowid', 'oid', '_rowid_'];

/** Gives out names that nobody has had; SQLite takes ASCII letters of both cases for the same. */
export function freshNames(chance: Chance, withRowids: boolean): () => string {
  const taken = new Set<string>();
  const oddness = chance.pick([0, 0.2, 0.6]);
  return () => {
    for (;;) {
      const pool = chance.is(oddness) ? (withRowids && chance.is(0.05) ? ROWIDS : ODD) : PLAIN;
      let name = chance.pick(pool);
      if (chance.is(0.1)) name = name.toUpperCase();
      if (chance.is(0.3) || taken.size > 20) name = `${name}${taken.size}`;
      const folded = name.toLowerCase();
      if (taken.has(folded) || /^(?:sqlite|flotilla)_/.test(folded)) continue;
      taken.add(folded);
      return name;
    }
  };
}
