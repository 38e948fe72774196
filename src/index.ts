/**
 * The public API. What is not named here may change at any time.
 */
export {
  createInvitation,
  examineLibrary,
  initLibrary,
  joinLibrary,
  leaveLibrary,
  listConflicts,
  listDevices,
  migrateLibrary,
  ownRow,
  readStatus,
  restoreConflict,
  revokeDevice,
  verifyLibrary,
} from './companions.ts';
export { ERROR_CODES, FlotillaError } from './errors.ts';
export { openNode } from './node.ts';
export type {
  DeviceInfo,
  DeviceList,
  ExamineOptions,
  FlotillaNode,
  InitOptions,
  Invitation,
  InviteOptions,
  JoinOptions,
  JoinReport,
  LeaveOptions,
  LeaveReport,
  MigrateOptions,
  MigrateReport,
  NodeEvent,
  NodeOptions,
  NodeStatus,
  OwnOptions,
  PeerState,
  PeerStatus,
  Progress,
  VerifyReport,
} from './api.ts';
export type {
  ConflictList,
  ConflictQuery,
  ConflictRecord,
  ConflictSide,
  Counters,
  Examination,
  Finding,
  InitReport,
  LibraryStatus,
  MemberRow,
  Owned,
  RestoredConflict,
  Revoked,
  RowName,
  ShownValue,
  TableReport,
  WaitingRow,
} from './db/api.ts';
export type { ErrorCode } from './errors.ts';
