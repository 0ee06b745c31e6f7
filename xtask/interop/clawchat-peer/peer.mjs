#!/usr/bin/env node
// A ClawChat 1.0 peer that shares no code with ours: js-libp2p, cborg and the Stacks packages of the npm registry, written
// from the protocol's description (/snap2p/1.0.0 and /snap2p/px1/1.0.0). What it is for: ../README.md.

import { createHash, pbkdf2Sync, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

// The libp2p packages need Promise.withResolvers, which Node 20 lacks. It has
// to exist before they load, hence the dynamic imports below.
if (typeof Promise.withResolvers !== 'function') {
  Promise.withResolvers = function withResolvers () {
    const d = {}
    d.promise = new this((resolve, reject) => { d.resolve = resolve; d.reject = reject })
    return d
  }
}

const { createLibp2p } = await import('libp2p')
const { generateKeyPair, generateKeyPairFromSeed } = await import('@libp2p/crypto/keys')
const { tcp } = await import('@libp2p/tcp')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { identify } = await import('@libp2p/identify')
const { multiaddr } = await import('@multiformats/multiaddr')
const { pushable } = await import('it-pushable')
const cbor = await import('cborg')
const { HDKey } = await import('@scure/bip32')
const stacks = await import('@stacks/transactions')
const walletSdk = await import('@stacks/wallet-sdk')

const SNAP2P = '/snap2p/1.0.0'
const PX1 = '/snap2p/px1/1.0.0'
const DOMAIN = 'snap2p-nodekey-attestation-v1'
const MAX_FRAME = 16 * 1024 * 1024
const SKEW = 300
const T = { HELLO: 0x01, AUTH: 0x02, AUTH_OK: 0x03, AUTH_FAIL: 0x04, STREAM_DATA: 0x12, PING: 0x20, PONG: 0x21 }
const PX = { REQ: 0x01, RESP: 0x02, PUSH: 0x03 }
const FAIL = { invalid: [1, 'ERR_AUTH_INVALID'], expired: [2, 'ERR_AUTH_EXPIRED'], version: [3, 'ERR_VERSION_UNSUPPORTED'] }

// ---------------------------------------------------------------- arguments

const USAGE = `usage: node peer.mjs --mnemonic-file F [options]
  --mnemonic-file F           24 words; their account 0 is who the peer is
  --key-seed HEX              32 bytes its libp2p key is made of (default: a new key on every run)
  --listen MULTIADDR          (default /ip4/127.0.0.1/tcp/0)
  --network testnet|mainnet   (default testnet)
  --nick NAME                 nick put in chat messages (default: none, key left out)
  --dial MULTIADDR            open a session, with /p2p/PEERID; may be repeated
  --send TEXT --count N       send N chat messages on the first session, whoever opened it; {i} is the index
  --send-file F               send the texts of a JSON array
  --chunk BYTES               cut what is written into pieces of this size
  --expect N                  wait for N chat messages
  --know PRINCIPAL=MULTIADDR  have this to tell when asked for the principal; may be repeated
  --resolve PRINCIPAL         PX_RESOLVE_REQ to the first session's peer; may be repeated
  --push PRINCIPAL=MULTIADDR  PX_PUSH to the first session's peer; may be repeated
  --announce                  PX_PUSH the peer's own address after every session
  --expect-px N               wait for N incoming PX_PUSH messages
  --idle S                    stay up S more seconds when all else is done
  --timeout S                 deadline for everything (default 30)
  --quiet                     count messages instead of printing them
  --no-bind-check             accept attestations not bound to the connection
lies, to see what the other side makes of them:
  --claim PRINCIPAL           name this principal in AUTH beside one's own attestation
  --attest-seed HEX           attest the node key of this seed, not that of the connection
  --keep-attestation F        write what the first session's peer attested
  --replay F                  show that instead of an attestation of one's own
  --spoof PRINCIPAL           send chat messages in this principal's name
order: dial, push, resolve, send, expect, idle. One JSON object a line on stdout, the last one is "done".`

let opt
try {
  opt = parseArgs({
    options: {
      'key-seed': { type: 'string' },
      listen: { type: 'string', default: '/ip4/127.0.0.1/tcp/0' },
      'mnemonic-file': { type: 'string' },
      network: { type: 'string', default: 'testnet' },
      nick: { type: 'string' },
      dial: { type: 'string', multiple: true, default: [] },
      send: { type: 'string' },
      count: { type: 'string', default: '1' },
      'send-file': { type: 'string' },
      chunk: { type: 'string', default: '0' },
      expect: { type: 'string', default: '0' },
      'expect-px': { type: 'string', default: '0' },
      know: { type: 'string', multiple: true, default: [] },
      resolve: { type: 'string', multiple: true, default: [] },
      push: { type: 'string', multiple: true, default: [] },
      announce: { type: 'boolean', default: false },
      idle: { type: 'string', default: '0' },
      timeout: { type: 'string', default: '30' },
      quiet: { type: 'boolean', default: false },
      'no-bind-check': { type: 'boolean', default: false },
      claim: { type: 'string' },
      'attest-seed': { type: 'string' },
      'keep-attestation': { type: 'string' },
      replay: { type: 'string' },
      spoof: { type: 'string' },
      help: { type: 'boolean', default: false }
    }
  }).values
} catch (err) {
  console.error(String(err.message)); console.error(USAGE); process.exit(1)
}
if (opt.help) { console.log(USAGE); process.exit(0) }
if (!opt['mnemonic-file'] || !['testnet', 'mainnet'].includes(opt.network)) { console.error(USAGE); process.exit(1) }

const want = { count: Number(opt.count), chunk: Number(opt.chunk), expect: Number(opt.expect), expectPx: Number(opt['expect-px']), idle: Number(opt.idle), timeout: Number(opt.timeout) }
if (Object.values(want).some(n => !Number.isFinite(n) || n < 0)) { console.error('a number is wrong'); console.error(USAGE); process.exit(1) }

const emit = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
const fault = (where, err) => { if (!finishing) emit('error', { where, message: err?.message ?? String(err) }) }
let finishing = false
const seeded = hex => generateKeyPairFromSeed('Ed25519', Uint8Array.from(Buffer.from(hex, 'hex')))
const toHex = b => Buffer.from(b).toString('hex')
const sameBytes = (a, b) => a != null && b != null && Buffer.compare(Buffer.from(a), Buffer.from(b)) === 0
const within = (promise, ms, what) => {
  let timer
  const late = new Promise((_resolve, reject) => { timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// ------------------------------------------------------------------ identity

// As the wallet makes it of 24 words, without the encrypted copy of them that its own function prepares (0.2 s).
function loadSigner (file, network) {
  const words = readFileSync(file, 'utf8').trim().split(/\s+/).join(' ')
  const rootNode = HDKey.fromMasterSeed(pbkdf2Sync(words.normalize('NFKD'), 'mnemonic', 2048, 64, 'sha512'))
  const key = walletSdk.deriveStxPrivateKey({ rootNode, index: 0 })
  const address = stacks.getAddressFromPrivateKey(key, network)
  return {
    principal: `stacks:${address}`,
    sign: bytes => Buffer.from(stacks.signMessageHashRsv({
      messageHash: createHash('sha256').update(bytes).digest('hex'), privateKey: key
    }), 'hex')
  }
}

// cborg sorts map keys (shorter first), which is the order the signature needs.
const signedBytes = a => cbor.encode({
  v: a.version, p: a.principal, npk: toHex(a.nodePublicKey), ts: a.issuedAt, exp: a.expiresAt, nonce: a.nonce, domain: a.domain
})

/** Reads `PRINCIPAL=MULTIADDR` as an entry of PX-1. */
function hint (text) {
  const cut = text.indexOf('=')
  if (cut < 0) throw new Error(`PRINCIPAL=MULTIADDR is wanted, not ${text}`)
  const address = text.slice(cut + 1)
  const peerId = multiaddr(address).getPeerId()
  return { principal: text.slice(0, cut), multiaddrs: [address], lastSeen: Date.now(), ...(peerId === null ? {} : { peerId }) }
}

function makeAttestation (me, nodeKey) {
  const issuedAt = Math.floor(Date.now() / 1000)
  const a = { version: 1, principal: me.principal, nodePublicKey: nodeKey, issuedAt, expiresAt: issuedAt + 86400, nonce: new Uint8Array(randomBytes(32)), domain: DOMAIN }
  const signature = me.sign(signedBytes(a))
  // on the wire the byte fields of the attestation are arrays of ints
  return { ...a, nodePublicKey: [...a.nodePublicKey], nonce: [...a.nonce], signature: [...signature] }
}

/** What this peer says of itself in HELLO and AUTH: the truth, unless it was told to lie. */
async function papers (me, nodeKey) {
  const attested = opt['attest-seed'] === undefined ? nodeKey : Uint8Array.from((await seeded(opt['attest-seed'])).publicKey.raw)
  if (opt.replay === undefined) return { principal: opt.claim ?? me.principal, nodeKey: attested, attestation: () => makeAttestation(me, attested) }
  const kept = JSON.parse(readFileSync(opt.replay, 'utf8'))
  return { principal: opt.claim ?? kept.principal, nodeKey: Uint8Array.from(kept.nodePublicKey), attestation: () => kept }
}

class RefusedError extends Error {
  constructor (code, reason) { super(`refused: AUTH_FAIL ${code} ${reason}`); this.code = code; this.reason = reason }
}

class AuthError extends Error {
  constructor (kind, message) { super(message); this.kind = kind }
}

function checkAttestation (auth, hello, connectionKey, network, bindCheck) {
  const raw = auth.attestation
  if (raw === null || typeof raw !== 'object') throw new AuthError('invalid', 'AUTH carries no attestation')
  const bytes = (name, min, max) => {
    const v = raw[name]
    if (!(v instanceof Uint8Array) && !(Array.isArray(v) && v.every(n => Number.isInteger(n) && n >= 0 && n <= 255))) throw new AuthError('invalid', `attestation.${name} is not bytes`)
    if (v.length < min || v.length > max) throw new AuthError('invalid', `attestation.${name} has ${v.length} bytes`)
    return Uint8Array.from(v)
  }
  const a = { version: raw.version, principal: raw.principal, domain: raw.domain, issuedAt: raw.issuedAt, expiresAt: raw.expiresAt, nodePublicKey: bytes('nodePublicKey', 32, 32), nonce: bytes('nonce', 16, 32), signature: bytes('signature', 65, 65) }
  if (a.version !== 1) throw new AuthError('version', `attestation version ${a.version}`)
  if (a.domain !== DOMAIN) throw new AuthError('invalid', `attestation domain ${a.domain}`)
  if (typeof a.principal !== 'string' || !a.principal.startsWith('stacks:')) throw new AuthError('invalid', 'attestation principal')
  if (!Number.isSafeInteger(a.issuedAt) || !Number.isSafeInteger(a.expiresAt)) throw new AuthError('invalid', 'attestation times')
  const now = Math.floor(Date.now() / 1000)
  if (a.expiresAt <= now - SKEW) throw new AuthError('expired', 'attestation expired')
  if (a.issuedAt > now + SKEW) throw new AuthError('invalid', 'attestation from the future')
  let address
  try {
    const digest = createHash('sha256').update(signedBytes(a)).digest('hex')
    address = stacks.publicKeyToAddress(stacks.publicKeyFromSignatureRsv(digest, toHex(a.signature)), network)
  } catch (err) { throw new AuthError('invalid', `signature unusable: ${err.message}`) }
  if (`stacks:${address}` !== a.principal) throw new AuthError('invalid', `signature is by ${address}`)
  if (auth.principal !== a.principal) throw new AuthError('invalid', 'AUTH.principal differs from the attestation')
  const bound = { helloKey: sameBytes(hello.nodePublicKey, a.nodePublicKey), connectionKey: sameBytes(connectionKey, a.nodePublicKey), nonce: sameBytes(hello.nonce, auth.sessionNonce) }
  if (bindCheck && !(bound.helloKey && bound.connectionKey)) throw new AuthError('invalid', `attested node key is not the one of this connection (hello ${bound.helloKey}, connection ${bound.connectionKey})`)
  return { attestation: a, bound }
}

// ------------------------------------------------------------------- framing

function frame (message) {
  const body = cbor.encode(message)
  const out = Buffer.alloc(4 + body.length)
  out.writeUInt32BE(body.length, 0)
  out.set(body, 4)
  return out
}

/** A libp2p stream seen as frames in and out. */
class FramedStream {
  constructor (stream, chunk = 0) {
    this.stream = stream
    this.chunk = chunk
    this.out = pushable({ objectMode: false })
    this.sunk = Promise.resolve(stream.sink(this.out)).catch(err => { this.sinkError = err })
  }

  write (message) {
    const bytes = frame(message)
    if (this.chunk > 0) for (let i = 0; i < bytes.length; i += this.chunk) this.out.push(bytes.subarray(i, i + this.chunk))
    else this.out.push(bytes)
  }

  async * frames () {
    let held = Buffer.alloc(0)
    for await (const piece of this.stream.source) {
      held = Buffer.concat([held, piece.subarray()])
      while (held.length >= 4) {
        const size = held.readUInt32BE(0)
        if (size > MAX_FRAME) throw new Error(`frame of ${size} bytes announced`)
        if (held.length < 4 + size) break
        yield cbor.decode(Uint8Array.from(held.subarray(4, 4 + size)))
        held = held.subarray(4 + size)
      }
    }
    if (held.length > 0) throw new Error(`stream ended inside a frame (${held.length} bytes left)`)
  }

  async end () {
    this.out.end()
    await within(this.sunk, 3000, 'closing').catch(() => {})
    await within(Promise.resolve(this.stream.close()), 3000, 'closing').catch(() => {})
  }
}

// -------------------------------------------------------------------- session

class Session {
  constructor (peer, connection, stream, direction) {
    this.peer = peer
    this.connection = connection
    this.direction = direction
    this.io = new FramedStream(stream, want.chunk)
    this.inbound = this.io.frames()
    this.pongs = new Map()
  }

  async next (type, what) {
    const { value, done } = await within(this.inbound.next(), 15000, `waiting for ${what}`)
    if (done) throw new Error(`stream ended while waiting for ${what}`)
    if (value?.type === T.AUTH_FAIL) throw new RefusedError(value.code, value.reason)
    if (value?.type !== type) throw new Error(`expected ${what}, got type ${value?.type}`)
    return value
  }

  introduce () {
    const nonce = new Uint8Array(randomBytes(16))
    this.io.write({ type: T.HELLO, version: 1, nodePublicKey: this.peer.papers.nodeKey, nonce, timestamp: Math.floor(Date.now() / 1000) })
    this.io.write({ type: T.AUTH, principal: this.peer.papers.principal, attestation: this.peer.papers.attestation(), sessionNonce: nonce })
  }

  async learn () {
    const hello = await this.next(T.HELLO, 'HELLO')
    if (hello.version !== 1) throw new AuthError('version', `HELLO version ${hello.version}`)
    const auth = await this.next(T.AUTH, 'AUTH')
    const { attestation, bound } = checkAttestation(auth, hello, this.connection.remotePeer.publicKey?.raw, opt.network, !opt['no-bind-check'])
    this.remote = attestation.principal
    this.bound = bound
    if (opt['keep-attestation'] !== undefined) {
      writeFileSync(opt['keep-attestation'], JSON.stringify(auth.attestation, (_name, value) => value instanceof Uint8Array ? [...value] : value))
    }
  }

  async handshake () {
    try {
      if (this.direction === 'out') {
        this.introduce() // HELLO and AUTH go out together, before anything is read
        await this.learn()
        this.io.write({ type: T.AUTH_OK })
        await this.next(T.AUTH_OK, 'AUTH_OK')
      } else {
        await this.learn() // nothing is said before the other side has proved itself
        this.introduce()
        await this.next(T.AUTH_OK, 'AUTH_OK')
        this.io.write({ type: T.AUTH_OK })
      }
    } catch (err) {
      if (err instanceof RefusedError) emit('refused', { direction: this.direction, code: err.code ?? null, reason: err.reason ?? null })
      if (err instanceof AuthError) { const [code, reason] = FAIL[err.kind]; this.io.write({ type: T.AUTH_FAIL, code, reason }) }
      await this.io.end()
      throw err
    }
    emit('session', { principal: this.remote, peerId: this.connection.remotePeer.toString(), direction: this.direction, bound: this.bound })
    this.reading = this.read()
  }

  async read () {
    try {
      for await (const m of this.inbound) {
        switch (m?.type) {
          case T.STREAM_DATA: this.peer.onChat(this, cbor.decode(m.data)); break
          case T.PING: this.io.write({ type: T.PONG, nonce: m.nonce }); break
          case T.PONG: this.pongs.get(toHex(m.nonce ?? []))?.(null); break
          default: emit('ignored', { type: m?.type ?? null })
        }
      }
      if (!finishing) emit('session_end', { principal: this.remote, direction: this.direction })
    } catch (err) { fault('session', err) }
    this.ended = true
    for (const waiting of this.pongs.values()) waiting(new Error('session ended'))
  }

  chat (content) {
    const body = { id: randomBytes(16).toString('hex'), from: opt.spoof ?? this.peer.me.principal, content, timestamp: Date.now() }
    if (opt.nick !== undefined) body.nick = opt.nick
    this.io.write({ type: T.STREAM_DATA, streamId: 0, data: cbor.encode(body), fin: false })
    return body.id
  }

  /** Everything written before this has been read by the other side when it resolves. */
  async ping (ms = 10000) {
    const nonce = new Uint8Array(randomBytes(16))
    const answered = new Promise((resolve, reject) => {
      if (this.ended) reject(new Error('session ended'))
      this.pongs.set(toHex(nonce), err => err ? reject(err) : resolve())
    })
    this.io.write({ type: T.PING, nonce })
    await within(answered, ms, 'PONG')
  }
}

// ----------------------------------------------------------------------- peer

class Peer {
  constructor (me, node, papers) {
    this.me = me
    this.node = node
    this.papers = papers
    this.sessions = []
    this.messages = 0
    this.pushes = 0
    this.known = new Map(opt.know.map(hint).map(entry => [entry.principal, entry]))
    this.first = Promise.withResolvers()
    this.change = () => {}
  }

  self () {
    return { principal: this.me.principal, multiaddrs: this.node.getMultiaddrs().map(String), lastSeen: Date.now(), peerId: this.node.peerId.toString() }
  }

  async open (connection, stream, direction) {
    const session = new Session(this, connection, stream, direction)
    await session.handshake()
    this.sessions.push(session)
    this.first.resolve(session)
    if (opt.announce) await this.px1Push(connection, [this.self()])
    return session
  }

  onChat (session, m) {
    this.messages++
    if (!opt.quiet) emit('message', { id: m.id, from: m.from, nick: m.nick ?? null, content: m.content, timestamp: m.timestamp, principal: session.remote, peerId: session.connection.remotePeer.toString(), spoofed: m.from !== session.remote })
    this.change()
  }

  async px1Serve (connection, stream) {
    const io = new FramedStream(stream)
    for await (const m of io.frames()) {
      if (m.type === PX.PUSH) {
        this.pushes++
        for (const p of m.peers ?? []) this.known.set(p.principal, p)
        emit('px1_push', { direction: 'in', peerId: connection.remotePeer.toString(), peers: m.peers })
        this.change()
      } else if (m.type === PX.REQ) {
        const found = m.principal === this.me.principal ? this.self() : this.known.get(m.principal) ?? null
        emit('px1_request', { peerId: connection.remotePeer.toString(), principal: m.principal, found: found !== null })
        io.write({ type: PX.RESP, requestId: m.requestId, peer: found })
        break
      } else emit('ignored', { protocol: PX1, type: m.type ?? null })
    }
    await io.end()
  }

  // One stream for every PX-1 exchange: write one message, close the writing side.
  async px1Push (connection, peers) {
    const io = new FramedStream(await connection.newStream(PX1))
    io.write({ type: PX.PUSH, peers })
    await io.end()
    emit('px1_push', { direction: 'out', peerId: connection.remotePeer.toString(), peers })
  }

  async px1Resolve (connection, principal) {
    const io = new FramedStream(await connection.newStream(PX1))
    const requestId = randomBytes(16).toString('hex')
    io.write({ type: PX.REQ, principal, requestId })
    io.out.end()
    const answer = (async () => {
      for await (const m of io.frames()) if (m.type === PX.RESP && m.requestId === requestId) return m
      throw new Error('stream ended without PX_RESOLVE_RESP')
    })()
    const m = await within(answer, 10000, 'PX_RESOLVE_RESP')
    emit('px1_resolve', { principal, peer: m.peer ?? null, ...(m.error === undefined ? {} : { error: m.error }) })
    await io.end()
  }
}

// ----------------------------------------------------------------------- main

const started = Date.now()
const left = () => Math.max(1, started + want.timeout * 1000 - Date.now())
let peer
let result = { ok: false }

async function run () {
  const me = loadSigner(opt['mnemonic-file'], opt.network)
  const privateKey = opt['key-seed'] === undefined ? await generateKeyPair('Ed25519') : await seeded(opt['key-seed'])
  const node = await createLibp2p({
    privateKey,
    addresses: { listen: [opt.listen] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify() }
  })
  peer = new Peer(me, node, await papers(me, Uint8Array.from(privateKey.publicKey.raw)))
  await node.handle(SNAP2P, ({ stream, connection }) => { peer.open(connection, stream, 'in').catch(err => fault('inbound session', err)) })
  await node.handle(PX1, ({ stream, connection }) => { peer.px1Serve(connection, stream).catch(err => fault('px1', err)) })
  emit('listening', { principal: me.principal, peerId: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) })

  for (const target of opt.dial) {
    const connection = await within(node.dial(multiaddr(target)), left(), 'dialling')
    await peer.open(connection, await connection.newStream(SNAP2P), 'out')
  }

  const texts = opt['send-file'] === undefined ? [] : JSON.parse(readFileSync(opt['send-file'], 'utf8'))
  if (opt.send !== undefined) for (let i = 0; i < want.count; i++) texts.push(opt.send.replaceAll('{i}', String(i)))
  if (texts.length > 0 || opt.resolve.length > 0 || opt.push.length > 0) {
    const session = await within(peer.first.promise, left(), 'first session')
    for (const text of opt.push) await peer.px1Push(session.connection, [hint(text)])
    for (const principal of opt.resolve) await peer.px1Resolve(session.connection, principal)
    if (texts.length > 0) await say(session, texts)
  }

  if (want.expect > 0 || want.expectPx > 0) {
    const enough = new Promise(resolve => { peer.change = () => { if (peer.messages >= want.expect && peer.pushes >= want.expectPx) resolve() }; peer.change() })
    await within(enough, left(), `${want.expect} messages and ${want.expectPx} pushes`)
    emit('enough', { messages: peer.messages, pushes: peer.pushes })
    await new Promise(resolve => setTimeout(resolve, 300)) // time to answer a PING that follows the last message
  }
  if (want.idle > 0) await new Promise(resolve => setTimeout(resolve, Math.min(want.idle * 1000, left())))
  result = { ok: true }
}

/** Sends chat messages, and a PING behind them: its PONG shows that the other side has read them all. */
async function say (session, texts) {
  const t = performance.now()
  for (const text of texts) session.chat(text)
  let acknowledged = true
  await session.ping(left()).catch(err => { acknowledged = false; fault('ping', err) })
  emit('sent', { count: texts.length, acknowledged, ms: Math.round(performance.now() - t) })
  if (!acknowledged) throw new Error('what was sent was not acknowledged by a PONG')
}

async function finish (code) {
  if (finishing) return
  finishing = true
  emit('done', { ...result, sessions: peer?.sessions.length ?? 0, messages: peer?.messages ?? 0, pushes: peer?.pushes ?? 0 })
  if (peer) {
    await Promise.all(peer.sessions.map(s => s.io.end()))
    await within(Promise.resolve(peer.node.stop()), 3000, 'stopping').catch(() => {})
  }
  process.exit(code)
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => { result = { ok: true, signal }; finish(0) })
process.on('unhandledRejection', err => fault('unhandled', err))

within(run(), want.timeout * 1000, 'the run').then(() => finish(0), err => { fault('run', err); finish(1) })
