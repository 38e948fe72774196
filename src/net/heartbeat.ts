/**
 * Notices connections whose other side has fallen silent: unplugged, suspended, stopped. libp2p's own monitor ends a
 * connection at the first ping that it misses, also when the answer merely queues behind a large transfer; this one counts
 * any byte as a sign of life and ends a connection after several silent beats in a row. Time comes in as beats.
 */

/** Time between two beats, ms. With {@link MAX_SILENT_BEATS} a stopped peer is noticed after 7.5 to 10 s. */
export const BEAT_MS = 2_500;
/** Silent beats in a row that end a connection: one lost ping, or a peer busy for 5 s, is survived. */
export const MAX_SILENT_BEATS = 3;

/** A connection, as far as the heartbeat is concerned. */
export interface Beating {
  readonly id: string;
  /** Asks for a sign of life. May reject: a ping that fails is only silence. */
  ping(signal: AbortSignal): Promise<unknown>;
  /** Ends the connection at once. */
  cut(error: Error): void;
}

/** Counts silent beats by connection. */
export class Heartbeat {
  readonly #heard = new Set<string>();
  readonly #silent = new Map<string, number>();
  readonly #pinging = new Set<string>();

  /** Something arrived on that connection. */
  heard(id: string): void {
    this.#heard.add(id);
  }

  /**
   * One beat: ends what has been silent for too long, pings the others. A connection that has just come to be has shown that it lives: it is
   * pinged from its second beat on, so that the first messages have it to themselves.
   * @param signal - ends the pings that are on their way
   */
  beat(connections: readonly Beating[], signal: AbortSignal): void {
    const open = new Set(connections.map((connection) => connection.id));
    for (const id of this.#silent.keys()) if (!open.has(id)) this.#silent.delete(id);
    for (const connection of connections) {
      const known = this.#silent.get(connection.id);
      const silent = known === undefined || this.#heard.has(connection.id) ? 0 : known + 1;
      this.#silent.set(connection.id, silent);
      if (silent >= MAX_SILENT_BEATS) {
        connection.cut(new Error('The other side has not answered for several seconds'));
      } else if (known !== undefined && !this.#pinging.has(connection.id)) {
        this.#pinging.add(connection.id);
        void connection.ping(signal).then(
          () => this.#pinging.delete(connection.id),
          () => this.#pinging.delete(connection.id),
        );
      }
    }
    this.#heard.clear();
  }
}
