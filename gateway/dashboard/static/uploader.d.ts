/** Types of the browser library `uploader.js`; see there for what each thing does. */

export type UploadState =
  | "queued"
  | "preparing"
  | "uploading"
  | "completing"
  | "verifying"
  | "completed"
  | "paused"
  | "failed"
  | "aborting"
  | "aborted";

export interface StoredObject {
  bucket: string;
  key: string;
  etag: string;
  size: number;
  checksums: Record<string, string>;
}

/** A session as the gateway's API shows it; the fields that a page usually needs. */
export interface Session {
  session_id: string;
  state: string;
  filename: string;
  content_type: string;
  size: number | null;
  part_size: number;
  part_count: number | null;
  received_bytes: number;
  received_parts: number;
  fraction: number | null;
  checksum_algorithm: string;
  verified_by: "store" | "client_parts" | "client_file" | null;
  metadata: Record<string, string>;
  created_at: string;
  updated_at: string;
  expires_at: string;
  object: StoredObject | null;
  error: { code: string; message: string; hint: string } | null;
  [field: string]: unknown;
}

export class UploadError extends Error {
  readonly code: string;
  readonly hint: string;
  /** The HTTP status, or 0 where there was none. */
  readonly status: number;
  readonly retryable: boolean;
  /** Seconds, as the gateway suggests them. */
  readonly retryAfter: number | null;
  readonly details: Record<string, unknown>;
  readonly requestId: string;
}

export interface Progress {
  /** Bytes of the file. */
  total: number;
  /** Bytes stored and on their way; never falls. */
  sent: number;
  /** Bytes stored, and the same as in the file. */
  stored: number;
  /** Bytes a second, or null while unknown. */
  speed: number | null;
  secondsLeft: number | null;
  /** The fraction read back while verifying, else null. */
  verified: number | null;
}

export interface StateChange {
  state: UploadState;
  /** Why nothing moves just now, though it goes on by itself. */
  trouble: UploadError | null;
  /** Why it failed. */
  error: UploadError | null;
}

export interface UploadEventMap {
  progress: CustomEvent<Progress>;
  state: CustomEvent<StateChange>;
  error: CustomEvent<UploadError>;
  done: CustomEvent<Session>;
}

export interface Upload extends EventTarget {
  readonly file: File;
  readonly state: UploadState;
  readonly trouble: UploadError | null;
  readonly error: UploadError | null;
  readonly session: Session | null;
  readonly progress: Progress;
  /** Whether an earlier try was found and is being continued. */
  readonly resumed: boolean;
  readonly fingerprint: string | null;
  /** Stops at once; what is stored stays. Without effect once all bytes are sent. */
  pause(): void;
  /** Goes on after pause() or an error. */
  resume(): void;
  /** Gives the upload up and has its parts deleted. */
  abort(): Promise<void>;
  /** Ends all waiting between attempts. */
  retryNow(): void;
  addEventListener<K extends keyof UploadEventMap>(
    type: K,
    listener: (event: UploadEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof UploadEventMap>(
    type: K,
    listener: (event: UploadEventMap[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
}

export interface UploaderOptions {
  /** The gateway's address; by default the one this module came from. */
  server?: string | URL;
  /** The bearer token, or null; asked again when the gateway refuses the token `rejected`. */
  getToken?: (why: { rejected: string | null }) => string | null | Promise<string | null>;
  /** At most so many parts at once, 1 to 8, over all uploads; 6 by default. */
  parallel?: number;
  /** At most so many files at once; 2 by default. */
  simultaneous?: number;
}

export interface UploadOptions {
  /** Kept with the session; at most 2 KB. */
  metadata?: Record<string, string>;
  /** Go on with this session, if it is open and of the same size. */
  sessionId?: string | null;
  /** More fields for the create call: `part_size`, `checksum_algorithm`, `bucket`, `key`... */
  create?: Record<string, unknown>;
}

/** Calls to the gateway with the uploader's token. Each throws UploadError. */
export interface Api {
  find(query?: {
    fingerprint?: string;
    state?: string;
    cursor?: string | null;
    limit?: number;
  }): Promise<{ uploads: Session[]; next_cursor: string | null }>;
  status(sessionId: string): Promise<Session>;
  abort(sessionId: string): Promise<unknown>;
  content(sessionId: string): Promise<{ url: string; expires_at: string; filename: string }>;
}

export class Uploader {
  constructor(options?: UploaderOptions);
  readonly api: Api;
  readonly uploads: Upload[];
  /** Starts to upload a file, or goes on with an earlier try of the same file. */
  upload(file: File, options?: UploadOptions): Upload;
  /** Forgets an upload that is over. */
  remove(upload: Upload): void;
  /** Pauses everything and lets the worker go. */
  close(): void;
}
