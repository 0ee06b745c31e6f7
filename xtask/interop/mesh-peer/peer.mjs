#!/usr/bin/env node
// An independent OpenClaw mesh peer (protocol version 1) for tests: one JSON event a line on
// stdout, exit 0 when what was asked happened, 1 when it did not, 2 for a wrong call.
// Written from the wire format; shares no code with ours or the reference. See ../README.md.
import { randomUUID, generateKeyPairSync, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import path from "node:path";
import { WebSocket, WebSocketServer } from "ws";

const USAGE = `usage: node peer.mjs [--listen PORT [--host ADDR]] [--bootstrap URL | --connect WS_URL...]
  [--key-dir DIR | --peer-id ID] [--subscribe CH...] [--publish CH TEXT]... [--payload JSON] [--count N]
  [--expect N] [--require-valid] [--timeout S] [--linger S] [--publish-now]
  [--sync-limit N] [--sync-after ID] [--no-sync] [--sync-signatures]
  [--no-store] [--no-relay] [--send-raw TEXT]... [--reconnect S] [--stdin] [--frames]`;

const emit = (event, more = {}) => process.stdout.write(JSON.stringify({ event, ...more }) + "\n");

// ---- arguments
const opt = { host: "127.0.0.1", connect: [], subscribe: [], publish: [], sendRaw: [], count: 1, timeout: 20, linger: 0.5, syncLimit: 100, sync: true, store: true, relay: true };
{
  const args = process.argv.slice(2);
  const die = (why) => { process.stderr.write(`${why}\n${USAGE}\n`); process.exit(2); };
  const value = (name) => (args.length ? args.shift() : die(`${name} needs a value`));
  const number = (name, least = 0) => { const v = Number(value(name)); if (!Number.isFinite(v) || v < least) die(`${name} needs a number of at least ${least}`); return v; };
  const many = (name) => { const list = []; while (args.length && !args[0].startsWith("--")) list.push(args.shift()); if (!list.length) die(`${name} needs a value`); return list; };
  while (args.length) {
    const a = args.shift();
    switch (a) {
      case "--listen": opt.listen = number(a); break;
      case "--host": opt.host = value(a); break;
      case "--bootstrap": opt.bootstrap = value(a); break;
      case "--connect": opt.connect.push(...many(a)); break;
      case "--key-dir": opt.keyDir = value(a); break;
      case "--peer-id": opt.peerId = value(a); break;
      case "--subscribe": opt.subscribe.push(...many(a)); break;
      case "--publish": opt.publish.push([value(a), value(a)]); break;
      case "--payload": try { opt.payload = JSON.parse(value(a)); } catch { die("--payload needs JSON"); } break;
      case "--count": opt.count = number(a, 1); break;
      case "--expect": opt.expect = number(a); break;
      case "--require-valid": opt.requireValid = true; break;
      case "--timeout": opt.timeout = number(a); break;
      case "--linger": opt.linger = number(a); break;
      case "--publish-now": opt.publishNow = true; break;
      case "--sync-limit": opt.syncLimit = number(a, 1); break;
      case "--sync-after": opt.syncAfter = value(a); break;
      case "--no-sync": opt.sync = false; break;
      case "--sync-signatures": opt.syncSignatures = true; break;
      case "--no-store": opt.store = false; break;
      case "--no-relay": opt.relay = false; break;
      case "--send-raw": opt.sendRaw.push(value(a)); break;
      case "--reconnect": opt.reconnect = number(a); break;
      case "--stdin": opt.stdin = true; break;
      case "--frames": opt.frames = true; break;
      case "--help": process.stdout.write(USAGE + "\n"); process.exit(0); break;
      default: die(`unknown argument ${a}`);
    }
  }
  if (opt.bootstrap && opt.connect.length) die("--bootstrap and --connect exclude each other");
  if (opt.listen === undefined && !opt.bootstrap && !opt.connect.length) die("nothing to do: give --listen, --bootstrap or --connect");
}

// ---- identity and signatures
const SPKI_HEAD = Buffer.from("302a300506032b6570032100", "hex");
const keyFromRaw = (raw) => createPublicKey({ key: Buffer.concat([SPKI_HEAD, raw]), format: "der", type: "spki" });
const rawOf = (key) => key.export({ type: "spki", format: "der" }).subarray(-32);
const idOf = (key) => rawOf(key).toString("base64url");
/** The key that a peer_id spells out, if it is the base64url of 32 bytes; else null. */
function keyOfId(id) {
  if (typeof id !== "string" || !/^[A-Za-z0-9_-]{43}$/.test(id)) return null;
  return keyFromRaw(Buffer.from(id, "base64url"));
}
function edKeyFromPem(pem) {
  try { const key = createPublicKey(pem); return key.asymmetricKeyType === "ed25519" ? key : null; } catch { return null; }
}
function loadIdentity() {
  if (!opt.keyDir) return { id: opt.peerId ?? `driver-${randomUUID().slice(0, 8)}` };
  const [secretFile, publicFile] = ["key.pem", "pub.pem"].map((f) => path.join(opt.keyDir, f));
  if (!existsSync(secretFile)) {
    mkdirSync(opt.keyDir, { recursive: true });
    const pair = generateKeyPairSync("ed25519");
    writeFileSync(secretFile, pair.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
    writeFileSync(publicFile, pair.publicKey.export({ type: "spki", format: "pem" }));
  }
  const secret = createPrivateKey(readFileSync(secretFile));
  const key = createPublicKey(secret);
  return { id: opt.peerId ?? idOf(key), secret, pem: key.export({ type: "spki", format: "pem" }) };
}
const me = loadIdentity();
const handshakeKeys = new Map(); // peer_id -> KeyObject told in a handshake

/** The text that is signed. The payload stands in it as a JSON string, not as an object. */
function canonical(m) {
  const payload = m.payload === undefined || m.payload === null ? null : JSON.stringify(m.payload);
  const fields = [["body", m.body], ["channel_id", m.channel_id], ["message_id", m.message_id], ["payload", payload], ["sender_id", m.sender_id], ["timestamp", m.timestamp]];
  return "{" + fields.map(([k, v]) => `"${k}":${JSON.stringify(v)}`).join(",") + "}";
}
/** valid | invalid | absent | unverifiable (a signature whose key is not known) */
function signatureState(m) {
  if (!m.signature) return "absent";
  const key = keyOfId(m.sender_id) ?? handshakeKeys.get(m.sender_id);
  if (!key) return "unverifiable";
  if (typeof m.signature !== "string") return "invalid";
  return verify(null, Buffer.from(canonical(m), "utf8"), key, Buffer.from(m.signature, "base64")) ? "valid" : "invalid";
}

// ---- state
const links = new Set();
const mine = new Set(opt.subscribe);
const store = new Map(); // message_id -> message, in order of arrival
const counted = new Set();
let invalidSeen = 0, finished = false, published = 0;

const text = (v) => typeof v === "string" && v.length > 0;
function wellFormed(m) {
  return m !== null && typeof m === "object" && text(m.message_id) && text(m.channel_id) && text(m.sender_id) && typeof m.body === "string" && (m.timestamp === undefined || typeof m.timestamp === "string");
}
function send(link, frame) {
  if (link.ws.readyState !== WebSocket.OPEN) return;
  const raw = typeof frame === "string" ? frame : JSON.stringify(frame);
  if (opt.frames) emit("sent", { link: link.name, raw });
  link.ws.send(raw);
}
function greet(link) {
  const hello = { type: "handshake", version: 1, peer_id: me.id, capabilities: { relay: opt.relay, store: opt.store } };
  if (me.pem) hello.public_key = me.pem;
  send(link, hello);
  link.greeted = true;
}
function ask(link, channel, after) {
  link.asked.add(channel);
  send(link, { type: "sync_request", channel_id: channel, after_message_id: after ?? null, limit: opt.syncLimit });
  emit("sync_requested", { link: link.name, channel_id: channel, after_message_id: after ?? null });
}
function announce(link, channel) {
  send(link, { type: "subscribe", channel_id: channel });
  if (opt.sync && link.remote?.capabilities?.store) ask(link, channel, opt.syncAfter);
}
function pass(m, from) {
  for (const link of links) {
    if (link === from || !link.remote || !link.wants.has(m.channel_id) || link.told.has(m.message_id)) continue;
    link.told.add(m.message_id);
    send(link, { type: "message", ...m });
  }
}
function take(m, via, link) {
  const signature = signatureState(m);
  const known = store.has(m.message_id);
  emit("message", { via, link: link.name, duplicate: known, signature_state: signature, ...m });
  if (signature === "invalid") { invalidSeen++; if (via === "live") send(link, { type: "error", code: "invalid_message", message: "Invalid signature" }); return; }
  link.told.add(m.message_id);
  if (known) return;
  store.set(m.message_id, m);
  if (via === "live" && opt.relay) pass(m, link);
  if (m.sender_id !== me.id && (mine.size === 0 || mine.has(m.channel_id))) {
    if (opt.requireValid && signature !== "valid") { invalidSeen++; return; }
    counted.add(m.message_id);
  }
}
const strip = ({ type, ...m }) => m;

function onFrame(link, raw, binary) {
  if (opt.frames) emit("got", { link: link.name, raw });
  let f;
  try { f = JSON.parse(raw); } catch { f = undefined; }
  if (f === null || typeof f !== "object" || Array.isArray(f)) {
    emit("bad_frame", { link: link.name, raw: raw.slice(0, 200) });
    return send(link, { type: "error", code: "invalid_message", message: "not a JSON object" });
  }
  switch (f.type) {
    case "handshake": {
      if (f.version !== 1) { emit("wrong_version", { link: link.name, version: f.version ?? null }); send(link, { type: "error", code: "unsupported_version", message: "only version 1" }); return link.ws.close(); }
      const told = f.public_key === undefined ? null : edKeyFromPem(f.public_key);
      const spelled = keyOfId(f.peer_id);
      const matches = told && spelled ? idOf(told) === f.peer_id : null;
      link.remote = { peer_id: f.peer_id, capabilities: f.capabilities ?? {} };
      if (told && matches !== false) handshakeKeys.set(f.peer_id, told);
      emit("handshake", { link: link.name, direction: link.direction, peer_id: f.peer_id, capabilities: f.capabilities ?? null, public_key: f.public_key ?? null, key_readable: f.public_key === undefined ? null : told !== null, key_matches_peer_id: matches });
      if (!link.greeted) greet(link);
      for (const channel of mine) announce(link, channel);
      if (!link.rawSent) { link.rawSent = true; for (const r of opt.sendRaw) send(link, r); }
      break;
    }
    case "subscribe": link.wants.add(f.channel_id); emit("subscribe", { link: link.name, channel_id: f.channel_id }); break;
    case "unsubscribe": link.wants.delete(f.channel_id); emit("unsubscribe", { link: link.name, channel_id: f.channel_id }); break;
    case "message": {
      if (!wellFormed(f)) { emit("bad_frame", { link: link.name, raw: raw.slice(0, 200) }); return send(link, { type: "error", code: "invalid_message", message: "Missing fields" }); }
      take(strip(f), "live", link);
      break;
    }
    case "sync_request": {
      emit("sync_request", { link: link.name, channel_id: f.channel_id, after_message_id: f.after_message_id ?? null, limit: f.limit ?? null });
      if (!opt.store || !text(f.channel_id)) return;
      let list = [...store.values()].filter((m) => m.channel_id === f.channel_id).sort((a, b) => (a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : a.message_id < b.message_id ? -1 : 1));
      if (f.after_message_id) { const at = list.findIndex((m) => m.message_id === f.after_message_id); list = at < 0 ? [] : list.slice(at + 1); }
      const limit = Number.isInteger(f.limit) && f.limit > 0 ? Math.min(f.limit, 500) : 100;
      const messages = list.slice(0, limit).map(({ signature, ...m }) => ({ type: "message", ...m, ...(opt.syncSignatures && signature ? { signature } : {}) }));
      send(link, { type: "sync_response", channel_id: f.channel_id, messages });
      break;
    }
    case "sync_response": {
      const list = Array.isArray(f.messages) ? f.messages : [];
      emit("sync_response", { link: link.name, channel_id: f.channel_id, count: list.length, solicited: link.asked.has(f.channel_id), first: list[0]?.message_id ?? null, last: list.at(-1)?.message_id ?? null });
      let fresh = 0;
      for (const m of list) {
        if (m === null || typeof m !== "object" || !wellFormed({ ...m, channel_id: f.channel_id })) { emit("bad_frame", { link: link.name, raw: JSON.stringify(m).slice(0, 200) }); continue; }
        if (!store.has(m.message_id)) fresh++;
        take({ ...strip(m), channel_id: f.channel_id }, "sync", link);
      }
      // a full page: there may be more. A page with nothing new in it ends the paging.
      const last = list.at(-1)?.message_id;
      if (opt.sync && fresh > 0 && list.length >= opt.syncLimit && text(last)) ask(link, f.channel_id, last);
      break;
    }
    case "error": emit("error_frame", { link: link.name, code: f.code ?? null, message: f.message ?? null }); break;
    case "ping": emit("ping", { link: link.name }); send(link, { type: "pong" }); break;
    case "pong": emit("pong", { link: link.name }); break;
    default: emit("unknown_frame", { link: link.name, type: f.type ?? null });
  }
  step();
}

let linkNumber = 0;
function adopt(ws, direction, url) {
  const link = { ws, direction, name: `${direction}${++linkNumber}`, wants: new Set(), told: new Set(), asked: new Set(), remote: null, greeted: false };
  links.add(link);
  ws.on("message", (data, binary) => onFrame(link, data.toString("utf8"), binary));
  ws.on("error", (e) => emit("link_error", { link: link.name, message: e.message }));
  ws.on("close", (code) => {
    links.delete(link);
    emit("closed", { link: link.name, code });
    if (direction === "out" && opt.reconnect && !finished) setTimeout(() => dial(url), opt.reconnect * 1000);
  });
  if (direction === "out") ws.on("open", () => { emit("connected", { link: link.name, url }); greet(link); });
  else emit("accepted", { link: link.name });
}
function dial(url) {
  let ws;
  try { ws = new WebSocket(url, { maxPayload: 64 * 1024 * 1024 }); } catch (e) { return emit("link_error", { url, message: e.message }); }
  adopt(ws, "out", url);
}
async function bootstrap(url) {
  let doc;
  try { const r = await fetch(url, { signal: AbortSignal.timeout(opt.timeout * 1000) }); if (!r.ok) throw new Error(`HTTP ${r.status}`); doc = await r.json(); } catch (e) { return emit("bootstrap_failed", { message: e.message }); }
  if (doc?.version !== 1 || !Array.isArray(doc.peers)) return emit("bootstrap_failed", { message: "not a version 1 peer list" });
  emit("bootstrap", { peers: doc.peers.length });
  for (const p of doc.peers) if (text(p?.ws_url) && p.peer_id !== me.id && p.ws_url !== `ws://${opt.host}:${opt.listen}`) dial(p.ws_url);
}

// ---- publishing
function publish(channel, body, payload) {
  const m = { message_id: randomUUID(), channel_id: channel, sender_id: me.id, body };
  if (payload !== undefined && payload !== null) m.payload = payload;
  m.timestamp = new Date().toISOString();
  if (me.secret) m.signature = sign(null, Buffer.from(canonical(m), "utf8"), me.secret).toString("base64");
  store.set(m.message_id, m);
  const to = [...links].filter((l) => l.remote && l.wants.has(channel)).length;
  pass(m, null);
  published++;
  emit("published", { message_id: m.message_id, channel_id: channel, body, links: to, signed: Boolean(me.secret) });
}
const queue = [];
for (const [channel, body] of opt.publish) for (let i = 1; i <= opt.count; i++) queue.push([channel, opt.count > 1 ? `${body} ${i}` : body]);
const wanted = queue.length;

function end(code, more = {}) {
  if (finished) return;
  finished = true;
  emit("done", { ok: code === 0, received: counted.size, published, invalid: invalidSeen, ...more });
  for (const l of links) l.ws.close();
  setTimeout(() => { for (const l of links) l.ws.terminate(); process.exit(code); }, 300);
}
let lingering = false;
/** Publishes what can go out now, and ends once all that was asked for has happened. */
function step() {
  if (finished) return;
  while (queue.length && (opt.publishNow || [...links].some((l) => l.remote && l.wants.has(queue[0][0])))) publish(...queue.shift(), opt.payload);
  const bounded = opt.expect !== undefined || wanted > 0 || opt.sendRaw.length > 0;
  if (!bounded || opt.stdin || queue.length || counted.size < (opt.expect ?? 0) || (opt.sendRaw.length && ![...links].some((l) => l.rawSent))) return;
  if (lingering) return;
  lingering = true;
  setTimeout(() => {
    if (opt.expect !== undefined && counted.size !== opt.expect) return end(1, { why: `${counted.size} messages, ${opt.expect} expected` });
    if (opt.requireValid && invalidSeen) return end(1, { why: `${invalidSeen} messages without a valid signature` });
    end(0);
  }, opt.linger * 1000);
}

// ---- start
process.on("SIGTERM", () => end(opt.expect === undefined || counted.size === opt.expect ? 0 : 1, { why: "SIGTERM" }));
process.on("SIGINT", () => end(1, { why: "SIGINT" }));
emit("identity", { peer_id: me.id, public_key: me.pem ?? null });
if (opt.listen !== undefined) {
  const server = new WebSocketServer({ host: opt.host, port: opt.listen, maxPayload: 64 * 1024 * 1024 });
  await new Promise((resolve) => {
    server.on("error", (e) => { emit("listen_failed", { message: e.message }); process.exit(1); });
    server.on("listening", resolve);
  });
  opt.listen = server.address().port;
  server.on("connection", (ws) => adopt(ws, "in"));
  emit("listening", { url: `ws://${opt.host}:${opt.listen}`, port: opt.listen });
}
if (opt.bootstrap) await bootstrap(opt.bootstrap);
for (const url of opt.connect) dial(url);
if (opt.expect !== undefined || wanted || opt.sendRaw.length) setTimeout(() => { if (!lingering) end(1, { why: "timeout" }); }, opt.timeout * 1000);
if (opt.stdin) {
  createInterface({ input: process.stdin }).on("line", (line) => {
    let c;
    try { c = JSON.parse(line); } catch { return emit("bad_command", { line }); }
    if (c.op === "publish") { for (let i = 1; i <= (c.count ?? 1); i++) publish(c.channel, c.count > 1 ? `${c.text} ${i}` : c.text, c.payload); }
    else if (c.op === "subscribe") { mine.add(c.channel); for (const l of links) if (l.remote) announce(l, c.channel); }
    else if (c.op === "unsubscribe") { mine.delete(c.channel); for (const l of links) send(l, { type: "unsubscribe", channel_id: c.channel }); }
    else if (c.op === "sync") { for (const l of links) if (l.remote) ask(l, c.channel, c.after); }
    else if (c.op === "raw") { for (const l of links) send(l, c.text); }
    else if (c.op === "connect") dial(c.url);
    else if (c.op === "quit") end(opt.expect === undefined || counted.size === opt.expect ? 0 : 1);
    else emit("bad_command", { line });
  }).on("close", () => end(opt.expect === undefined || counted.size === opt.expect ? 0 : 1, { why: "end of input" }));
}
step();
