/**
 * TEXT that is not valid UTF-8: SQLite takes any bytes for text, a string of JavaScript does not. Such values exist (file
 * names of other systems, texts cut in the middle of a character) and must arrive as they are.
 */
import { isUtf8 } from 'node:buffer';

/** The bytes of a TEXT value that is not valid UTF-8. */
export class TextBytes {
  readonly bytes: Uint8Array;

  /** @throws RangeError for valid UTF-8: one value must not have two forms */
  constructor(bytes: Uint8Array) {
    if (isUtf8(bytes)) throw new RangeError('These bytes are valid UTF-8, so they are a string.');
    this.bytes = bytes;
  }

  /** The bytes as latin1: as good as the bytes for comparing, and for changing ASCII letters in them. */
  toString(): string {
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength).toString('latin1');
  }
}

/** The bytes of a TEXT value as a string, or as {@link TextBytes} where no string can hold them. */
export function textOf(bytes: Uint8Array): string | TextBytes {
  if (!isUtf8(bytes)) return new TextBytes(bytes);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
