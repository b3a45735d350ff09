-- What happened, as it was told on the bus. The number goes on rising when rows go.
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL, -- microseconds since 1970
    topic TEXT NOT NULL,
    source TEXT, -- the plugin; NULL for the host
    payload TEXT NOT NULL -- JSON
) STRICT;

CREATE INDEX events_by_topic ON events (topic, at);
-- What is too old is looked for after every thousand events: in a million, 130 ms without this, and 10 µs with it.
CREATE INDEX events_by_time ON events (at);
