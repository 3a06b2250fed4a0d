/**
 * Types of the browser library `uploader.js`.
 *
 * TypeScript fetches no types from an address. Keep a copy of this file beside your sources, and
 * tell your `tsconfig.json` that it belongs to the address which you import:
 *
 *     "paths": { "https://gateway.example.com/static/uploader.js": ["./uploader.d.ts"] }
 */

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
  verified_by: "store" | "gateway" | "client_parts" | "client_file" | null;
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
  /** The message and the hint, for people. */
  toString(): string;
}

export interface Progress {
  /** Bytes of the file. */
  total: number;
  /** Bytes stored and on their way; never falls. */
  sent: number;
  /** Bytes stored, and the same as in the file. */
  stored: number;
  /** What of the file is sent, 0 to 1; an empty file is either not sent or completed. */
  fraction: number;
  /** Bytes a second, or null while unknown. */
  speed: number | null;
  secondsLeft: number | null;
  /** The fraction read back while verifying, else null. */
  verified: number | null;
  /** Whether the bytes go through the gateway. */
  relayed: boolean;
}

export interface StateChange {
  state: UploadState;
  /** Why nothing moves just now, though it goes on by itself. */
  trouble: UploadError | null;
  /** Why it failed. */
  error: UploadError | null;
  /** Whether the bytes go through the gateway. */
  relayed: boolean;
}

export interface UploadEventMap {
  progress: CustomEvent<Progress>;
  state: CustomEvent<StateChange>;
  error: CustomEvent<UploadError>;
  done: CustomEvent<Session>;
}

