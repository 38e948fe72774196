/**
 * All of libp2p that a host needs, in a file that is loaded when the first host starts: it is two thirds of what a command loads, and
 * most commands talk to the node that runs, or only to the file.
 */
export { ping } from '@libp2p/ping';
export { createLibp2p } from 'libp2p';
export { transportOptions } from './transport.ts';
