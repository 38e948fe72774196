/** What goes wrong in a story of the simulation. */
export type Fault = 'diverged' | 'lost' | 'resurrected' | 'violation';

export class SimError extends Error {
  readonly fault: Fault;

  constructor(fault: Fault, message: string) {
    super(message);
    this.fault = fault;
  }
}
