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
  waitReplicated,
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
  Replicated,
  ReplicatedOptions,
  VerifyReport,
  WaitOptions,
} from './api.ts';
export type {
  Change,
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
  PruningStatus,
  RestoredConflict,
  RowName,
  ShownValue,
  TableReport,
  WaitingRow,
} from './db/api.ts';
export type { ErrorCode } from './errors.ts';
