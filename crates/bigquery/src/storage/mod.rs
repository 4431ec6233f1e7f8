//! BigQuery's Storage API: gRPC, both ways. The same rooms as for REST: route, understand, forward, answer.

mod messages;
mod wire;
mod route;
mod understand;
mod forward;
mod answer;
mod refuse;

pub(crate) use answer::Schemas;
pub(crate) use forward::forward;
pub(crate) use refuse::refuse;
pub(crate) use route::{Route, is_storage, route};
pub(crate) use understand::{Plan, inspect, project, understand};
