-- The same tables as in migrations/sqlite. Text that is compared or ordered is so byte by byte, as SQLite does it,
-- whatever the language of the database.

-- Rollouts: the state is the truth to resume from; the other columns are copies of what queries need.
CREATE TABLE rollouts (
    id               TEXT COLLATE "C" PRIMARY KEY,
    policy           TEXT NOT NULL,
    route            TEXT COLLATE "C" NOT NULL,
    seq              BIGINT NOT NULL,
    finished         BIGINT NOT NULL,
    generation       BIGINT NOT NULL,
    lease_epoch      BIGINT NOT NULL,
    next_deadline_ms BIGINT,
    started_at_ms    BIGINT NOT NULL,
    updated_at_ms    BIGINT NOT NULL,
    format           BIGINT NOT NULL,
    plan             TEXT NOT NULL,
    state            TEXT NOT NULL
);
-- One live rollout for each route, whoever starts it.
CREATE UNIQUE INDEX rollouts_live_route ON rollouts (route) WHERE finished = 0;
CREATE INDEX rollouts_started ON rollouts (started_at_ms);

-- Every input that changed a rollout: audit, and proof that the state follows from it. The position is the order of the
-- commits, without a gap: whoever writes has the lease's row locked, and takes the next one. A sequence would leave a gap
-- at each transaction that is undone, and listeners of events wait for what is missing.
CREATE TABLE journal (
    position       BIGINT PRIMARY KEY,
    rollout_id     TEXT COLLATE "C" NOT NULL REFERENCES rollouts (id),
    seq            BIGINT NOT NULL,
    at_ms          BIGINT NOT NULL,
    engine_version BIGINT NOT NULL,
    input          TEXT NOT NULL,
    UNIQUE (rollout_id, seq)
);

-- Intents: written before the call, settled by the input that reports it.
CREATE TABLE effects (
    rollout_id TEXT COLLATE "C" NOT NULL REFERENCES rollouts (id),
    seq        BIGINT NOT NULL,
    n          BIGINT NOT NULL,
    body       TEXT NOT NULL,
    status     TEXT NOT NULL,
    attempts   BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, seq, n)
);
CREATE INDEX effects_intended ON effects (rollout_id) WHERE status = 'intended';

-- Which daemon drives. Taking the lease raises the epoch, and every transaction that writes compares it first. Until
-- when it lasts is told by the database's clock alone. An empty holder is nobody.
CREATE TABLE driver_lease (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    epoch      BIGINT NOT NULL,
    holder     TEXT NOT NULL,
    address    TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
INSERT INTO driver_lease (id, epoch, holder, address, expires_at) VALUES (1, 0, '', '', to_timestamp(0));

-- Resources of the App-Mesh-compatible control plane.
CREATE TABLE mesh_resources (
    key  TEXT COLLATE "C" PRIMARY KEY,
    body TEXT NOT NULL
);
