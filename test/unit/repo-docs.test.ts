/**
 * The documents say what the program is: a drawing, a list of codes, a table of tables or a page of commands that has
 * fallen behind fails here.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PLOTS_FOLDER, plotOf } from '../../bench/plots.ts';
import { DOCUMENT, drawMachine, withDrawing } from '../../scripts/diagram.ts';
import { peerSessionMachine } from '../../src/actors/peer-session.ts';
import { OPTIONS } from '../../src/cli/options.ts';
import { COMMANDS } from '../../src/cli/program.ts';
import { ERROR_CODES } from '../../src/errors.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

describe('docs/architecture.md', () => {
  const text = readFileSync(DOCUMENT, 'utf8');

  it('shows the session machine as it is (npm run docs draws it)', () => {
    expect(withDrawing(text, drawMachine(peerSessionMachine))).toBe(text);
  });

  it('has the states of the machine in its drawing', () => {
    const drawing = drawMachine(peerSessionMachine);
    for (const state of ['connecting', 'handshake', 'backfill', 'ack', 'live', 'backoff', 'refused', 'stopped']) {
      expect(drawing).toMatch(new RegExp(`\\b${state}\\b`));
    }
  });

  it('has every file of the largest room in its place, once', () => {
    const table = text.slice(text.indexOf('| Subject'), text.indexOf('\n## What flows'));
    const named = [...table.matchAll(/`([a-z-]+)`/g)].map(([, name]) => `${name ?? ''}.ts`);
    expect(named.toSorted()).toEqual(readdirSync(join(ROOT, 'src', 'db')).toSorted());
  });

  it('names every metadata table', () => {
    const created = [...read('src/db/metadata.ts').matchAll(/CREATE TABLE (flotilla_\w+)/g)].map(([, name]) => name);
    expect(created.length).toBeGreaterThan(5);
    expect(created.filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
  });
});

describe('docs/spec.md', () => {
  const rules = [...read('docs/spec.md').matchAll(/^- \*\*([A-Z]\d+)\*\*/gm)].map(([, id]) => id ?? '');
  const tested = new Set(
    ['conformance', 'integration', 'property', 'unit'].flatMap((folder) =>
      readdirSync(join(ROOT, 'test', folder))
        .filter((name) => name.endsWith('.test.ts'))
        .flatMap((name) => [...read(`test/${folder}/${name}`).matchAll(/\[([A-Z]\d+)\]/g)].map(([, id]) => id ?? '')),
    ),
  );

  it('has a test for every rule, by its id', () => {
    expect(rules.length).toBeGreaterThan(80);
    expect(rules.filter((id) => !tested.has(id))).toEqual([]);
  });

  it('has every id once', () => {
    expect(rules.filter((id, i) => rules.indexOf(id) !== i)).toEqual([]);
  });

  it('has the rule of every test', () => {
    expect([...tested].filter((id) => !rules.includes(id))).toEqual([]);
  });
});

describe('docs/errors.md', () => {
  const listed = [...read('docs/errors.md').matchAll(/^\| `([A-Z_]+)`/gm)].map(([, code]) => code ?? '');

  it('lists every error code once, and no other', () => {
    expect(listed.toSorted()).toEqual(Object.keys(ERROR_CODES).toSorted());
  });
});

describe('docs/cli.md', () => {
  const text = read('docs/cli.md');

  it.each(COMMANDS.map(({ name, options }) => ({ name, options })))(
    'has a section for $name with its options',
    (command) => {
      const common = text.slice(0, text.indexOf('\n## flotilla '));
      const start = text.indexOf(`\n## flotilla ${command.name}\n`);
      expect(start).toBeGreaterThan(0);
      const end = text.indexOf('\n## ', start + 1);
      const section = text.slice(start, end < 0 ? undefined : end);
      const missing = command.options
        .map((name) => OPTIONS[name].flags.split(' ')[0] ?? '')
        .filter((flag) => !section.includes(flag) && !common.includes(flag));
      expect(missing).toEqual([]);
    },
  );

  it('names the environment variable of every option that has one', () => {
    const variables = Object.values(OPTIONS).flatMap((option) => ('env' in option && option.env ? [option.env] : []));
    expect(variables.filter((name) => !text.includes(`\`${name}`))).toEqual([]);
  });
});

describe('docs/perf', () => {
  const lines = readdirSync(PLOTS_FOLDER).filter((name) => name.endsWith('.jsonl'));

  it.each(lines)('has the drawing of %s (npm run bench -- --plots draws it)', (name) => {
    const bench = name.replace('.jsonl', '');
    expect(read(`docs/perf/${bench}.svg`)).toBe(plotOf(bench));
  });
});

describe('README.md', () => {
  const text = read('README.md');

  it('gives the two commands that need nothing else', () => {
    expect(text).toContain('npm ci && npm run demo');
    expect(text).toContain('npm ci && npm test');
  });

  it('links to files that exist', () => {
    const links = [...text.matchAll(/\]\(([^)#:]+)\)/g)].map(([, path]) => path ?? '');
    expect(links.length).toBeGreaterThan(5);
    for (const path of links.filter((one) => one.endsWith('.md'))) expect(read(path)).not.toBe('');
  });
});
