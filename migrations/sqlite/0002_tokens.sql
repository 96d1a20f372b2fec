-- Tokens of the API by the SHA-256 of each: what stands here lets nobody in. Revoked ones stay, for the audit trail.
CREATE TABLE tokens (
    id            TEXT PRIMARY KEY,
    hash          TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    role          TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    created_by    TEXT NOT NULL,
    revoked_at_ms INTEGER,
    revoked_by    TEXT NOT NULL DEFAULT ''
);
