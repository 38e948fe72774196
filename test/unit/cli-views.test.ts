import { describe, expect, it } from 'vitest';
import type { NodeEvent, PeerState } from '../../src/index.ts';
import { liveFrame } from '../../src/cli/live-frame.ts';
import { FRAME_MS, liveView } from '../../src/cli/live-view.ts';
import { MAX_QUEUED } from '../../src/cli/output.ts';
import { type PeerList, withEvent } from '../../src/cli/peer-list.ts';
import { plainLine, plainView, PROGRESS_MS } from '../../src/cli/plain-view.ts';
import { displayWidth } from '../../src/cli/text.ts';
import { chooseView, jsonView } from '../../src/cli/view.ts';
import { FakeIo, OTHER, PEER, progress } from './cli-fakes.ts';

const peer = (state: PeerState, reason = '', device = PEER): NodeEvent => ({
  event: 'peer',
  device,
  name: 'nas',
  state,
  code: '',
  reason,
});
const passing = (done: number, total = 100, device = PEER): NodeEvent => ({
  event: 'progress',
  device,
  name: 'nas',
  progress: progress(done, total),
});
const applied = (rows: number, complete = false): NodeEvent => ({
  event: 'applied',
  device: PEER,
  rows,
  changed: rows,
  complete,
});
const fold = (...events: NodeEvent[]) => [...events.reduce<PeerList>(withEvent, new Map()).values()];

/** What a terminal shows after these bytes: just enough of one for the sequences that we send. */
class Screen {
  rows: string[] = [''];
  row = 0;
  column = 0;
  cursor = true;

