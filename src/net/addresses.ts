/**
 * Multiaddrs as strings: which may be dialled, announced or put into an invitation. Pure; what the machine has of
 * interfaces is passed in.
 */
import type { NetworkInterfaceInfo } from 'node:os';
import { CODE_IP4, CODE_IP6, CODE_P2P, CODE_TCP, multiaddr } from '@multiformats/multiaddr';
import type { Multiaddr } from '@multiformats/multiaddr';

/** Addresses in an invitation at most: more would make its QR code hard to scan. */
export const MAX_INVITATION_ADDRESSES = 4;

/** What `os.networkInterfaces` returns. */
export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>;

/** The multiaddr, or null when the text is none. */
export function parseAddress(address: string): Multiaddr | null {
  try {
    return multiaddr(address);
  } catch {
    return null;
  }
}

/** The peer id at the end of an address; null when there is none. */
export function peerOf(address: string): string | null {
  return (
    parseAddress(address)
      ?.getComponents()
      .findLast((part) => part.code === CODE_P2P)?.value ?? null
  );
}

/** The address without `/p2p/…`. */
export function withoutPeer(address: string): string {
  const index = address.indexOf('/p2p/');
  return index === -1 ? address : address.slice(0, index);
}

/** The address with `/p2p/<peer>` at its end, whatever stood there before. */
export function withPeer(address: string, peer: string): string {
  return `${withoutPeer(address)}/p2p/${peer}`;
}

/** The IP address that is dialled; null for a host name and for what is no TCP address. */
export function ipOf(address: string): string | null {
  const first = parseAddress(address)?.getComponents()[0];
  return first !== undefined && (first.code === CODE_IP4 || first.code === CODE_IP6) ? (first.value ?? null) : null;
}

/** True when nothing sent to the address leaves the machine. */
export function isLoopback(address: string): boolean {
  return isLoopbackIp(ipOf(address) ?? '');
}

/** The same for a bare IP address. */
export function isLoopbackIp(ip: string): boolean {
  return ip.startsWith('127.') || ip === '::1';
}

/**
 * What may be dialled, each once, in the order given.
 * @param localOnly - loopback addresses only
 */
export function dialable(addresses: readonly string[], localOnly: boolean): string[] {
  const usable = addresses.filter((address) => {
    const parsed = parseAddress(address);
    if (!parsed?.getComponents().some((part) => part.code === CODE_TCP && part.value !== '0')) return false;
    const ip = ipOf(address);
    if (ip === '0.0.0.0' || ip === '::') return false;
    return !localOnly || isLoopback(address);
  });
  return [...new Set(usable)];
}

/** What others should hear of us: loopback only in a local-only node, and otherwise only if there is nothing else. */
export function announceable(addresses: readonly string[], localOnly: boolean): string[] {
  const usable = dialable(addresses, localOnly);
  const outside = usable.filter((address) => !isLoopback(address));
  return outside.length > 0 ? outside : usable;
}

/** The addresses under which others may reach this machine, as a text that is another one on another network. */
export function networkOf(interfaces: Interfaces): string {
  return outsideAddresses(interfaces).toSorted().join(' ');
}

/** IPv4, without loopback. */
function outsideAddresses(interfaces: Interfaces): string[] {
  return (
    Object.values(interfaces)
      .flatMap((list) => list ?? [])
      // 169.254.* comes up where no address could be had, and changes all the time.
      .filter((entry) => entry.family === 'IPv4' && !entry.internal && !entry.address.startsWith('169.254.'))
      .map((entry) => entry.address)
  );
}

/** Where a node listens: IPv4, since that is what discovery on the LAN names. */
export function listenAddresses(port: number, localOnly: boolean): string[] {
  return [`/ip4/${localOnly ? '127.0.0.1' : '0.0.0.0'}/tcp/${port}`];
}

/**
 * Addresses for an invitation: one an interface, without `/p2p/…`.
 * @param port - TCP port that the inviting node listens on
 * @param interfaces - `os.networkInterfaces()`
 */
export function invitationAddresses(port: number, interfaces: Interfaces, localOnly: boolean): string[] {
  const loopback = `/ip4/127.0.0.1/tcp/${port}`;
  if (localOnly) return [loopback];
  const addresses = outsideAddresses(interfaces).map((address) => `/ip4/${address}/tcp/${port}`);
  return addresses.length > 0 ? addresses.slice(0, MAX_INVITATION_ADDRESSES) : [loopback];
}
