//! Words that every other module speaks: identifiers, time, weights, counts, faults, secrets, tokens.
//!
//! Imports nothing from the crate, does no I/O and reads no clock.

pub mod access_key;
pub mod certificate;
pub mod fault;
pub mod fuse;
pub mod histogram;
pub mod ids;
pub mod loopback;
pub mod mac;
pub mod pause;
pub mod people;
pub mod secret;
pub mod tally;
pub mod time;
pub mod token;
pub mod weight;
