/**
 * `npm run docs`: draws the session machine as a Mermaid diagram, from the machine itself, into docs/architecture.md.
 * A unit test fails when the drawing there is not the machine's any more.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AnyStateMachine } from 'xstate';
import { peerSessionMachine } from '../src/actors/peer-session.ts';

export const DOCUMENT = join(import.meta.dirname, '..', 'docs', 'architecture.md');

const BEGIN = '<!-- session machine: drawn by `npm run docs`, do not edit -->';
const END = '<!-- end of the session machine -->';

type StateNode = AnyStateMachine['root'];

interface Edge {
  readonly from: StateNode;
  readonly to: StateNode;
  readonly label: string;
}

/** The machine as Markdown: a Mermaid diagram, and a line for each event that every state understands. */
export function drawMachine(machine: AnyStateMachine): string {
  const { root } = machine;
  const edges = edgesOf(root);
  const anywhere = edges.filter((edge) => edge.from === root);
  const lines = ['stateDiagram-v2', ...drawState(root, edges, '  ')];
  for (const edge of edges.filter((one) => one.from !== root && one.from.parent !== one.to.parent)) {
    lines.push(`  ${edge.from.key} --> ${edge.to.key}: ${edge.label}`);
  }
  return [
    '```mermaid',
    ...lines,
    '```',
    '',
    'In every state:',
    '',
    ...anywhere.map((edge) => `- \`${edge.label}\` → \`${edge.to.key}\``),
  ].join('\n');
}

/** What is inside a state: where it begins, the edges between its children, and the children that have children. */
function drawState(parent: StateNode, edges: readonly Edge[], indent: string): string[] {
  const lines: string[] = [];
  for (const start of parent.initial.target) lines.push(`${indent}[*] --> ${start.key}`);
  for (const child of childrenOf(parent)) {
    if (childrenOf(child).length > 0) {
      lines.push(`${indent}state ${child.key} {`, ...drawState(child, edges, `${indent}  `), `${indent}}`);
    }
  }
  for (const child of childrenOf(parent)) {
    for (const edge of edges) {
      if (edge.from === child && edge.to.parent === parent) {
        lines.push(`${indent}${child.key} --> ${edge.to.key}: ${edge.label}`);
      }
    }
    if (child.type === 'final') lines.push(`${indent}${child.key} --> [*]`);
  }
  return lines;
}

function childrenOf(node: StateNode): StateNode[] {
  return Object.values(node.states) as StateNode[];
}

/** Every transition that leads somewhere, in the order of the machine. Those that only keep a note stay out. */
function edgesOf(node: StateNode): Edge[] {
  const own: Edge[] = [];
  for (const [eventType, transitions] of node.transitions) {
    for (const transition of transitions) {
      for (const to of (transition.target ?? []) as StateNode[]) {
        own.push({ from: node, to, label: labelOf(node, eventType, transition.guard) });
      }
    }
  }
  return [...own, ...childrenOf(node).flatMap(edgesOf)];
}

/** An event's name for people. XState names those of timers and invoked actors after the state that they belong to. */
function labelOf(node: StateNode, eventType: string, guard: unknown): string {
  const condition = guardName(guard);
  return `${eventName(node, eventType)}${condition === '' ? '' : ` [${condition}]`}`;
}

function eventName(node: StateNode, eventType: string): string {
  const delay = /^xstate\.after\.([^.]+)\./.exec(eventType)?.[1];
  if (delay !== undefined) return `after ${delay}`;
  const invoked = node.invoke.find(({ id }) => eventType.endsWith(`.actor.${id}`));
  const source = typeof invoked?.src === 'string' ? invoked.src : 'actor';
  if (eventType.startsWith('xstate.done.actor.')) return `${source} done`;
  if (eventType.startsWith('xstate.error.actor.')) return `${source} failed`;
  return eventType;
}

function guardName(guard: unknown): string {
  if (guard === undefined) return '';
  if (typeof guard === 'string') return guard;
  if (typeof guard === 'object' && guard !== null && 'type' in guard) return String(guard.type);
  return 'guarded';
}

/**
 * A document with the drawing between its two marks.
 *
 * @throws Error - when the marks are not there
 */
export function withDrawing(text: string, drawing: string): string {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`the document lacks the marks "${BEGIN}" and "${END}"`);
  return `${text.slice(0, begin)}${BEGIN}\n\n${drawing}\n\n${text.slice(end)}`;
}

if (import.meta.main) {
  writeFileSync(DOCUMENT, withDrawing(readFileSync(DOCUMENT, 'utf8'), drawMachine(peerSessionMachine)));
}