  feed(bytes: string): void {
    // oxlint-disable-next-line no-control-regex -- escape sequences are what is read here
    for (const [, control, digits, letter, character] of bytes.matchAll(/(\x1b\[(\??\d*)([A-Za-z]))|([^\x1b])/gu)) {
      if (control !== undefined) this.control(digits ?? '', letter ?? '');
      else if (character === '\n') this.move(this.row + 1);
      else if (character === '\r') this.column = 0;
      else this.put(character ?? '');
    }
  }

  private control(digits: string, letter: string): void {
    const line = this.rows[this.row] ?? '';
    if (letter === 'A') this.row -= Number(digits);
    else if (letter === 'K') this.rows[this.row] = line.slice(0, this.column);
    else if (letter === 'J') this.rows = [...this.rows.slice(0, this.row), line.slice(0, this.column)];
    else if (digits === '?25') this.cursor = letter === 'h';
    else throw new Error(`the screen does not know ${digits}${letter}`);
    if (this.row < 0) throw new Error('moved above the first line');
  }

  private move(row: number): void {
    this.row = row;
    this.column = 0;
    this.rows[row] ??= '';
  }

  private put(character: string): void {
    const line = this.rows[this.row] ?? '';
    this.rows[this.row] = line.slice(0, this.column) + character + line.slice(this.column + 1);
    this.column += 1;
  }

  get lines(): string[] {
    return this.rows.filter((line) => line !== '');
  }
}

describe('plain lines', () => {
  it.each<[NodeEvent, string | null]>([
    [{ event: 'notice', message: 'No interface can carry\nmulticast.' }, 'No interface can carry multicast.'],
    [{ event: 'discovered', device: PEER, via: 'mdns' }, '…22222222: found via mdns'],
    [peer('live'), 'nas (…22222222): live'],
    [peer('backoff', 'connection refused'), 'nas (…22222222): backoff: connection refused'],
    [passing(45), 'nas (…22222222): 45 %, 45 of 100 rows, 1,000 rows/s, 5 s left'],
    [applied(5), null],
    [{ event: 'joined', device: PEER, name: 'nas' }, 'nas (…22222222) is a member now'],
    [{ event: 'stopped' }, 'Flotilla has stopped.'],
    [
      { event: 'ready', device: PEER, library: 'aaaa', addresses: ['/ip4/127.0.0.1/tcp/1'] },
      'Flotilla is up: device …22222222, library aaaa\n  listening on /ip4/127.0.0.1/tcp/1',
    ],
  ])('%j', (event, line) => {
    expect(plainLine(event)).toBe(line);
  });

  it('tell progress of each peer at most once a second', () => {
    const io = new FakeIo();
    const view = plainView(io);
    for (let done = 0; done < 100; done += 1) {
      view.event(passing(done));
      view.event(passing(done, 200, OTHER));
      io.advance(PROGRESS_MS / 20);
    }
    view.close();
    expect(io.stdout.lines.filter((line) => line.includes('of 100'))).toHaveLength(5);
    expect(io.stdout.lines.filter((line) => line.includes('of 200'))).toHaveLength(5);
  });

  it('tell of a peer that is switched off once, until something changes', () => {
    const io = new FakeIo();
    const view = plainView(io);
    const attempt = (reason: string): void => [peer('connecting'), peer('backoff', reason)].forEach(view.event);
    for (let count = 0; count < 3; count += 1) attempt('off');
    view.event(peer('backoff', 'off', OTHER));
    for (let count = 0; count < 3; count += 1) attempt('unplugged');
    [peer('connecting'), peer('handshake'), peer('backoff', 'unplugged')].forEach(view.event);
    view.close();
    expect(io.stdout.lines.map((line) => line.replace(/^nas \(.*\): /, ''))).toEqual([
      'connecting',
      'backoff: off',
      'backoff: off',
      'backoff: unplugged',
      'handshake',
      'backoff: unplugged',
    ]);
  });

  it('stay bounded while nobody reads, and say what is missing', async () => {
    const io = new FakeIo();
    const view = plainView(io);
    io.stdout.hold();
    for (let index = 0; index < MAX_QUEUED * 2; index += 1) view.event(peer('live', String(index)));
    expect(io.stdout.writableLength).toBeLessThan(1_000);
    await io.stdout.release();
    view.close();
    await io.stdout.release();
    const left = io.stdout.lines.findIndex((line) => line.includes('left out'));
    const missing = Number(/… (\d+) lines/.exec(io.stdout.lines[left] ?? '')?.[1]);
    expect(io.stdout.lines.length - 1 + missing).toBe(MAX_QUEUED * 2);
    expect(io.stdout.lines.at(-1)).toContain(`: ${MAX_QUEUED * 2 - 1}`);
  });
});

describe('JSON lines', () => {
  it('are the events, one a line, in order', () => {
    const io = new FakeIo();
    const view = jsonView(io);
    const events = [peer('connecting'), peer('backfill'), passing(1), passing(2), applied(2, true), peer('live')];
    for (const event of events) view.event(event);
    view.close();
    expect(io.stdout.json).toEqual(events);
  });

  it('merge figures while nobody reads, and keep sums and the order of states', async () => {
    const io = new FakeIo();
    const view = jsonView(io);
    io.stdout.hold();
    const filler: NodeEvent = { event: 'notice', message: 'x'.repeat(300) };
    view.event(filler);
    view.event(peer('backfill'));
    for (let index = 1; index <= 5_000; index += 1) {
      view.event(passing(index, 5_000));
      view.event(applied(1, index === 5_000));
    }
    view.event(peer('live'));
    view.event(applied(7, true));
    await io.stdout.release();
    view.close();
    expect(io.stdout.json).toEqual([
      filler,
      peer('backfill'),
      passing(5_000, 5_000),
      applied(5_000, true),
      peer('live'),
      applied(7, true),
    ]);
  });

  it('stay bounded when even states pile up', async () => {
    const io = new FakeIo();
    const view = jsonView(io);
    io.stdout.hold();
    view.event({ event: 'notice', message: 'x'.repeat(300) });
    for (let index = 0; index < MAX_QUEUED + 10; index += 1)
      view.event(peer(index % 2 === 0 ? 'connecting' : 'backoff'));
    await io.stdout.release();
    view.close();
    const messages = io.stdout.json.map((line) => line['message']);
    expect(messages).toContain('10 events were left out, since nobody read them.');
    expect(io.stdout.json).toHaveLength(MAX_QUEUED + 2);
  });

  it('are dropped when the reader has gone, without an error', async () => {
    const io = new FakeIo();
    io.stdout.on('error', () => undefined);
    const view = jsonView(io);
    const closed = new Promise((resolve) => {
      io.stdout.once('close', resolve);
    });
    io.stdout.destroy(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    await closed;
    view.event(peer('live'));
    view.close();
    expect(io.stdout.text).toBe('');
  });
});

describe('what is known of the peers', () => {
  it('is folded from the events', () => {
    expect(fold({ event: 'discovered', device: PEER, via: 'mdns' })).toMatchObject([
      { device: PEER, state: 'found', name: '' },
    ]);
    expect(fold(peer('backfill'), passing(5), applied(5), applied(3))).toMatchObject([
      { name: 'nas', state: 'backfill', progress: { done: 5 }, received: 8 },
    ]);
    expect(fold(peer('backfill'), passing(5), peer('live'))).toMatchObject([{ state: 'live', progress: null }]);
    expect(fold(peer('live'), { event: 'discovered', device: PEER, via: 'mdns' })).toMatchObject([{ state: 'live' }]);
    expect(fold(peer('live'), { ...peer('backoff', 'gone'), name: '' } as NodeEvent)).toMatchObject([
      { name: 'nas', reason: 'gone' },
    ]);
  });
});

describe('the live picture', () => {
  it('shows name, state, bar, rows, rate and time left', () => {
    expect(liveFrame(fold(peer('backfill'), passing(50)), 120, 20)).toEqual([
      'nas (…22222222)  backfill    ███████████████░░░░░░░░░░░░░░░  50 of 100 rows, 1,000 rows/s, 5 s left',
    ]);
    expect(liveFrame(fold(peer('live'), applied(1_234)), 120, 20)).toEqual([
      'nas (…22222222)  live        1,234 rows received',
    ]);
    expect(liveFrame(fold(peer('backoff', 'connection refused')), 120, 20)).toEqual([
      'nas (…22222222)  backoff     connection refused',
    ]);
  });

  it('fits every width and height', () => {
    const peers = fold(
      ...Array.from({ length: 30 }, (_, index) => [
        { ...peer('backfill'), device: `${PEER}${index}`, name: '日本'.repeat(index) } as NodeEvent,
        passing(index, 30, `${PEER}${index}`),
      ]).flat(),
    );
    for (let columns = 1; columns < 140; columns += 1) {
      for (const rows of [-1, 1, 2, 10, 30, 50]) {
        const frame = liveFrame(peers, columns, rows);
        expect(frame.length).toBeLessThanOrEqual(Math.max(1, rows));
        expect(frame.length).toBeGreaterThan(0);
        for (const line of frame) expect(displayWidth(line)).toBeLessThanOrEqual(Math.max(1, columns - 1));
      }
    }
    expect(liveFrame(peers, 100, 10).at(-1)).toBe('… and 21 more devices');
  });

  function terminal(columns = 100, rows = 24): { io: FakeIo; screen: () => Screen } {
    const io = new FakeIo({ terminal: { columns, rows } });
    return {
      io,
      screen: () => {
        const screen = new Screen();
        screen.feed(io.stdout.text);
        return screen;
      },
    };
  }

  it('is redrawn in place, under the lines that stay', () => {
    const { io, screen } = terminal();
    const view = liveView(io);
    view.event({ event: 'ready', device: PEER, library: 'aaaa', addresses: ['/ip4/127.0.0.1/tcp/1'] });
    view.event(peer('backfill'));
    for (let done = 0; done <= 100; done += 10) {
      view.event(passing(done));
      io.advance(FRAME_MS);
    }
    view.event({ event: 'notice', message: 'Something to know.' });
    view.event(peer('live', '', OTHER));
    io.advance(FRAME_MS);
    expect(screen().cursor).toBe(false);
    view.event(peer('live'));
    view.close();
    expect(screen().lines).toEqual([
      'Flotilla is up: device …22222222, library aaaa',
      '  listening on /ip4/127.0.0.1/tcp/1',
      'Something to know.',
      'nas (…22222222)  live',
      'nas (…33333333)  live',
    ]);
    expect(screen().cursor).toBe(true);
    expect(io.timers).toBe(0);
    expect(io.exitListeners.size).toBe(0);
  });

  it('is drawn ten times a second at most, each time in one write, and not at all when nothing changed', () => {
    const { io } = terminal();
    const view = liveView(io);
    view.event(peer('backfill'));
    const before = io.stdout.chunks.length;
    for (let index = 0; index < 1_000; index += 1) {
      view.event(passing(index, 1_000));
      io.advance(1);
    }
    expect(io.stdout.chunks.length - before).toBe(1_000 / FRAME_MS);
    io.advance(FRAME_MS);
    const still = io.stdout.chunks.length;
    view.event(passing(999, 1_000));
    io.advance(FRAME_MS);
    expect(io.stdout.chunks).toHaveLength(still);
    view.close();
  });

  it('is drawn anew when the window changes', () => {
    const { io } = terminal();
    const view = liveView(io);
    view.event(peer('backfill'));
    view.event(passing(50));
    io.advance(FRAME_MS);
    io.stdout.columns = 40;
    io.stdout.emit('resize');
    const last = io.stdout.chunks.at(-1) ?? '';
    expect(last).toContain('nas (…22222222)');
    expect(last).toContain('…');
    // The old line of 93 columns takes three rows of the narrow window: all three are cleared.
    expect(io.stdout.chunks.at(-2)).toMatch(/\[3A\r/);
    view.close();
    expect(io.stdout.listenerCount('resize')).toBe(0);
  });

  it('takes the usual size where the terminal says 0', () => {
    const { io, screen } = terminal(0, 0);
    liveView(io).event(peer('backoff', 'connection refused'));
    expect(screen().lines).toEqual(['nas (…22222222)  backoff     connection refused']);
  });

  it('gives the cursor back when the process exits by itself', () => {
    const { io, screen } = terminal();
    liveView(io).event(peer('live'));
    expect(screen().cursor).toBe(false);
    for (const listener of io.exitListeners) listener();
    expect(screen().cursor).toBe(true);
  });

  it('is chosen on a terminal only', () => {
    const shown = (io: FakeIo, json: boolean): string => {
      const view = chooseView(io, json);
      view.event(peer('live'));
      view.close();
      return io.stdout.text;
    };
    const columns = { columns: 80, rows: 24 };
    expect(shown(new FakeIo({ terminal: columns }), false)).toContain('\x1b[');
    expect(shown(new FakeIo({ terminal: columns, env: { TERM: 'dumb' } }), false)).toBe('nas (…22222222): live\n');
    expect(shown(new FakeIo(), false)).toBe('nas (…22222222): live\n');
    expect(shown(new FakeIo({ terminal: columns }), true)).toBe(`${JSON.stringify(peer('live'))}\n`);
  });
});
