import { SimulatedClock } from 'xstate';
import { describe, expect, it } from 'vitest';
import { createTurns, MOST_LOOKS, TURN_LOOK_MS } from '../../src/actors/turns.ts';
import type { Standing, Turn } from '../../src/actors/turns.ts';
import { settle } from '../support/until.ts';

function queue() {
  const clock = new SimulatedClock();
  const turns = createTurns(clock);
  /** Who begins, goes on (+) and rests (-), in order. */
  const began: string[] = [];
  const leave = new AbortController();
  const standings = new Map<string, Partial<Standing>>();
  const atWork = new Set<string>();
  const take = (name: string, signal = new AbortController().signal): Promise<Turn> => {
    const taker = {
      peer: name,
      standing: () => ({ hasNews: true, load: 0, roundTripMs: null, ...standings.get(name) }),
      isAtWork: () => atWork.has(name),
      rest: (rests: boolean) => void began.push(`${rests ? '-' : '+'}${name}`),
    };
    return turns.take(taker, signal).then((turn) => {
      began.push(name);
      return turn;
    });
  };
  /** So many looks in each of which a turn gives so much; a row has a byte. */
  const give = async (turn: Turn, bytes: number, looks = 1, remaining = Infinity): Promise<void> => {
    for (let i = 0; i < looks; i += 1) {
      if (bytes > 0) turn.came(bytes, bytes, remaining);
      clock.increment(TURN_LOOK_MS);
      await settle();
    }
  };
  /** The turn of a, while b waits, which is known to give 1,000 in a look. */
  const afterFaster = async (): Promise<Turn> => {
    const b = await take('b');
    await give(b, 1000);
    b.end();
    const a = await take('a');
    void take('b');
    return a;
  };
  return { areFree: turns.areFree, began, leave, take, standings, atWork, give, afterFaster };
}

describe('[L1] turns', () => {
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

  it('are free while nobody has one', async () => {
    const { areFree, take } = queue();
    expect(areFree()).toBe(true);
    const turn = await take('a');
    expect(areFree()).toBe(false);
    turn.end();
    expect(areFree()).toBe(true);
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
});

describe('[L2] a peer that gives nothing', () => {
  it('rests, and the next one goes on; at the end of that it is asked again', async () => {
    const { began, take, give } = queue();
    const first = await take('a');
    const second = take('b');
    await give(first, 10);
    expect(began).toEqual(['a']);
    await give(first, 0);
    expect(began).toEqual(['a', '-a', 'b']);
    (await second).end();
    expect(began).toEqual(['a', '-a', 'b', '+a']);
  });

  it('is not left while what came from it is being taken in, or it makes what it is to give', async () => {
    const { began, take, give, atWork } = queue();
    const a = await take('a');
    void take('b');
    atWork.add('a');
    await give(a, 0, 5);
    expect(began).toEqual(['a']);
    atWork.delete('a');
    await give(a, 0);
    expect(began).toEqual(['a', '-a', 'b']);
  });

  it('goes on while nobody else is there, and makes way for the first to come', async () => {
    const { began, take, give } = queue();
    const first = await take('a');
    await give(first, 0, 3);
    expect(began).toEqual(['a']);
    await take('b');
    expect(began).toEqual(['a', '-a', 'b']);
  });

  it('is left less and less often where nobody gives anything: it may be this device that takes nothing in', async () => {
    const { began, take, give } = queue();
    const first = await take('a');
    void take('b');
    await give(first, 0, 100);
    expect(began.length).toBeLessThan(20);
  });

  it('need not rest any more when what was on its way was all', async () => {
    const { began, take, give } = queue();
    const first = await take('a');
    void take('b');
    await give(first, 0);
    first.end();
    expect(began).toEqual(['a', '-a', 'b', '+a']);
  });
});

describe('[L3] a peer that gives little', () => {
  it('is left for one that is known to give much more', async () => {
    const { began, give, afterFaster } = queue();
    const a = await afterFaster();
    await give(a, 100, 2);
    expect(began).toEqual(['b', 'a', '-a', 'b']);
  });

  it('is not left for one that gives little more, nor when little is left', async () => {
    const { began, give, afterFaster } = queue();
    const a = await afterFaster();
    await give(a, 400, 10);
    await give(a, 100, 10, 300);
    expect(began).toEqual(['b', 'a']);
  });

  it('is left when it has said for minutes that little is left', async () => {
    const { began, give, afterFaster } = queue();
    const a = await afterFaster();
    await give(a, 100, MOST_LOOKS - 1, 0);
    expect(began).toEqual(['b', 'a']);
    await give(a, 100, 1, 0);
    expect(began).toEqual(['b', 'a', '-a', 'b']);
  });

  it('is compared with one that was not tried yet, and goes on when that one gives less', async () => {
    const { began, take, give } = queue();
    const a = await take('a');
    const second = take('b');
    await give(a, 100, 2);
    expect(began).toEqual(['a', '-a', 'b']);
    const b = await second;
    await give(b, 90);
    expect(began).toEqual(['a', '-a', 'b', '-b', '+a']);
    await give(a, 100, 100);
    expect(began).toEqual(['a', '-a', 'b', '-b', '+a']);
  });

  it('stays left when the other one gives more', async () => {
    const { began, take, give } = queue();
    const a = await take('a');
    const second = take('b');
    await give(a, 100, 2);
    await give(await second, 110, 100);
    expect(began).toEqual(['a', '-a', 'b']);
  });

  it('is not run away from and back, however two links change places', async () => {
    const { began, take, give } = queue();
    const a = await take('a');
    const second = take('b');
    await give(a, 100, 2);
    const b = await second;
    // Whoever has its turn becomes slow, again and again.
    for (let i = 0; i < 200; i += 1) {
      const isA =
        began
          .filter((name) => !name.startsWith('-'))
          .at(-1)
          ?.endsWith('a') === true;
      await give(isA ? a : b, i % 7 === 0 ? 1000 : 10);
    }
    expect(began.length).toBeLessThan(24);
  });
});

describe('[L4] of several peers that wait', () => {
  it('whoever is known to give most comes first, then who was not tried, then who gave nothing', async () => {
    const { began, take, give } = queue();
    for (const [name, bytes] of [
      ['slow', 10],
      ['fast', 100],
      ['silent', 0],
    ] as const) {
      const turn = await take(name);
      await give(turn, bytes);
      turn.end();
    }
    began.length = 0;
    const turn = await take('first');
    for (const name of ['silent', 'new', 'slow', 'fast']) void take(name).then((own) => own.end());
    turn.end();
    await settle();
    await settle();
    expect(began).toEqual(['first', 'fast', 'slow', 'new', 'silent']);
  });

  it('those that have something new come first, then the least busy, then the nearest', async () => {
    const { began, take, standings } = queue();
    standings.set('knows nothing', { hasNews: false });
    standings.set('busy', { load: 3, roundTripMs: 1 });
    standings.set('far', { roundTripMs: 80 });
    standings.set('near', { roundTripMs: 2 });
    const turn = await take('first');
    for (const name of ['knows nothing', 'busy', 'unmeasured', 'far', 'near']) void take(name).then((own) => own.end());
    turn.end();
    await settle();
    await settle();
    expect(began).toEqual(['first', 'near', 'far', 'unmeasured', 'busy', 'knows nothing']);
  });
});
