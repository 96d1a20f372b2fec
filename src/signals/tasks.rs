//! The health of a version's tasks, as ECS says it: what the health checks of its containers come to.
//!
//! A task whose containers have no health check, or none that was made yet, says nothing and is not counted.

use crate::aws::{self, Failed, Made};
use crate::base::fault::Fault;
use crate::ports::Checked;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::ProvideErrorMetadata;
use aws_sdk_ecs::types::{DesiredStatus, HealthStatus, Task};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_types::SdkConfig;

/// Name under which faults are reported.
const SOURCE: &str = "ecs";
/// Tasks of a service that are asked about, which is what ECS describes in one call. An ill version shows in them.
const MOST_TASKS: i32 = 100;
const LIST_TASKS: &str = "ListTasks";
const DESCRIBE_TASKS: &str = "DescribeTasks";

/// Amazon ECS.
#[derive(Debug, Clone)]
pub struct TaskHealth {
    client: Client,
    made: Made<2>,
}

impl TaskHealth {
    /// Over a client that is already bounded as its owner wants it.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, made: Made::new([LIST_TASKS, DESCRIBE_TASKS]) }
    }

    /// With the region, credentials and endpoint of a shared set.
    #[must_use]
    pub fn from_config(config: &SdkConfig) -> Self {
        Self::new(Client::from_conf(aws::builder!(aws_sdk_ecs, config).build()))
    }

    /// How often each operation was called since this was made, for those that were; repeats by the SDK count once.
    #[must_use]
    pub fn calls(&self) -> Vec<(&'static str, u64)> {
        self.made.all()
    }

    /// Asks about the tasks of a service that are to run.
    ///
    /// # Errors
    /// A fault when ECS does not say.
    pub async fn check(&self, cluster: &str, service: &str) -> Result<Checked, Fault> {
        let place = format!("{service} in cluster {cluster}");
        self.note(LIST_TASKS, &place);
        let call =
            self.client.list_tasks().cluster(cluster).service_name(service).desired_status(DesiredStatus::Running);
        let listed = call.max_results(MOST_TASKS).send().await.map_err(|error| fault(LIST_TASKS, &place, &error))?;
        let arns = listed.task_arns.unwrap_or_default();
        if arns.is_empty() {
            return Ok(Checked::default());
        }
        self.note(DESCRIBE_TASKS, &place);
        let call = self.client.describe_tasks().cluster(cluster).set_tasks(Some(arns));
        let tasks = call.send().await.map_err(|error| fault(DESCRIBE_TASKS, &place, &error))?;
        Ok(checked(tasks.tasks()))
    }

    fn note(&self, operation: &str, place: &str) {
        self.made.note(operation);
        tracing::debug!(target: "tidegate::aws", service = SOURCE, operation, place, "call");
    }
}

fn fault<E>(operation: &str, place: &str, error: &SdkError<E, HttpResponse>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    Failed { service: SOURCE, operation, writes: false, place, remedy: |_, _| "" }.fault(error)
}

fn checked(tasks: &[Task]) -> Checked {
    let mut checked = Checked::default();
    for task in tasks {
        let failed = match task.health_status() {
            Some(HealthStatus::Healthy) => false,
            Some(HealthStatus::Unhealthy) => true,
            // UNKNOWN, or a word of tomorrow.
            Some(_) | None => continue,
        };
        checked.asked += 1;
        if failed {
            checked.failed += 1;
            let name = task.task_arn().and_then(|arn| arn.rsplit('/').next()).unwrap_or("without a name");
            checked.first.get_or_insert_with(|| format!("task {name} is UNHEALTHY"));
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tasks_whose_health_is_known_count() {
        let task = |name: &str, health: Option<HealthStatus>| {
            Task::builder().task_arn(format!("arn:aws:ecs:r:1:task/prod/{name}")).set_health_status(health).build()
        };
        let well =
            [task("a", Some(HealthStatus::Healthy)), task("b", Some(HealthStatus::from("UNKNOWN"))), task("c", None)];
        assert_eq!(checked(&well), Checked { asked: 1, failed: 0, first: None });
        let ill = [
            task("a", Some(HealthStatus::Healthy)),
            task("b", Some(HealthStatus::Unhealthy)),
            task("c", Some(HealthStatus::Unhealthy)),
        ];
        assert_eq!(checked(&ill), Checked { asked: 3, failed: 2, first: Some("task b is UNHEALTHY".to_owned()) });
        assert_eq!(checked(&well[1..]), Checked::default(), "nobody who knows is no answer");
    }
}
