//! Readings for the judge, one source to a file.

pub mod comparison;
pub mod live;
mod recent;
