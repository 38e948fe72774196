/**
 * Every error that Flotilla raises on purpose. One class, one code each: the code is for programs, the message tells a
 * person what happened and what to do. Nothing here imports anything, so every room may use it.
 */

/** Codes of `FlotillaError`, with the situation each stands for. */
export const ERROR_CODES = {
  NO_SUCH_FILE: 'the library file does not exist',
  FILE_EXISTS: 'a file is in the way of one that should be created',
  NOT_A_DATABASE: 'the file is not an SQLite database',
  NOT_INITIALISED: 'the database has no Flotilla metadata yet',
  ALREADY_INITIALISED: 'the database is a Flotilla library already, with other settings',
  LIBRARY_IN_USE: 'another node has the library or the home folder open',
  READ_ONLY: 'the library or its folder cannot be written',
  DISK_FULL: 'the disk is full',
  IO_ERROR: 'the disk or the file system reported an error',
  LOCKED: 'another program keeps the library locked',
  DATABASE: 'SQLite reported an error that has no code of its own here',
  FORMAT_TOO_NEW: 'the library was written by a newer Flotilla',
  NO_PRIMARY_KEY: 'a table that should sync has no primary key',
  UNSUPPORTED_SCHEMA: 'a table that should sync uses something that cannot be synced yet',
  SCHEMA_MISMATCH: 'two libraries have different schemas',
  CONFIG: 'the configuration file or an option is not valid',
  INVITE_INVALID: 'the invitation is damaged',
  INVITE_EXPIRED: 'the invitation has expired',
  INVITE_USED: 'the invitation was used already, or was not made by this node',
  CODE_REFUSED: 'no device on the network takes the six-digit code',
  LIBRARY_NOT_EMPTY: 'the library to join with has rows, and nothing says what they are',
  UNREACHABLE: 'no address of a peer answered',
  REFUSED: 'a peer refused the session',
  NO_SUCH_ROW: 'the row that was named does not exist',
  NOT_OWNED: 'the row that was named has no owner of its own',
  NOT_A_MEMBER: 'the device is not a member of the library',
  REVOKED: 'the device is a member of the library no more',
  DEVICE_TWICE: 'two nodes run with the key of one device',
  OTHER_LIBRARY: 'the peer belongs to another library',
  PROTOCOL: 'a peer sent what the protocol does not allow',
  CLOCK_AHEAD: 'a peer stamps in the future',
  NOT_REPLICATED: 'a change is not known to be on so many devices in time',
  BUSY: 'another session has to end first',
  BELOW_FLOOR: 'deletes were pruned that a peer has not seen',
  NO_SUCH_CONFLICT: 'there is no record of a conflict with that number',
  CANNOT_RESTORE: 'what a conflict discarded cannot be put back as things stand',
  MERGE_FUNCTION: 'a merge function of the configuration is not what it must be',
  NO_MULTICAST: 'no network interface can carry multicast',
  SET_ASIDE: 'what a peer sends has ended the database worker more than once',
  STOPPED: 'the node, session or worker was stopped',
  OLD_NODE: 'the Node.js that runs is too old',
} as const;

/** A machine-readable reason. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** An error with a `code` for programs and a message that says what to do. */
export class FlotillaError extends Error {
  override readonly name = 'FlotillaError';
  readonly code: ErrorCode;

  /**
   * @param code - one of {@link ERROR_CODES}
   * @param message - what happened and what to do, one or two sentences
   * @param options - `cause`, when another error led to this one
   */
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** What any thrown value says, in one line. libp2p rejects with things that are no `Error`. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
