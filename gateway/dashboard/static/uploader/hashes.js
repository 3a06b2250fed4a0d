/**
 * SHA-256 (FIPS 180-4) and MD5 (RFC 1321) over streams, in plain JavaScript.
 *
 * `crypto.subtle` does not exist on plain http outside localhost, hashes only what is wholly in
 * memory, and has no MD5. MD5 is here for one purpose only: to compare a file with the ETags of
 * stores whose part ETags are known to be MD5. It protects nothing.
 */

/** Collects bytes into blocks of 64 and pads the last one; a subclass digests one block. */
class BlockHash {
  #tail = new Uint8Array(64);
  #tailView = new DataView(this.#tail.buffer);
  #tailLength = 0;
  #length = 0;

  update(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    this.#length += bytes.length;
    if (this.#tailLength > 0) {
      at = Math.min(64 - this.#tailLength, bytes.length);
      this.#tail.set(bytes.subarray(0, at), this.#tailLength);
      this.#tailLength += at;
      if (this.#tailLength < 64) return this;
      this.block(this.#tailView, 0);
      this.#tailLength = 0;
    }
    for (; at + 64 <= bytes.length; at += 64) this.block(view, at);
    this.#tail.set(bytes.subarray(at));
    this.#tailLength = bytes.length - at;
    return this;
  }

  /** Appends the one bit, the zeros and the length in bits that both algorithms end with. */
  finish(littleEndian) {
    this.#tail[this.#tailLength] = 0x80;
    this.#tail.fill(0, this.#tailLength + 1);
    if (this.#tailLength >= 56) {
      this.block(this.#tailView, 0);
      this.#tail.fill(0);
    }
    const high = Math.floor(this.#length / 0x20000000);
    const low = (this.#length << 3) >>> 0;
    this.#tailView.setUint32(littleEndian ? 60 : 56, high, littleEndian);
    this.#tailView.setUint32(littleEndian ? 56 : 60, low, littleEndian);
    this.block(this.#tailView, 0);
  }
}

function primes(count) {
  const found = [];
  for (let n = 2; found.length < count; n += 1) {
    if (found.every((prime) => n % prime !== 0)) found.push(n);
  }
  return found;
}

/** The first 32 bits of a number's fractional part: where SHA-256 takes its constants from. */
const fraction = (value) => ((value - Math.floor(value)) * 0x100000000) | 0;

const SHA256_ROUNDS = Int32Array.from(primes(64), (prime) => fraction(Math.cbrt(prime)));
const SHA256_START = Int32Array.from(primes(8), (prime) => fraction(Math.sqrt(prime)));

export class Sha256 extends BlockHash {
  #state = SHA256_START.slice();
  #w = new Int32Array(64);

  block(view, at) {
    const w = this.#w;
    for (let i = 0; i < 16; i += 1) w[i] = view.getInt32(at + 4 * i);
    for (let i = 16; i < 64; i += 1) {
      const x = w[i - 15];
      const y = w[i - 2];
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
    }
    const state = this.#state;
    let a = state[0];
    let b = state[1];
    let c = state[2];
    let d = state[3];
    let e = state[4];
    let f = state[5];
    let g = state[6];
    let h = state[7];
    for (let i = 0; i < 64; i += 1) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const first = (h + s1 + ((e & f) ^ (~e & g)) + SHA256_ROUNDS[i] + w[i]) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const second = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + first) | 0;
      d = c;
      c = b;
      b = a;
      a = (first + second) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
  }

  digest() {
    this.finish(false);
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    this.#state.forEach((word, index) => view.setInt32(4 * index, word));
    return bytes;
  }
}

const MD5_SHIFTS = [
  [7, 12, 17, 22],
  [5, 9, 14, 20],
  [4, 11, 16, 23],
  [6, 10, 15, 21],
];
const MD5_ROUNDS = Int32Array.from({ length: 64 }, (_, i) =>
  Math.floor(Math.abs(Math.sin(i + 1)) * 0x100000000) | 0,
);
const MD5_SHIFT = Int32Array.from({ length: 64 }, (_, i) => MD5_SHIFTS[i >> 4][i & 3]);
const MD5_WORD = Int32Array.from(
  { length: 64 },
  (_, i) => [i, 5 * i + 1, 3 * i + 5, 7 * i][i >> 4] & 15,
);

export class Md5 extends BlockHash {
  #state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  #m = new Int32Array(16);

  block(view, at) {
    const m = this.#m;
    for (let i = 0; i < 16; i += 1) m[i] = view.getInt32(at + 4 * i, true);
    const state = this.#state;
    let a = state[0];
    let b = state[1];
    let c = state[2];
    let d = state[3];
    for (let i = 0; i < 64; i += 1) {
      let mixed;
      if (i < 16) mixed = (b & c) | (~b & d);
      else if (i < 32) mixed = (d & b) | (~d & c);
      else if (i < 48) mixed = b ^ c ^ d;
      else mixed = c ^ (b | ~d);
      const sum = (a + mixed + MD5_ROUNDS[i] + m[MD5_WORD[i]]) | 0;
      const shift = MD5_SHIFT[i];
      a = d;
      d = c;
      c = b;
      b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
  }

  digest() {
    this.finish(true);
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    this.#state.forEach((word, index) => view.setInt32(4 * index, word, true));
    return bytes;
  }
}
