-- What plugins were used for, a day at a time.
CREATE TABLE plugin_usage (
    plugin TEXT NOT NULL,
    day INTEGER NOT NULL,                       -- of UTC, since 1970
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    times BLOB NOT NULL,                        -- how long calls took: pairs of a bucket and a count
    firsts BLOB NOT NULL,                       -- how long answers took to begin, in the same form
    longest INTEGER NOT NULL,                   -- nanoseconds
    cpu INTEGER,                                -- microseconds; NULL where nobody knows
    memory_mb REAL,                             -- the most that was seen
    last INTEGER,                               -- microseconds since 1970
    PRIMARY KEY (plugin, day)
) STRICT, WITHOUT ROWID;

-- Tokens of each day, while a budget counts them.
CREATE TABLE tokens_of_day (
    day INTEGER PRIMARY KEY,
    tokens INTEGER NOT NULL
) STRICT;
