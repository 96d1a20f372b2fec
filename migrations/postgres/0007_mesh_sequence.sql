-- The same tables as in migrations/sqlite.

-- Changes of the mesh are numbered, so that several control planes on one database follow each other: a change is written
-- only by whoever knows the last one. Rows have the number of the change that they were written by.
CREATE TABLE mesh_sequence (
    id   BIGINT PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL
);
INSERT INTO mesh_sequence (id, last) VALUES (1, 0);

ALTER TABLE mesh_resources ADD COLUMN changed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX mesh_resources_changed ON mesh_resources (changed);

-- Resources that were deleted lately, for whoever had them in hand.
CREATE TABLE mesh_deleted (
    key     TEXT COLLATE "C" PRIMARY KEY,
    changed BIGINT NOT NULL
);
CREATE INDEX mesh_deleted_changed ON mesh_deleted (changed);
