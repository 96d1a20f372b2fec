//! History of CloudWatch for a command that replays it: the adapter with the credentials and the region of the environment.

use super::serve::aws_of;
use crate::base::fault::Fault;
use crate::base::time::Timestamp;
use crate::policy::plan::CloudwatchQuery;
use crate::ports::SignalPoint;
use crate::signals::cloudwatch::CloudWatch;

/// Points of each query from one instant to another, in its order.
///
/// # Errors
/// Of each query by itself: why there are no points of it.
pub async fn cloudwatch_history(
    queries: &[CloudwatchQuery],
    from: Timestamp,
    until: Timestamp,
) -> Vec<Result<Vec<SignalPoint>, Fault>> {
    CloudWatch::from_config(&aws_of(None).await).history(queries, from, until).await
}
