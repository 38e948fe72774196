/**
 * Virtual time: nothing waits, the clock goes to the next thing that is due. Between two of them all promises come to rest, so that
 * one seed gives one order of events.
 */
import { setImmediate as settled } from 'node:timers/promises';

import type { Clock } from '../../src/actors/clock.ts';

/** Something that is due. */
interface Task {
  /** ms since 1970. */
  readonly at: number;
  /** Among those that are due at the same moment, the order in which they were asked for. */
  readonly order: number;
  /** null once it was cancelled. */
  work: (() => void) | null;
}

export class VirtualTime {
  /** ms since 1970. */
  now: number;
  /** What has happened since the start: events, not simulated ms. */
  events = 0;
  #order = 0;
  /** A binary heap. */
  readonly #due: Task[] = [];

  constructor(start: number) {
    this.now = start;
  }

  /** Calls `work` in `ms`; returns what cancels it. */
  after(ms: number, work: () => void): Task {
    const task: Task = { at: this.now + Math.max(0, ms), order: (this.#order += 1), work };
    this.#due.push(task);
    this.#rise(this.#due.length - 1);
    return task;
  }

  cancel(task: Task): void {
    task.work = null;
  }

  /** Does what is due in the next `ms`. */
  async run(ms: number): Promise<void> {
    const end = this.now + ms;
    for (let next = this.#due[0]; next !== undefined && next.at <= end; next = this.#due[0]) await this.#step();
    this.now = Math.max(this.now, end);
  }

  /** Goes on until a promise has settled; throws when that takes longer than `ms`. */
  async until<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    const end = this.now + ms;
    let isOver = false;
    const over = (): void => {
      isOver = true;
    };
    promise.then(over, over);
    await settled();
    while (!isOver) {
      const next = this.#due[0];
      if (next === undefined || next.at > end)
        throw new Error(`${what} has not ended in ${ms / 1_000} virtual seconds`);
      await this.#step();
    }
    return promise;
  }

  /** Everybody sleeps: what was due meanwhile comes late, all at once. */
  leap(ms: number): void {
    this.now += ms;
  }

  async #step(): Promise<void> {
    const task = this.#take();
    if (task.work === null) return;
    // After a leap what was due lies in the past.
    this.now = Math.max(this.now, task.at);
    this.events += 1;
    task.work();
    await settled();
  }

  #take(): Task {
    const first = this.#due[0] as Task;
    const last = this.#due.pop() as Task;
    if (this.#due.length > 0) {
      this.#due[0] = last;
      this.#sink();
    }
    return first;
  }

  #rise(from: number): void {
    const task = this.#due[from] as Task;
    let at = from;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const other = this.#due[above] as Task;
      if (isEarlier(other, task)) break;
      this.#due[at] = other;
      at = above;
    }
    this.#due[at] = task;
  }

  #sink(): void {
    const task = this.#due[0] as Task;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      const [left, right] = [this.#due[below], this.#due[below + 1]];
      if (left === undefined) break;
      if (right !== undefined && isEarlier(right, left)) below += 1;
      const next = this.#due[below] as Task;
      if (isEarlier(task, next)) break;
      this.#due[at] = next;
      at = below;
    }
    this.#due[at] = task;
  }
}

function isEarlier(a: Task, b: Task): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** The clock of one device, as long as its process lives: after that no timer of it fires. */
export class DeviceClock implements Clock {
  readonly #time: VirtualTime;
  readonly #skew: () => number;
  #isDead = false;

  /** @param skew - ms by which it is wrong now */
  constructor(time: VirtualTime, skew: () => number) {
    this.#time = time;
    this.#skew = skew;
  }

  now(): number {
    return Math.floor(this.#time.now + this.#skew());
  }

  /** Virtual ms, whatever the clock shows. */
  elapsed(): number {
    return this.#time.now;
  }

  setTimeout(work: (...args: unknown[]) => void, ms: number): unknown {
    return this.#time.after(ms, () => {
      if (!this.#isDead) work();
    });
  }

  clearTimeout(timer: unknown): void {
    if (timer !== null && timer !== undefined) this.#time.cancel(timer as Task);
  }

  /** The process is gone. */
  die(): void {
    this.#isDead = true;
  }
}
