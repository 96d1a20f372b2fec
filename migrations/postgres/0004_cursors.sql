-- The same table as in migrations/sqlite.

-- How far a follower of the journal has come, by its name.
CREATE TABLE cursors (
    name     TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT NOT NULL
);
