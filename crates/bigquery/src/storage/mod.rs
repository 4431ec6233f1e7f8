//! BigQuery's Storage API: gRPC, both ways. The same rooms as for REST: route, understand, forward, answer.

mod messages;
mod wire;
mod route;
mod understand;
mod appends;
mod forward;
mod answer;
mod refuse;
mod rows;

pub(crate) use answer::Schemas;
pub(crate) use forward::forward;
pub(crate) use refuse::refuse;
pub(crate) use route::{Route, is_storage, route};
pub use rows::RowReader;
pub(crate) use rows::reader as row_reader;
pub(crate) use understand::{Plan, inspect, project, understand};
