/** `flotilla up`: runs the node until somebody stops it. */
import { setFlagsFromString } from 'node:v8';
import type { FlotillaNode, NodeEvent } from '../index.ts';
import { FlotillaError } from '../errors.ts';
import { defineCommand, FILE_HELP } from './command.ts';
import { EXIT, type Signal } from './context.ts';
import { chooseView, type View } from './view.ts';

/**
 * The young generation of this process stays small. What a node has in its hands dies young, batch by batch; V8 would let it grow to 48 MB and the rest
 * with it. The database workers begin with what they need. What lives on is looked through when it has grown by 120 %, where V8 would let it
 * grow fourfold: 30 MB less at the same CPU time (with 60 % 45 MB, and some per cent of it). V8 reads the second when a thread starts, the others
 * whenever it is about to grow.
 */
const HEAP_FLAGS = ['--semi-space-growth-factor=1', '--min-semi-space-size=4', '--heap-growing-percent=120'];

/** A signal, `leave`, or nobody asked for it. */
type Ending = 'asked' | 'stopped';

export const upCommand = defineCommand({
  name: 'up',
  summary: 'run the node: find the other devices and keep in sync',
  args: { file: FILE_HELP },
  options: ['port', 'localOnly', 'interfaces', 'discovery', 'peers', 'name', 'batchRows', 'durability', 'home', 'json'],
  async run({ args, options: { json = false, ...options }, cli }) {
    for (const flag of HEAP_FLAGS) setFlagsFromString(flag);
    const { io } = cli;
    let signals = 0;
    let end: (why: Ending) => void = () => undefined;
    const ended = new Promise<Ending>((resolve) => {
      end = resolve;
    });
    // From the first moment: a signal while the library opens must not tear it, it stops the node when it is open.
    const forgetSignals = io.onSignal((signal: Signal) => {
      signals += 1;
      if (signals === 1) end('asked');
      else io.exit(EXIT[signal]);
    });
    let view: View | null = null;
    try {
      const { openNode } = await cli.api();
      const node = await openNode({ library: args.file, ...options });
      view = chooseView(io, json);
      const forgetEvents = show(node, view, end);
      const why = await ended;
      if (!json) view.event({ event: 'notice', message: 'Stopping: what has begun is finished first.' });
      await node.stop();
      forgetEvents();
      view.event({ event: 'stopped' });
      view.close();
      if (why === 'asked') return EXIT.ok;
      throw new FlotillaError(
        'STOPPED',
        'The node stopped by itself: see why in the lines before, then start it again.',
      );
    } finally {
      view?.close();
      forgetSignals();
    }
  },
});

/**
 * Shows a node's events.
 *
 * @param end - called when the node says that it has stopped
 * @returns the way to stop
 */
function show(node: FlotillaNode, view: View, end: (why: Ending) => void): () => void {
  let hasLeft = false;
  view.event({ event: 'ready', device: node.device, library: node.libraryId, addresses: node.addresses() });
  return node.onEvent((event: NodeEvent) => {
    // These two are told by `up` itself, once each.
    if (event.event === 'ready') return;
    if (event.event === 'stopped') return end(hasLeft ? 'asked' : 'stopped');
    if (event.event === 'revoked') hasLeft ||= event.device === node.device && event.by === node.device;
    view.event(event);
  });
}
