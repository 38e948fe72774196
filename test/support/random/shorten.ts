/** Makes a story that goes wrong short: steps are left out as long as the same goes wrong. */
import type { StoryOptions } from './play.ts';
import { StoryError, playStory } from './play.ts';

export async function shorten(error: StoryError, options: StoryOptions): Promise<StoryError> {
  const steps = options.steps ?? 60;
  let best = error;
  let kept = Array.from({ length: steps }, (_, step) => step);
  for (let size = Math.ceil(steps / 2); size >= 1;) {
    let isShorter = false;
    for (let from = 0; from < kept.length;) {
      const candidate = [...kept.slice(0, from), ...kept.slice(from + size)];
      const failed = await fails(best, options, steps, candidate);
      if (failed === null) from += size;
      else {
        best = failed;
        kept = candidate;
        isShorter = true;
      }
    }
    if (!isShorter || size > 1) {
      if (size === 1) break;
      size = Math.floor(size / 2);
    }
  }
  return best;
}

async function fails(
  like: StoryError,
  options: StoryOptions,
  steps: number,
  kept: readonly number[],
): Promise<StoryError | null> {
  const stays = new Set(kept);
  const without = new Set(Array.from({ length: steps }, (_, step) => step).filter((step) => !stays.has(step)));
  try {
    await playStory(like.seed, { ...options, without });
    return null;
  } catch (error) {
    if (!(error instanceof StoryError)) throw error;
    return error.fault === like.fault && sentenceOf(error) === sentenceOf(like) ? error : null;
  }
}

/** What is said first of what goes wrong, without names and numbers. */
export function sentenceOf({ message }: StoryError): string {
  const first = message.slice(0, message.indexOf('\n')).replace(/^.*? story of seed \d+: /, '');
  return (
    first.replaceAll(/"[^"]*"|\([^)]*\)|\S*\d\S*/g, '').split(' in ')[0] + (/ (?:is|was) \w+/.exec(first)?.[0] ?? '')
  );
}
