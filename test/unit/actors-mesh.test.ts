import { describe, expect, it } from 'vitest';
import { Absent, AWAY_FAULTS, FULL_MESH_PEERS, neighbours } from '../../src/actors/mesh.ts';
import { Chance } from '../support/chance.ts';

const named = (count: number): string[] =>
  Array.from({ length: count }, (_, n) => `peer-${String(n).padStart(3, '0')}`);
const others = (all: readonly string[], own: string): string[] => all.filter((peer) => peer !== own);

/** Steps from the first device to the one that is farthest away, over sessions that both sides or one of them want. */
function steps(all: readonly string[], isAway: (peer: string) => boolean): number {
  const here = all.filter((peer) => !isAway(peer));
  const wants = new Map(here.map((own) => [own, neighbours(own, others(all, own), isAway)]));
  const reached = new Set(here.slice(0, 1));
  for (let step = 0; ; step += 1) {
    if (reached.size === here.length) return step;
    const next = here.filter(
      (peer) =>
        !reached.has(peer) && [...reached].some((one) => wants.get(one)?.has(peer) || wants.get(peer)?.has(one)),
    );
    if (next.length === 0) return Infinity;
    for (const peer of next) reached.add(peer);
  }
}

describe('neighbours', () => {
  it('are all others while there are few', () => {
    const all = named(FULL_MESH_PEERS + 1);
    for (const own of all) expect([...neighbours(own, others(all, own), () => false)]).toEqual(others(all, own));
  });

  it('are some of many: each chooses who chooses it', () => {
    for (const count of [11, 20, 50, 256]) {
      const all = named(count);
      const chosen = new Map(all.map((own) => [own, neighbours(own, others(all, own), () => false)]));
      for (const [own, peers] of chosen) {
        expect(peers.has(own)).toBe(false);
        expect(peers.size).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(count)));
        for (const peer of peers) expect(chosen.get(peer)?.has(own), `${own} and ${peer} of ${count}`).toBe(true);
      }
    }
  });

  it('lead from each to each in few steps, whoever is away', () => {
    const chance = new Chance(7);
    for (const count of [11, 20, 100]) {
      const all = named(count);
      for (let n = 0; n < 20; n += 1) {
        const away = new Set(all.filter(() => chance.happens(0.4)));
        expect(steps(all, (peer) => away.has(peer))).toBeLessThanOrEqual(Math.ceil(Math.log2(count)));
      }
    }
  });

  it('are, of those who are away, all: everybody dials them', () => {
    const all = named(20);
    const away = new Set(all.slice(3, 6));
    const chosen = neighbours('peer-000', others(all, 'peer-000'), (peer) => away.has(peer));
    for (const peer of away) expect(chosen.has(peer)).toBe(true);
  });
});

describe('who is away', () => {
  it('is not a peer whose connection breaks once, but one whom a dial does not reach', () => {
    const absent = new Absent();
    absent.note('a', 'live', 0);
    absent.note('a', 'backoff', 1);
    expect(absent.has('a')).toBe(false);
    absent.note('a', 'connecting', 1);
    absent.note('a', 'backoff', AWAY_FAULTS);
    expect(absent.has('a')).toBe(true);
  });

  it('stays away, however often it is dialled, until it has said hello', () => {
    const absent = new Absent();
    absent.note('a', 'backoff', AWAY_FAULTS);
    for (const state of ['connecting', 'handshake', 'backoff', 'connecting'] as const) {
      // A device that has slept forgets its faults.
      absent.note('a', state, 0);
      expect(absent.has('a'), state).toBe(true);
    }
    absent.note('a', 'backfill', 0);
    expect(absent.has('a')).toBe(false);
  });

  it('is one that refuses, at once', () => {
    const absent = new Absent();
    absent.note('a', 'refused', 0);
    expect(absent.has('a')).toBe(true);
    absent.note('a', 'stopped', 0);
    expect(absent.has('a')).toBe(false);
  });
});
