import { browserHistory } from './browser-history.ts';
import { filmRental } from './film-rental.ts';
import { financeLedger } from './finance-ledger.ts';
import { mailClient } from './mail-client.ts';
import { mediaServer } from './media-server.ts';
import { musicStore } from './music-store.ts';
import { noteTaker } from './note-taker.ts';
import { photoCatalogue } from './photo-catalogue.ts';
import { referenceManager } from './reference-manager.ts';
import type { WildSchema } from './schema.ts';
import { tradingCompany } from './trading-company.ts';

export const WILD_SCHEMAS: readonly WildSchema[] = [
  musicStore,
  tradingCompany,
  filmRental,
  browserHistory,
  photoCatalogue,
  noteTaker,
  referenceManager,
  mediaServer,
  mailClient,
  financeLedger,
];
