/**
 * The public API. What is not named here may change at any time.
 */
export {
  createInvitation,
  examineLibrary,
  initLibrary,
  joinLibrary,
  listConflicts,
  migrateLibrary,
  ownRow,
  readStatus,
  restoreConflict,
  verifyLibrary,
} from './companions.ts';
export { ERROR_CODES, FlotillaError } from './errors.ts';
export { openNode } from './node.ts';
export type {
  ExamineOptions,
  FlotillaNode,
  InitOptions,
  Invitation,
  InviteOptions,
  JoinOptions,
  JoinReport,
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
  RowName,
  ShownValue,
  TableReport,
  WaitingRow,
} from './db/api.ts';
export type { ErrorCode } from './errors.ts';
