/**
 * Plays one step of the story and dies at a point of it, by SIGKILL.
 *
 *   node test/support/crash/child.ts <folder> <step> <point> <nth time>
 */
import type { FaultPoint } from '../../../src/db/fault-points.ts';
import { playStep } from './story.ts';

const [folder, step, at, nth] = process.argv.slice(2) as [string, string, FaultPoint, string];
let left = Number(nth);
await playStep(folder, Number(step), (point) => {
  if (point === at && (left -= 1) === 0) process.kill(process.pid, 'SIGKILL');
});
