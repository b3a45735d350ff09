-- Whether it was told that the conversation begins: once, also when nothing came of its first turn.
ALTER TABLE sessions ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
UPDATE sessions SET announced = 1 WHERE length > 0;

-- The conversation that a letter belongs to, if it belongs to one: its id.
ALTER TABLE outbox ADD COLUMN session TEXT;

CREATE INDEX outbox_dead ON outbox (created) WHERE state = 'dead';
