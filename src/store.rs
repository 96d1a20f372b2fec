//! What is kept on disk: rollouts with their journal and intents, the mesh's resources, and policies in a directory.

pub mod directory;
pub mod record;
pub mod sqlite;
