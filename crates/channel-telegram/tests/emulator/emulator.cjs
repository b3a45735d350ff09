// The Bot API as bots and people see it, on loopback: the emulator of the npm package telegram-test-api, and in front of it what it does
// not have (files, voice notes, chat actions) or has otherwise than Telegram (offsets and long polls). It prints its address and ends
// with its standard input.
//
// A person uses the emulator's own way in, POST /sendMessage with {botToken, from, chat, text}, and these:
//   POST /person/voice    {botToken, from, chat, data}   a voice note, its bytes in base64
//   GET  /person/sees?chat=ID                            what the bot sent there: [{id, text, entities, edits, file, bytes, reply_to}]
//   GET  /person/actions?chat=ID                         how often it was shown to be writing
//   GET  /person/file?id=ID                              the bytes of a file
'use strict';

const http = require('node:http');
const TelegramServer = require('telegram-test-api');

const emulator = new TelegramServer({ host: '127.0.0.1', port: 1 });
const files = new Map();
const edits = new Map();
const actions = new Map();
let numbered = 0;

function keep(bytes) {
  const id = `file${++numbered}`;
  files.set(id, bytes);
  return id;
}

function answer(res, result) {
  res.setHeader('content-type', 'application/json');
  res.end(JSON.stringify(result));
}

function refuse(res, code, description, parameters) {
  res.statusCode = code;
  answer(res, { ok: false, error_code: code, description, parameters });
}

async function body(req) {
  const pieces = [];
  for await (const piece of req) pieces.push(piece);
  return Buffer.concat(pieces);
}

// The fields and the file of a form.
function form(type, bytes) {
  const boundary = `--${/boundary=(.+)$/.exec(type)[1]}`;
  const parts = bytes.toString('latin1').split(boundary).slice(1, -1);
  const all = {};
  for (const part of parts) {
    const [head, ...rest] = part.slice(2, -2).split('\r\n\r\n');
    const name = /name="([^"]+)"/.exec(head)[1];
    const content = Buffer.from(rest.join('\r\n\r\n'), 'latin1');
    const file = /filename="([^"]*)"/.exec(head);
    all[name] = file ? { name: file[1], content } : content.toString('utf8');
  }
  return all;
}

// As Telegram does it: what is below the offset is forgotten, and what is not is given again and again.
async function getUpdates(token, ask, req) {
  const offset = Number(ask.offset || 0);
  emulator.storage.userMessages = emulator.storage.userMessages.filter((u) => u.botToken !== token || u.updateId >= offset);
  const end = Date.now() + 1000 * Number(ask.timeout || 0);
  for (;;) {
    const found = emulator.storage.userMessages.filter((u) => u.botToken === token && u.updateId >= offset);
    if (found.length > 0 || Date.now() >= end || req.destroyed) {
      return found.slice(0, Number(ask.limit || 100)).map((u) => TelegramServer.formatUpdate(u));
    }
    await new Promise((done) => {
      const timer = setTimeout(finish, Math.max(1, end - Date.now()));
      function finish() {
        clearTimeout(timer);
        emulator.off('AddedUserMessage', finish);
        emulator.off('AddedUserCommand', finish);
        req.off('close', finish);
        done();
      }
      emulator.on('AddedUserMessage', finish);
      emulator.on('AddedUserCommand', finish);
      req.on('close', finish);
    });
  }
}

async function bot(req, res, token, method) {
  const type = req.headers['content-type'] || '';
  switch (method) {
    case 'getUpdates': {
      const ask = JSON.parse((await body(req)).toString() || '{}');
      return answer(res, { ok: true, result: await getUpdates(token, ask, res) });
    }
    case 'sendChatAction': {
      const ask = JSON.parse((await body(req)).toString());
      actions.set(String(ask.chat_id), (actions.get(String(ask.chat_id)) || 0) + 1);
      return answer(res, { ok: true, result: true });
    }
    case 'sendVoice':
    case 'sendAudio':
    case 'sendPhoto':
    case 'sendDocument': {
      const fields = form(type, await body(req));
      const kind = method.slice(4).toLowerCase();
      const file = keep(fields[kind].content);
      const message = { chat_id: fields.chat_id, kind, file, name: fields[kind].name, bytes: fields[kind].content.length };
      message.reply_parameters = fields.reply_parameters && JSON.parse(fields.reply_parameters);
      return answer(res, { ok: true, result: emulator.addBotMessage(message, token) });
    }
    case 'getFile': {
      const ask = JSON.parse((await body(req)).toString());
      if (!files.has(ask.file_id)) return refuse(res, 400, 'Bad Request: invalid file_id');
      const size = files.get(ask.file_id).length;
      return answer(res, { ok: true, result: { file_id: ask.file_id, file_size: size, file_path: `voice/${ask.file_id}.oga` } });
    }
    case 'editMessageText': {
      const ask = JSON.parse((await body(req)).toString());
      const found = emulator.storage.botMessages.find((m) => m.messageId === ask.message_id && String(m.message.chat_id) === String(ask.chat_id));
      if (!found) return refuse(res, 400, 'Bad Request: message to edit not found');
      const same = found.message.text === ask.text && JSON.stringify(found.message.entities) === JSON.stringify(ask.entities);
      if (same) return refuse(res, 400, 'Bad Request: message is not modified');
      edits.set(ask.message_id, (edits.get(ask.message_id) || 0) + 1);
      emulator.editMessageText({ ...ask, entities: ask.entities || [] });
      return answer(res, { ok: true, result: true });
    }
    default:
      return emulator.webServer(req, res);
  }
}

async function person(req, res, url) {
  switch (url.pathname) {
    case '/person/voice': {
      const { data, ...message } = JSON.parse((await body(req)).toString());
      const bytes = Buffer.from(data, 'base64');
      message.voice = { file_id: keep(bytes), duration: 1, mime_type: 'audio/ogg', file_size: bytes.length };
      await emulator.addUserMessage(message);
      return answer(res, { ok: true });
    }
    case '/person/sees': {
      const chat = url.searchParams.get('chat');
      const seen = emulator.storage.botMessages.filter((m) => String(m.message.chat_id) === chat);
      return answer(res, seen.map((m) => ({
        id: m.messageId,
        text: m.message.text,
        entities: m.message.entities || [],
        edits: edits.get(m.messageId) || 0,
        kind: m.message.kind,
        file: m.message.file,
        bytes: m.message.bytes,
        reply_to: m.message.reply_parameters && m.message.reply_parameters.message_id,
      })));
    }
    case '/person/actions':
      return answer(res, actions.get(url.searchParams.get('chat')) || 0);
    case '/person/file':
      return res.end(files.get(url.searchParams.get('id')));
    default:
      return emulator.webServer(req, res);
  }
}

const server = http.createServer((req, res) => {
  const url = new URL(req.url, 'http://x');
  const called = /^\/bot([^/]+)\/([^/]+)$/.exec(url.pathname);
  const fetched = /^\/file\/bot[^/]+\/voice\/([^/]+)\.oga$/.exec(url.pathname);
  const done = called ? bot(req, res, called[1], called[2])
    : fetched ? Promise.resolve(res.end(files.get(fetched[1])))
    : person(req, res, url);
  Promise.resolve(done).catch((e) => refuse(res, 500, String(e)));
});

server.listen(0, '127.0.0.1', () => process.stdout.write(`listening http://127.0.0.1:${server.address().port}\n`));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
