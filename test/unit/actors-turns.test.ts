import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import { createTurns, TURN_PATIENCE_MS } from '../../src/actors/turns.ts';
import type { Turn } from '../../src/actors/turns.ts';
import { settle } from '../support/until.ts';

function queue() {
  const clock = new SimulatedClock();
  const turns = createTurns(clock);
  const began: string[] = [];
  const leave = new AbortController();
  const take = (name: string, signal = new AbortController().signal): Promise<Turn> =>
    turns.take(signal).then((turn) => {
      began.push(name);
      return turn;
    });
  return { clock, began, leave, take };
}

describe('turns', () => {
  it('come one after the other, in the order of asking', async () => {
    const { began, take } = queue();
    const first = await take('a');
    const [second, third] = [take('b'), take('c')];
    await settle();
    expect(began).toEqual(['a']);
    first.end();
    (await second).end();
    (await third).end();
    expect(began).toEqual(['a', 'b', 'c']);
    await take('d');
    expect(began).toEqual(['a', 'b', 'c', 'd']);
  });

  it('are not waited for by those who have left', async () => {
    const { began, leave, take } = queue();
    const first = await take('a');
    const second = take('b', leave.signal);
    const third = take('c');
    leave.abort(new Error('gone'));
    await expect(second).rejects.toThrow('gone');
    await expect(take('d', leave.signal)).rejects.toThrow('gone');
    first.end();
    await third;
    expect(began).toEqual(['a', 'c']);
  });

  it('end with the session of the one whose turn it is', async () => {
    const { began, leave, take } = queue();
    await take('a', leave.signal);
    const second = take('b');
    leave.abort(new Error('gone'));
    await second;
    expect(began).toEqual(['a', 'b']);
  });

  it('go to the next one when nothing comes, and back to nobody', async () => {
    const { clock, began, take } = queue();
    const first = await take('a');
    const second = take('b');
    clock.increment(TURN_PATIENCE_MS - 1);
    first.goesOn();
    clock.increment(TURN_PATIENCE_MS - 1);
    await settle();
    expect(began).toEqual(['a']);
    clock.increment(1);
    const now = await second;
    // What the slow one does says nothing any more.
    const third = take('c');
    first.goesOn();
    first.end();
    await settle();
    expect(began).toEqual(['a', 'b']);
    now.end();
    await third;
    expect(began).toEqual(['a', 'b', 'c']);
  });

  it('go at once to who comes while the one whose turn it is has long been silent', async () => {
    const { clock, began, take } = queue();
    await take('a');
    clock.increment(TURN_PATIENCE_MS);
    await take('b');
    expect(began).toEqual(['a', 'b']);
  });
});
