-- "bspk" in ASCII: tells this file from the databases of other programs.
PRAGMA application_id = 1651732587;

CREATE TABLE sessions (
    key INTEGER PRIMARY KEY AUTOINCREMENT,      -- never used again: whoever holds a deleted session must not meet another
    id TEXT NOT NULL UNIQUE,
    name TEXT,                                  -- given by the user
    title TEXT,                                 -- the first words, until there is a name
    channel TEXT,
    chat TEXT,
    agent TEXT,
    provider TEXT,
    model TEXT,
    created INTEGER NOT NULL,                   -- microseconds since 1970, here and below
    updated INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    length INTEGER NOT NULL DEFAULT 0,          -- messages
    revision INTEGER NOT NULL DEFAULT 0,        -- rises with every change of the messages
    writer TEXT NOT NULL                        -- who made the last one
) STRICT;

CREATE INDEX sessions_of_chat ON sessions (channel, chat, updated) WHERE channel IS NOT NULL;
CREATE INDEX sessions_unused ON sessions (updated) WHERE length = 0;

CREATE TABLE messages (
    session INTEGER NOT NULL REFERENCES sessions (key) ON DELETE CASCADE,
    seq INTEGER NOT NULL,                       -- from 0, without gaps
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    tool_calls TEXT,                            -- a JSON list
    tool_call_id TEXT,
    created INTEGER NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT;
