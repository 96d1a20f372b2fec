-- The same table as in migrations/sqlite.

-- Freezes: no start and no step. The empty policy is all of them. Lifted ones stay as the record.
CREATE TABLE freezes (
    policy       TEXT COLLATE "C" NOT NULL,
    reason       TEXT NOT NULL,
    by_name      TEXT NOT NULL,
    by_via       TEXT NOT NULL,
    at_ms        BIGINT NOT NULL,
    lifted_at_ms BIGINT,
    lifted_by    TEXT
);

-- One in force for each.
CREATE UNIQUE INDEX freezes_in_force ON freezes (policy) WHERE lifted_at_ms IS NULL;
