//! Routes of previews through the App Mesh API: made beside the route of weights, and removed again.
//!
//! One is known as ours by a tag, which is written with it: what has the name and not the tag is somebody else's and never
//! touched. Each call looks before it writes, so that it may be made twice, and so that what is not there needs no right to
//! delete.

mod spec;

use super::appmesh::{AppMesh, SOURCE, version_of};
use crate::aws;
use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::mesh::snapshot::extension::PREVIEW_TAG as TAG;
use crate::ports::{Obstacle, Previews};
use crate::rollout::effect::PreviewRoute;
use crate::rollout::event::PreviewReading;
use async_trait::async_trait;
use aws_sdk_appmesh::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_appmesh::types::{RouteData, RouteSpec, TagRef};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// What the API says of a route that is not there.
const NOT_FOUND: &str = "NotFoundException";
/// What the API says of a name that is taken.
const CONFLICT: &str = "ConflictException";

/// What an error of the SDK comes to.
fn fault<E>(error: &SdkError<E, HttpResponse>, operation: &'static str, route: &RouteRef) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let writes = !operation.starts_with("Describe") && !operation.starts_with("List");
    aws::Failed { service: SOURCE, operation, writes, place: &route.to_string(), remedy: |_, _| "" }.fault(error)
}

/// A route under the name of a preview's.
struct Found {
    data: RouteData,
    /// The rollout that it was made for; `None` where it is no preview's.
    owner: Option<String>,
}

impl AppMesh {
    async fn found(&self, preview: &PreviewRoute) -> Result<Option<Found>, Fault> {
        let route = preview.route();
        let call = self.client().describe_route();
        let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route);
        let output = match call.send().await {
            Ok(output) => output,
            Err(error) if error.code() == Some(NOT_FOUND) => return Ok(None),
            Err(error) => return Err(fault(&error, "DescribeRoute", &route)),
        };
        let Some(data) = output.route else {
            return Err(Fault::unknown(SOURCE, format!("DescribeRoute of {route} answered no route")));
        };
        let Some(arn) = arn(&data) else {
            return Err(Fault::unknown(SOURCE, format!("DescribeRoute of {route} answered no ARN")));
        };
        let Some(tags) = self.tags(arn, &route).await? else { return Ok(None) };
        let owner = tags.into_iter().find(|tag| tag.key == TAG).map(|tag| tag.value);
        Ok(Some(Found { data, owner }))
    }

    /// Tags of a route; `None` when it was removed in between.
    async fn tags(&self, arn: &str, route: &RouteRef) -> Result<Option<Vec<TagRef>>, Fault> {
        // A resource has 50 tags at most, which is one page.
        match self.client().list_tags_for_resource().resource_arn(arn).send().await {
            Ok(tags) => Ok(Some(tags.tags)),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(fault(&error, "ListTagsForResource", route)),
        }
    }

    /// The route as it should be, by what the plan's route is now; an error says why there can be none.
    async fn wanted(&self, preview: &PreviewRoute) -> Result<Result<RouteSpec, spec::Unfit>, Fault> {
        let data = self.route(&preview.beside).await?;
        let spec = data.spec.ok_or_else(|| Fault::permanent(SOURCE, format!("{} has no spec", preview.beside)))?;
        Ok(spec::beside(&spec, &preview.canary, &preview.header))
    }

    async fn create(&self, preview: &PreviewRoute, spec: RouteSpec) -> Result<(), Fault> {
        let route = preview.route();
        let call = self.client().create_route();
        let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route);
        let tag = tag(preview)?;
        match call.spec(spec).tags(tag).send().await {
            Ok(_) => Ok(()),
            // A call of before was late, or somebody was quicker: whose it is shows when it is looked at again.
            Err(error) if error.code() == Some(CONFLICT) => {
                Err(Fault::transient(SOURCE, format!("{route} came to be while it was made")))
            }
            Err(error) => Err(fault(&error, "CreateRoute", &route)),
        }
    }

    /// Puts a route of ours right, and under this rollout's name.
    async fn take_over(&self, preview: &PreviewRoute, found: &Found, spec: RouteSpec) -> Result<(), Fault> {
        let route = preview.route();
        if found.data.spec.as_ref() != Some(&spec) {
            let call = self.client().update_route();
            let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route);
            call.spec(spec).send().await.map_err(|error| fault(&error, "UpdateRoute", &route))?;
        }
        if found.owner.as_ref() != Some(&preview.rollout.0)
            && let Some(arn) = arn(&found.data)
        {
            let call = self.client().tag_resource().resource_arn(arn).tags(tag(preview)?);
            call.send().await.map_err(|error| fault(&error, "TagResource", &route))?;
        }
        Ok(())
    }
}

