-- Rollouts: the state is the truth to resume from; the other columns are copies of what queries need.
CREATE TABLE rollouts (
    id               TEXT PRIMARY KEY,
    policy           TEXT NOT NULL,
    route            TEXT NOT NULL,
    seq              INTEGER NOT NULL,
    finished         INTEGER NOT NULL,
    generation       INTEGER NOT NULL,
    lease_epoch      INTEGER NOT NULL,
    next_deadline_ms INTEGER,
    started_at_ms    INTEGER NOT NULL,
    updated_at_ms    INTEGER NOT NULL,
    format           INTEGER NOT NULL,
    plan             TEXT NOT NULL,
    state            TEXT NOT NULL
);
-- One live rollout for each route, whoever starts it.
CREATE UNIQUE INDEX rollouts_live_route ON rollouts (route) WHERE finished = 0;
CREATE INDEX rollouts_started ON rollouts (started_at_ms);

-- Every input that changed a rollout: audit, and proof that the state follows from it.
CREATE TABLE journal (
    rollout_id     TEXT NOT NULL REFERENCES rollouts (id),
    seq            INTEGER NOT NULL,
    at_ms          INTEGER NOT NULL,
    engine_version INTEGER NOT NULL,
    input          TEXT NOT NULL,
    PRIMARY KEY (rollout_id, seq)
);

-- Intents: written before the call, settled by the input that reports it.
CREATE TABLE effects (
    rollout_id TEXT NOT NULL REFERENCES rollouts (id),
    seq        INTEGER NOT NULL,
    n          INTEGER NOT NULL,
    body       TEXT NOT NULL,
    status     TEXT NOT NULL,
    attempts   INTEGER NOT NULL,
    PRIMARY KEY (rollout_id, seq, n)
);
CREATE INDEX effects_intended ON effects (rollout_id) WHERE status = 'intended';

-- Raised by every daemon that opens the database: a write under an older epoch is refused.
CREATE TABLE driver_lease (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL
);
INSERT INTO driver_lease (id, epoch) VALUES (1, 0);

-- Resources of the App-Mesh-compatible control plane.
CREATE TABLE mesh_resources (
    key  TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
