//! Measurements that gates judge: adapters of the measuring ports.

pub mod live;
