-- What was told whom, and what came of it, by a key of whoever told it.
CREATE TABLE notes (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    at_ms INTEGER NOT NULL
);

-- Old ones are forgotten.
CREATE INDEX notes_by_age ON notes (at_ms);
