/**
 * A backfill that is interrupted in every way: the process that receives dies, is asked to stop, the one that sends dies,
 * the one that sends hangs. Each time it goes on where it was, and in the end nothing is lost.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLibrary } from '../../examples/file-library/library.ts';
import { fillSynthetic } from '../../examples/file-library/synthetic.ts';
import { Device } from '../../examples/fleet.ts';
import type { Progress } from '../../src/index.ts';
import { column, endEverything, execute, testFolder, undoAtEnd, untilColumn } from '../support/command.ts';
import { expectEqual, pidOf, untilMidway, untilState } from '../support/devices.ts';

/** Entries of the library: with small batches, its backfill takes seconds. */
const ENTRIES = 6_000;
const SMALL_BATCHES = ['--batch', '50'];
/** A stopped peer is noticed after some 10 s, and it may take a backoff to be back after it went on, ms. */
const HANG_MS = 60_000;

const folder = testFolder();
const sender = new Device(folder, 'sender');
const receiver = new Device(folder, 'receiver');
/** Where the pass stood when it was last interrupted. */
let last: Progress;

beforeAll(async () => {
  const db = openLibrary(sender.library);
  fillSynthetic(db, { entries: ENTRIES, seed: 2, volume: 'sender' });
  db.close();
  await sender.init();
  await sender.start(SMALL_BATCHES);
  await receiver.join(sender);
});
afterAll(endEverything);

/** The pass that runs now is the rest of the one before: what had arrived by then is not sent again. */
function expectRest(now: Progress): void {
  expect(now.total).toBeLessThanOrEqual(last.total - last.done);
  expect(now.total).toBeGreaterThan(0);
}

function expectHalf(): void {
  const entries = column(receiver.library, 'SELECT count(*) FROM entries')[0];
  expect(entries).toBeLessThan(ENTRIES);
  expect(column(receiver.library, 'SELECT count(*) FROM pragma_foreign_key_check')).toEqual([0]);
}

describe('a backfill', () => {
  it('of which the receiver is killed keeps what has arrived', async () => {
    await receiver.start(SMALL_BATCHES);
    last = await untilMidway(receiver);
    await receiver.node.kill();
    expectHalf();
  });

  it('goes on where it was when the receiver is started again, and ends well when it is asked to stop', async () => {
    await receiver.start(SMALL_BATCHES);
    const now = await untilMidway(receiver);
    expectRest(now);
    last = now;
    // Resolves only if the exit code is 0.
    await receiver.node.terminate();
    expectHalf();
    expect(receiver.nodes.at(-1)?.events.at(-1)).toMatchObject({ event: 'stopped' });
  });

  it('waits when the sender is killed', async () => {
    await receiver.start(SMALL_BATCHES);
    const now = await untilMidway(receiver);
    expectRest(now);
    last = now;
    const seen = receiver.node.events.length;
    await sender.node.kill();
    expect(await untilState(receiver, sender, 'backoff', seen)).not.toBe('');
    expectHalf();
  });

  it('goes on where it was when the sender is started again, and becomes complete', async () => {
    const seen = receiver.node.events.length;
    await sender.start(SMALL_BATCHES);
    const now = await untilMidway(receiver, seen);
    expectRest(now);
    await untilState(receiver, sender, 'live', seen);
    await expectEqual([sender, receiver]);
    expect(column(receiver.library, 'SELECT count(*) FROM entries')).toEqual([ENTRIES]);
  });
});

describe('a peer that hangs', () => {
  it(
    'is noticed, and is back when it goes on, with what was written meanwhile on both sides',
    async () => {
      await untilState(sender, receiver, 'live');
      const [seenByReceiver, seenBySender] = [receiver.node.events.length, sender.node.events.length];
      const pid = pidOf(sender);
      // Also if the test fails: a stopped process cannot be asked to end.
      undoAtEnd(() => process.kill(pid, 'SIGCONT'));
      process.kill(pid, 'SIGSTOP');
      execute(receiver.library, "INSERT INTO tags (name) VALUES ('while the other hung')");
      execute(sender.library, "INSERT INTO tags (name) VALUES ('while I hung')");
      expect(await untilState(receiver, sender, 'backoff', seenByReceiver, HANG_MS)).not.toBe('');
      process.kill(pid, 'SIGCONT');
      await Promise.all([
        untilState(receiver, sender, 'live', seenByReceiver, HANG_MS),
        untilState(sender, receiver, 'live', seenBySender, HANG_MS),
      ]);
      const names = ['while I hung', 'while the other hung'];
      const tags = "SELECT name FROM tags WHERE name GLOB 'while*' ORDER BY name";
      await untilColumn(sender.library, tags, names);
      await untilColumn(receiver.library, tags, names);
      await expectEqual([sender, receiver]);
    },
    2 * HANG_MS,
  );
});
