//! Readings for the judge, one source to a file.

pub mod comparison;
pub mod health;
pub mod live;
pub mod proxies;
mod recent;
