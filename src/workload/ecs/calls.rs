//! The seven calls to ECS that Tidegate makes, each bounded and counted, with errors as faults.

use super::fault::{SOURCE, failed};
use crate::base::fault::Fault;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_ecs::config::retry::RetryConfig;
use aws_sdk_ecs::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ecs::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::describe_services::DescribeServicesOutput;
use aws_sdk_ecs::types::{DesiredStatus, Service, SortOrder, Task, TaskDefinitionField};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What Tidegate asks of ECS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    DescribeServices,
    DescribeTaskDefinition,
    ListTaskDefinitions,
    RegisterTaskDefinition,
    UpdateService,
    ListTasks,
    DescribeTasks,
}

impl Operation {
    const ALL: [Self; 7] = [
        Self::DescribeServices,
        Self::DescribeTaskDefinition,
        Self::ListTaskDefinitions,
        Self::RegisterTaskDefinition,
        Self::UpdateService,
        Self::ListTasks,
        Self::DescribeTasks,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::DescribeServices => "DescribeServices",
            Self::DescribeTaskDefinition => "DescribeTaskDefinition",
            Self::ListTaskDefinitions => "ListTaskDefinitions",
            Self::RegisterTaskDefinition => "RegisterTaskDefinition",
            Self::UpdateService => "UpdateService",
            Self::ListTasks => "ListTasks",
            Self::DescribeTasks => "DescribeTasks",
        }
    }

    const fn writes(self) -> bool {
        matches!(self, Self::RegisterTaskDefinition | Self::UpdateService)
    }
}

/// The client and what it was used for.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    client: Client,
    made: Arc<[AtomicU64; Operation::ALL.len()]>,
}

impl Calls {
    pub(super) fn new(client: Client) -> Self {
        Self { client, made: Arc::default() }
    }

    /// How often each operation was called, those that were; what the SDK repeated by itself counts once.
    pub(super) fn made(&self) -> Vec<(&'static str, u64)> {
        let counts = Operation::ALL.iter().zip(self.made.iter());
        let counts = counts.map(|(operation, count)| (operation.name(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Every call goes through here.
    async fn make<T, E>(
        &self,
        operation: Operation,
        place: &str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>> + Send,
    ) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.made[operation as usize].fetch_add(1, Ordering::Relaxed);
        tracing::debug!(target: "tidegate::aws", service = "ecs", operation = operation.name(), place, "call");
        let failed = failed(operation.name(), operation.writes(), place);
        call.await.map_err(|error| failed.fault(&error))
    }

    /// Services as they are now, and those that are missing.
    pub(super) async fn services(&self, cluster: &str, names: &[&str]) -> Result<DescribeServicesOutput, Fault> {
        let place = format!("{} in cluster {cluster}", names.join(" and "));
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let call = self.client.describe_services().cluster(cluster).set_services(Some(names));
        self.make(Operation::DescribeServices, &place, call.send()).await
    }

    /// A revision with its tags, as the JSON that ECS sent.
    pub(super) async fn definition(&self, name: &str) -> Result<Value, Fault> {
        let body = Arc::new(Mutex::new(Vec::new()));
        let reader = BodyReader { body: Arc::clone(&body) };
        let call = self.client.describe_task_definition().task_definition(name).include(TaskDefinitionField::Tags);
        let call = call.customize().interceptor(reader).send();
        self.make(Operation::DescribeTaskDefinition, name, call).await?;
        let body = body.lock().map(|mut body| std::mem::take(&mut *body)).unwrap_or_default();
        serde_json::from_slice(&body)
            .map_err(|error| Fault::transient(SOURCE, format!("DescribeTaskDefinition of {name}: no JSON: {error}")))
    }

    /// ARNs of the newest active revisions of a family, newest first, `most` at most.
    pub(super) async fn newest(&self, family: &str, most: i32) -> Result<Vec<String>, Fault> {
        let call = self.client.list_task_definitions().family_prefix(family).sort(SortOrder::Desc).max_results(most);
        let place = format!("family {family}");
        let output = self.make(Operation::ListTaskDefinitions, &place, call.send()).await?;
        Ok(output.task_definition_arns.unwrap_or_default())
    }

    /// Registers a revision and answers its ARN. The request is sent as it is given, see `revision`.
    ///
    /// Nothing repeats this call by itself, since each call that takes effect makes one more revision: whoever is not
    /// answered has to look for the revision first.
    pub(super) async fn register(&self, request: &Value, place: &str) -> Result<String, Fault> {
        let family = request["family"].as_str().unwrap_or_default();
        let body = request.to_string();
        let call = self.client.register_task_definition().family(family).customize();
        let call = call.config_override(Builder::new().retry_config(RetryConfig::disabled()));
        let call = call.mutate_request(move |http: &mut HttpRequest| {
            http.headers_mut().insert("content-length", body.len().to_string());
            *http.body_mut() = SdkBody::from(body.as_str());
        });
        let output = self.make(Operation::RegisterTaskDefinition, place, call.send()).await?;
        let arn = output.task_definition.and_then(|definition| definition.task_definition_arn);
        arn.ok_or_else(|| Fault::unknown(SOURCE, format!("RegisterTaskDefinition of {place} answered no revision")))
    }

    /// Changes what a service runs, how many tasks it is asked to have, or both.
    pub(super) async fn update(
        &self,
        cluster: &str,
        service: &str,
        definition: Option<&str>,
        count: Option<i32>,
    ) -> Result<Option<Service>, Fault> {
        let place = format!("service {service} in cluster {cluster}");
        let call = self.client.update_service().cluster(cluster).service(service);
        let call = call.set_task_definition(definition.map(str::to_owned)).set_desired_count(count);
        Ok(self.make(Operation::UpdateService, &place, call.send()).await?.service)
    }

    /// ARNs of tasks of a service, the first 100.
    pub(super) async fn tasks(
        &self,
        cluster: &str,
        service: &str,
        status: DesiredStatus,
    ) -> Result<Vec<String>, Fault> {
        let place = format!("service {service} in cluster {cluster}");
        let call = self.client.list_tasks().cluster(cluster).service_name(service).desired_status(status);
        Ok(self.make(Operation::ListTasks, &place, call.send()).await?.task_arns.unwrap_or_default())
    }

    /// Tasks by their ARNs, 100 at most. Those that ECS has forgotten since are left out.
    pub(super) async fn describe_tasks(&self, cluster: &str, arns: Vec<String>) -> Result<Vec<Task>, Fault> {
        let place = format!("{} tasks in cluster {cluster}", arns.len());
        let call = self.client.describe_tasks().cluster(cluster).set_tasks(Some(arns));
        Ok(self.make(Operation::DescribeTasks, &place, call.send()).await?.tasks.unwrap_or_default())
    }
}

/// Keeps an answer's body as it came.
#[derive(Debug)]
struct BodyReader {
    body: Arc<Mutex<Vec<u8>>>,
}

impl Intercept for BodyReader {
    fn name(&self) -> &'static str {
        "tidegate body"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(bytes), Ok(mut body)) = (context.response().body().bytes(), self.body.lock()) {
            *body = bytes.to_vec();
        }
        Ok(())
    }
}