/** One file on its way. Made by `Uploader.upload()`. */
export class Upload extends EventTarget {
  private constructor();
  readonly file: File;
  readonly state: UploadState;
  /** Why nothing moves just now, though it goes on by itself. */
  readonly trouble: UploadError | null;
  /** Why it failed. */
  readonly error: UploadError | null;
  /** The session as the gateway last showed it. */
  readonly session: Session | null;
  readonly progress: Progress;
  /** Whether the bytes go through the gateway, since the store cannot be reached from here. */
  readonly relayed: boolean;
  /** Why they do: `store_unreachable`, or `store_blocked` by its CORS rules. */
  readonly relayCause: UploadError | null;
  /** Whether an earlier try was found and is being continued. */
  readonly resumed: boolean;
  /** What the gateway knows this file by; null until it is computed. */
  readonly fingerprint: string | null;
  /** Stops at once; what is stored stays. Without effect once all bytes are sent. */
  pause(): void;
  /** Goes on after pause() or an error. */
  resume(): void;
  /**
   * Gives the upload up and has its parts deleted. Settled when the gateway has answered: the state
   * is then `aborted`, or `failed` when another client has completed it before.
   */
  abort(): Promise<void>;
  /** Ends all waiting between attempts. */
  retryNow(): void;
  addEventListener<K extends keyof UploadEventMap>(
    type: K,
    listener: (event: UploadEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof UploadEventMap>(
    type: K,
    listener: (event: UploadEventMap[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export interface UploaderOptions {
  /** The gateway's address; by default the one this module came from. */
  server?: string | URL;
  /**
   * The bearer token, or null. Asked when it is first needed, and again when the gateway refuses
   * the token `rejected`. If it throws, it is asked again later; if it gives null or the same token
   * again, the upload fails with a 401.
   */
  getToken?: (why: { rejected: string | null }) => string | null | Promise<string | null>;
  /** At most so many parts at once, 1 to 8, over all uploads; 6 by default. */
  parallel?: number;
  /** At most so many files at once; 2 by default. */
  simultaneous?: number;
  /**
   * Whether bytes go through the gateway: `auto`, the default, where only it reaches the store.
   * `always` never tries the store, `never` waits for it.
   */
  relay?: "auto" | "always" | "never";
}

export interface UploadOptions {
  /** Kept with the session; at most 2 KB. */
  metadata?: Record<string, string>;
  /** Go on with this session, if it is open and of the same size. */
  sessionId?: string | null;
  /** More fields for the create call: `part_size`, `checksum_algorithm`, `bucket`, `key`... */
  create?: Record<string, unknown>;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** No second attempt; without it, a call is tried until it gets an answer. */
  once?: boolean;
}

/** Calls to the gateway with the uploader's token. Each throws UploadError. */
export class Api {
  constructor(server: string | URL, getToken: NonNullable<UploaderOptions["getToken"]>);
  /** The gateway's clock minus this machine's, in milliseconds, as its last answer had it. */
  clockOffset: number;
  /** One's own sessions, newest first. */
  find(
    query?: { fingerprint?: string; state?: string; cursor?: string | null; limit?: number },
    options?: CallOptions,
  ): Promise<{ uploads: Session[]; next_cursor: string | null }>;
  status(sessionId: string, options?: CallOptions): Promise<Session>;
  create(
    body: { filename: string; size: number | null; [field: string]: unknown },
    idempotencyKey: string,
    options?: CallOptions,
  ): Promise<Session>;
  /** What is stored, by part number. */
  parts(
    sessionId: string,
    query?: { cursor?: number | null; limit?: number },
    options?: CallOptions,
  ): Promise<{
    parts: { part_number: number; size: number; etag: string; checksum: string | null }[];
    next_cursor: number | null;
  }>;
  sign(
    sessionId: string,
    parts: { part_number: number; checksum?: string; size?: number; replace?: boolean }[],
    /** Life of the addresses in seconds; null is the gateway's choice. */
    expiresIn: number | null,
    options?: CallOptions,
  ): Promise<{
    parts: {
      part_number: number;
      url: string;
      method: string;
      headers: Record<string, string>;
      size: number;
      expires_at: string;
    }[];
    server_time: string;
  }>;
  acknowledge(
    sessionId: string,
    parts: { part_number: number; etag: string; checksum?: string }[],
    options?: CallOptions,
  ): Promise<unknown>;
  /** Tells how many bytes of which part are on their way. */
  progress(
    sessionId: string,
    inFlight: Record<number, number>,
    options?: CallOptions,
  ): Promise<unknown>;
  complete(
    sessionId: string,
    parts: { part_number: number; etag: string; checksum?: string }[],
    options?: CallOptions,
  ): Promise<Session>;
  abort(sessionId: string, options?: CallOptions): Promise<unknown>;
  /** Where to download a completed upload, for a short time and without a token. */
  content(
    sessionId: string,
    options?: CallOptions,
  ): Promise<{
    url: string;
    expires_at: string;
    filename: string;
    size: number;
    content_type: string;
    checksums: Record<string, string>;
  }>;
  /**
   * Where a link must lead to download a completed upload: to the store, or, where that cannot be
   * reached from here, to a Blob that has come through the gateway. `URL.revokeObjectURL` gives
   * that back. `onProgress` is called only while bytes are relayed.
   */
  link(
    sessionId: string,
    options?: {
      signal?: AbortSignal;
      onProgress?: (got: { loaded: number; total: number; filename: string }) => void;
    },
  ): Promise<{ href: string; filename: string; relayed: boolean }>;
  /** Whether the gateway reaches the store now, as far as an open session shows it. */
  reachesStore(sessionId: string, signal?: AbortSignal): Promise<boolean>;
  /**
   * Sends one part through the gateway, which records it; the ETag. Tried once: where there is no
   * answer it throws a plain Error without a `code`.
   */
  relayPart(
    sessionId: string,
    part: { number: number; checksum: string; replace?: boolean },
    blob: Blob,
    options: {
      algorithm: string;
      /** Ends it, with its reason. */
      signal: AbortSignal;
      /** Ends it as if nothing had moved for too long. */
      giveUp: AbortSignal;
      onProgress: (bytes: number) => void;
    },
  ): Promise<string | null>;
  /** Any other call of the gateway's API, by its path without the first slash. */
  call(
    method: string,
    path: string,
    options?: CallOptions & {
      query?: Record<string, string | number | null | undefined>;
      body?: object;
      headers?: Record<string, string>;
    },
  ): Promise<unknown>;
}

export class Uploader {
  constructor(options?: UploaderOptions);
  readonly api: Api;
  /** All uploads, in the order in which they were given, until they are removed. */
  readonly uploads: readonly Upload[];
  /** Starts to upload a file, or goes on with an earlier try of the same file. */
  upload(file: File, options?: UploadOptions): Upload;
  /** Forgets an upload; one that is still on its way is paused. */
  remove(upload: Upload): void;
  /** Pauses everything and lets the worker go. */
  close(): void;
}