fn arn(data: &RouteData) -> Option<&str> {
    data.metadata.as_ref().map(|metadata| metadata.arn.as_str())
}

fn tag(preview: &PreviewRoute) -> Result<TagRef, Fault> {
    let tag = TagRef::builder().key(TAG).value(&preview.rollout.0).build();
    tag.map_err(|error| Fault::permanent(SOURCE, error))
}

/// Why a route that is there is not touched.
fn foreign(preview: &PreviewRoute) -> Obstacle {
    let route = preview.route();
    Obstacle {
        message: format!("there is a route {route} that no preview made (it has no tag `{TAG}`)"),
        hint: format!(
            "a preview of {} needs that name: give the other route another one, or delete it with `aws appmesh delete-route \
             --mesh-name {} --virtual-router-name {} --route-name {}`",
            preview.beside, route.mesh, route.router, route.route
        ),
    }
}

#[async_trait]
impl Previews for AppMesh {
    async fn obstacle(&self, preview: &PreviewRoute) -> Result<Option<Obstacle>, Fault> {
        if let Err(unfit) = self.wanted(preview).await? {
            return Ok(Some(Obstacle {
                message: format!("{}: {unfit}", preview.beside),
                hint: unfit.hint().to_owned(),
            }));
        }
        // Asked of a route that is there: who may not ask would learn it only when the preview's is made, and could not remove it.
        if let Some(arn) = arn(&self.route(&preview.beside).await?) {
            self.tags(arn, &preview.beside).await?;
        }
        let found = self.found(preview).await?;
        Ok(found.filter(|found| found.owner.is_none()).map(|_| foreign(preview)))
    }

    async fn open(&self, preview: &PreviewRoute) -> Result<(), Fault> {
        let spec = self.wanted(preview).await?;
        let spec = spec.map_err(|unfit| Fault::permanent(SOURCE, format!("{}: {unfit}", preview.beside)))?;
        match self.found(preview).await? {
            None => self.create(preview, spec).await,
            Some(found) if found.owner.is_some() => self.take_over(preview, &found, spec).await,
            Some(_) => Err(Fault::permanent(SOURCE, foreign(preview).message)),
        }
    }

    async fn close(&self, preview: &PreviewRoute) -> Result<(), Fault> {
        if self.found(preview).await?.is_none_or(|found| found.owner.is_none()) {
            return Ok(());
        }
        let route = preview.route();
        let call = self.client().delete_route();
        let call = call.mesh_name(&route.mesh).virtual_router_name(&route.router).route_name(&route.route);
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(()),
            Err(error) => Err(fault(&error, "DeleteRoute", &route)),
        }
    }

    async fn read(&self, preview: &PreviewRoute) -> Result<Option<(PreviewReading, u64)>, Fault> {
        let Some(found) = self.found(preview).await? else { return Ok(None) };
        let fits = found.data.spec.as_ref().is_some_and(|spec| spec::fits(spec, &preview.canary, &preview.header));
        let reading = PreviewReading { ours: found.owner.is_some(), fits, behind: None };
        Ok(Some((reading, version_of(&found.data))))
    }
}
