/**
 * The devices of a library as people see them: what the library says of its members, and what this device alone knows.
 */
import { systemClock } from './actors/clock.ts';
import type { DeviceList } from './api.ts';
import type { LibraryStatus, MemberRow } from './db/api.ts';
import { FlotillaError } from './errors.ts';
import type { Home } from './net/home.ts';

/**
 * @param home - null where this device has none
 * @param connected - peer ids of members to which a connection stands
 */
export async function describeDevices(
  members: readonly MemberRow[],
  home: Home | null,
  { acks }: Pick<LibraryStatus, 'acks'>,
  connected: readonly string[],
): Promise<DeviceList> {
  const book = (await home?.addressBook()) ?? {};
  const nameOf = (device: string): string => members.find((member) => member.device === device)?.name ?? '';
  const devices = members.map(({ revoked, ...member }) => {
    const { device, invitedBy } = member;
    const isConnected = connected.includes(device);
    const seen = isConnected ? systemClock.now() : Math.max(book[device]?.seenAt ?? 0, acks[device]?.at ?? 0);
    return {
      ...member,
      isSelf: device === home?.device,
      invitedByName: nameOf(invitedBy),
      revoked: revoked === null ? null : { ...revoked, byName: nameOf(revoked.by) },
      connected: isConnected,
      lastSeen: seen === 0 ? null : seen,
    };
  });
  return { devices };
}

/** @throws FlotillaError CONFIG when it is this device itself that is named */
export function requireOther(named: string, members: readonly MemberRow[], own: string): void {
  const self = members.find((member) => member.device === own);
  const isAlone = members.filter((member) => member.name === named && member.revoked === null).length === 1;
  if (named === own || (self?.name === named && self.revoked === null && isAlone))
    throw new FlotillaError('CONFIG', 'That is this device itself: "flotilla leave" ends its own membership.');
}

/** @throws FlotillaError NOT_A_MEMBER when this device is none (any more): nobody would know whom it lets in */
export function requireMember(members: readonly MemberRow[], own: string): void {
  if (members.some((member) => member.device === own && member.revoked === null)) return;
  throw new FlotillaError(
    'NOT_A_MEMBER',
    'This device is no member of the library, so it can let nobody in: get an invitation from a member first.',
  );
}
