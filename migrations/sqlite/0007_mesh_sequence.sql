-- Changes of the mesh are numbered, so that several control planes on one database follow each other: a change is written
-- only by whoever knows the last one. Rows have the number of the change that they were written by.
CREATE TABLE mesh_sequence (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
);
INSERT INTO mesh_sequence (id, last) VALUES (1, 0);

ALTER TABLE mesh_resources ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX mesh_resources_changed ON mesh_resources (changed);

-- Resources that were deleted lately, for whoever had them in hand.
CREATE TABLE mesh_deleted (
    key     TEXT PRIMARY KEY,
    changed INTEGER NOT NULL
);
CREATE INDEX mesh_deleted_changed ON mesh_deleted (changed);
