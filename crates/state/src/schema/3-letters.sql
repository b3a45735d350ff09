-- Which conversation goes on in a chat. None: the next message begins one.
CREATE TABLE chats (
    channel TEXT NOT NULL,
    chat TEXT NOT NULL,
    session INTEGER REFERENCES sessions (key) ON DELETE SET NULL,
    PRIMARY KEY (channel, chat)
) STRICT, WITHOUT ROWID;

CREATE INDEX chats_of_session ON chats (session) WHERE session IS NOT NULL;

-- Messages that came in, until they are answered.
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,       -- never used again: letters name it
    channel TEXT NOT NULL,
    chat TEXT NOT NULL,
    body TEXT NOT NULL,                         -- JSON, without the bytes of files
    files BLOB,                                 -- those, each behind its length in eight bytes
    attempts INTEGER NOT NULL DEFAULT 0,        -- how often its answer was begun
    created INTEGER NOT NULL                    -- microseconds since 1970, here and below
) STRICT;

CREATE INDEX inbox_of_chat ON inbox (channel, chat, id);

-- Which messages came in already: each is taken once, also when it was answered long ago.
CREATE TABLE taken (
    channel TEXT NOT NULL,
    chat TEXT NOT NULL,
    message TEXT NOT NULL,
    created INTEGER NOT NULL,
    PRIMARY KEY (channel, chat, message)
) STRICT, WITHOUT ROWID;

CREATE INDEX taken_by_age ON taken (created);

-- Messages that are to leave. One that has left is deleted.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    chat TEXT NOT NULL,
    key TEXT NOT NULL,                          -- of the message, whoever sends it and how often
    body TEXT NOT NULL,
    files BLOB,
    state TEXT NOT NULL,                        -- draft: its answer is still written; waiting; sending; dead
    answers INTEGER,                            -- the message of the inbox, while it is a draft
    shown TEXT,                                 -- the message that shows it, as the channel names it: it is edited
    unsure INTEGER NOT NULL DEFAULT 0,          -- whether it may have been sent without our knowing
    attempts INTEGER NOT NULL DEFAULT 0,
    next INTEGER NOT NULL DEFAULT 0,            -- not sent before
    error TEXT,                                 -- why it was not sent last
    created INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_of_chat ON outbox (channel, chat, id) WHERE state <> 'dead';
CREATE INDEX outbox_waiting ON outbox (channel, next) WHERE state = 'waiting';
CREATE INDEX outbox_drafts ON outbox (answers) WHERE answers IS NOT NULL;
