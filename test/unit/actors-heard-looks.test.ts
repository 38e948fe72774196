import { describe, expect, it } from 'vitest';
import { LOOK_AGAIN_MS, createHeardLooks } from '../../src/actors/heard-looks.ts';

describe('looks at what was heard of others', () => {
  it('are worth it once after each thing heard, for each peer, and once in a while', () => {
    let now = 0;
    const looks = createHeardLooks({ now: () => now });
    expect([looks.take('a'), looks.take('a'), looks.take('b')]).toEqual([true, false, true]);
    looks.heard();
    expect([looks.take('a'), looks.take('a'), looks.take('b')]).toEqual([true, false, true]);
    now += LOOK_AGAIN_MS;
    expect([looks.take('a'), looks.take('a')]).toEqual([true, false]);
  });

  it('are worth it in each new session', () => {
    const looks = createHeardLooks({ now: () => 0 });
    looks.take('a');
    looks.begin('a');
    expect(looks.take('a')).toBe(true);
  });
});
