//! As much of Azure's Resource Manager as clients need to find a workspace: `Workspace.get` and `Workspace.from_config` of
//! SDK v1 read the clouds, their subscriptions and the workspace, in this order.

mod clouds;
mod subscriptions;
mod workspace;
mod workspaces;

use super::access::Endpoint;

/// The type of the workspace's resource.
const WORKSPACE_TYPE: &str = "Microsoft.MachineLearningServices/workspaces";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![clouds::endpoint(), subscriptions::endpoint(), workspace::endpoint()];
    endpoints.extend(workspaces::endpoints());
    endpoints
}
