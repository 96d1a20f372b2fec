-- Policies that were pushed, each with its last versions; the highest is in force.
CREATE TABLE pushed_policies (
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    text    TEXT NOT NULL,
    actor   TEXT NOT NULL,
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (name, version)
);

-- Events from outside, the newest of them: what they said of themselves when they came.
CREATE TABLE deliveries (
    position INTEGER PRIMARY KEY,
    source   TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    reasons  TEXT NOT NULL
);

-- The ids by which a delivery is known again, whichever of them comes.
CREATE TABLE delivery_ids (
    id       TEXT PRIMARY KEY,
    delivery INTEGER NOT NULL REFERENCES deliveries (position)
);
CREATE INDEX delivery_ids_delivery ON delivery_ids (delivery);

-- Rollouts that deliveries ask for, under the identifiers that these will have; without an outcome until one is known.
CREATE TABLE delivery_starts (
    delivery   INTEGER NOT NULL REFERENCES deliveries (position),
    n          INTEGER NOT NULL,
    rollout_id TEXT NOT NULL UNIQUE,
    body       TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    PRIMARY KEY (delivery, n)
);
CREATE INDEX delivery_starts_open ON delivery_starts (delivery) WHERE outcome = '';
