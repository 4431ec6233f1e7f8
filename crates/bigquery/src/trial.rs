//! A request as it would be decided on, without a gateway: for `policy explain`, `test` and `backtest`.

use gateway::{Marks, Question, Refusal, own_request};
use record::{Footprint, RecordId, SessionId, Timestamp};
use std::collections::BTreeMap;

use crate::reading::Reader;
use crate::{route, understand};

/// What a request asks for.
pub struct Trial {
    pub method: String,
    /// The billing project.
    pub project: String,
    pub sql: String,
    pub labels: BTreeMap<String, String>,
    pub footprint: Footprint,
}

/// Routes, understands and reads a REST request, as the gateway would.
pub async fn trial(question: Question, reader: &Reader) -> Result<Trial, Refusal> {
    let (request, _present) = own_request(question, Timestamp::from_secs(0));
    let route = route::route(&request.head)?;
    let method = route.method_name().to_owned();
    let project = route.project().unwrap_or_default().to_owned();
    let mut marks = Marks::new(RecordId::new(request.received), SessionId::new(request.received), "trial");
    marks.apis = registry::SISTERS.iter().map(|api| (*api).to_owned()).collect();
    let action = understand::understand(route, &request, &marks)?;
    let footprint = match &action.plan.reading {
        Some(reading) => reader.read(reading, None, action.footprint).await,
        None => action.footprint,
    };
    let sql = action.text.sql.unwrap_or_default();
    Ok(Trial { method, project, sql, labels: action.labels, footprint })
}
