/**
 * A member that was taken over: it holds a member's key, speaks the protocol by hand, frame by frame or byte by byte, and says what
 * it likes.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generateKeyPair, privateKeyToProtobuf } from '@libp2p/crypto/keys';
import type { Connection, PrivateKey, Stream } from '@libp2p/interface';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import type { Libp2p } from 'libp2p';
import { SESSION_PROTOCOL } from '../../src/actors/handshake.ts';
import { SYNC_PROTOCOL } from '../../src/net/api.ts';
import { openPackets } from '../../src/net/packets.ts';
import type { Packets } from '../../src/net/packets.ts';
import { transportOptions } from '../../src/net/transport.ts';
import { decodeBatch, encodeBatch } from '../../src/protocol/batch.ts';
import { decodeFrame, encodeFrame, MAX_FRAME_BYTES } from '../../src/protocol/frames.ts';
import type { Batch, Frame } from '../../src/protocol/types.ts';
import { wantAll } from './wants.ts';

/** A key whose peer id comes before `other`, so that its holder opens the stream; in the home folder of a library to be. */
export async function makeAttackerHome(library: string, other: string): Promise<PrivateKey> {
  let key = await generateKeyPair('Ed25519');
  while (peerIdFromPrivateKey(key).toString() >= other) key = await generateKeyPair('Ed25519');
  await mkdir(`${library}.flotilla`, { mode: 0o700 });
  await writeFile(join(`${library}.flotilla`, 'key'), privateKeyToProtobuf(key));
  await chmod(join(`${library}.flotilla`, 'key'), 0o600);
  return key;
}

export class Attacker {
  readonly #libp2p: Libp2p;
  readonly #addresses: readonly string[];
  readonly #wires: Wire[] = [];
  #connection: Connection | null = null;

  private constructor(libp2p: Libp2p, addresses: readonly string[]) {
    this.#libp2p = libp2p;
    this.#addresses = addresses;
  }

  static async start(privateKey: PrivateKey, addresses: readonly string[]): Promise<Attacker> {
    const libp2p = await createLibp2p({ privateKey, ...transportOptions(), connectionMonitor: { enabled: false } });
    return new Attacker(libp2p, addresses);
  }

  get device(): string {
    return this.#libp2p.peerId.toString();
  }

  /** A fresh stream, over the connection that stands if there is one. */
  async open(): Promise<Wire> {
    if (this.#connection?.status !== 'open')
      this.#connection = await this.#libp2p.dial(this.#addresses.map((address) => multiaddr(address)));
    const wire = new Wire(await this.#connection.newStream(SYNC_PROTOCOL));
    this.#wires.push(wire);
    return wire;
  }

  /** Lets go of all streams, so that the victim has not to wait for their ends. */
  drop(): void {
    for (const wire of this.#wires.splice(0)) wire.stream.abort(new Error('dropped'));
  }

  /** A fresh stream on which both have said hello, and the victim has said what it wants. */
  async greeted(): Promise<Wire> {
    const wire = await this.open();
    await wire.greet();
    return wire;
  }

  async stop(): Promise<void> {
    await this.#libp2p.stop();
  }
}

/** One stream. */
export class Wire {
  readonly stream: Stream;
  readonly #packets: Packets;
  readonly #frames: AsyncIterator<Uint8Array>;

  constructor(stream: Stream) {
    this.stream = stream;
    this.#packets = openPackets(stream, 'the victim', MAX_FRAME_BYTES);
    this.#frames = this.#packets.packets[Symbol.asyncIterator]();
  }

  /** The bytes as one packet. */
  async packet(bytes: Uint8Array): Promise<void> {
    await this.#packets.send([bytes]);
  }

  async send(...frames: readonly Frame[]): Promise<void> {
    for (const frame of frames) {
      const encoded = encodeFrame(frame);
      await this.#packets.send(encoded instanceof Uint8Array ? [encoded] : encoded);
    }
  }

  /** The next frame of that type; others before it are dropped. Rejects when the stream ends first. */
  async next<T extends Frame['type']>(type: T): Promise<Extract<Frame, { type: T }>> {
    for (;;) {
      const result = await this.#frames.next();
      if (result.done === true) throw new Error(`the victim ended the stream before it said "${type}"`);
      const frame = decodeFrame(result.value);
      if (frame.type === type) return frame as Extract<Frame, { type: T }>;
      if (frame.type === 'bye' || frame.type === 'refuse') throw new Error(`the victim left: ${JSON.stringify(frame)}`);
    }
  }

  /** What we say of ourselves: all that the victim has said, under another name. */
  hello(theirs: Extract<Frame, { type: 'hello' }>): Frame {
    return { ...theirs, type: 'hello', protocol: SESSION_PROTOCOL, name: 'taken over', clock: Date.now() };
  }

  async greet(): Promise<void> {
    await this.send(this.hello(await this.next('hello')));
    await this.next('want');
  }

  /** Asks for everything from a place on. @param credit - bytes that it says it has room for */
  async ask(credit: number, cursor: Extract<Frame, { type: 'want' }>['cursor'] = null): Promise<void> {
    await this.send(wantAll(credit, { cursor }));
  }

  /** Asks for everything from a place on, and takes the first batch. */
  async firstBatch(cursor: Extract<Frame, { type: 'want' }>['cursor'] = null): Promise<Batch> {
    await this.ask(1 << 22, cursor);
    return decodeBatch((await this.next('batch')).data);
  }

  async sendBatch(batch: Batch): Promise<void> {
    await this.send({ type: 'batch', data: encodeBatch(batch) });
  }
}
