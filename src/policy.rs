//! Policies: the file that people write, and the plan that a rollout runs by. Pure: text in, plan or errors out.

pub mod plan;
pub mod units;
