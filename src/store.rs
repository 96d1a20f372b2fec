//! What is kept on disk: rollouts with their journal and intents, deliveries of webhooks, the mesh's resources, tokens, and
//! policies that were pushed or lie in a directory.
//!
//! Two databases, one store: `sqlite` and `postgres` are what differs (how to open, when an error may pass, who may
//! drive), and `database` with all below it is written once over `dialect`.

mod cursors;
pub mod database;
pub mod dialect;
pub mod directory;
mod freezes;
mod mesh;
mod notes;
pub mod policies;
pub mod postgres;
mod read;
pub mod record;
mod rows;
pub mod sqlite;
mod tokens;
mod triggers;
mod writer;
