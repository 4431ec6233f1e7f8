//! A page of `jobs.list` as one principal may see it: its own jobs, in the bytes in which BigQuery wrote them.

use bytes::{Bytes, BytesMut};
use gateway::Forwardable;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use state::{Claim, Owned, Owner};

use crate::BigQuery;
use crate::answer::Source;
use crate::json::members;
use crate::understand::Plan;

/// A page has at most a thousand jobs.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Item {
    job_reference: Reference,
    statistics: Statistics,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reference {
    project_id: String,
    job_id: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Statistics {
    parent_job_id: String,
}

/// The page without other principals' jobs. Pages may get short; their tokens stay.
pub(crate) async fn filtered(
    bigquery: &BigQuery,
    parts: &Forwardable<Plan>,
    source: Source,
) -> Result<Bytes, String> {
    let page = whole(source).await?;
    let unreadable = || "BigQuery's list of jobs can't be read, so it can't be shown.".to_owned();
    let Some(outer) = page.iter().position(|byte| *byte == b'{').and_then(|start| members(&page, start))
    else {
        return Err(unreadable());
    };
    let Some((_, span)) = outer.into_iter().find(|(key, _)| key == "jobs") else { return Ok(page.freeze()) };
    let items: Vec<&RawValue> = serde_json::from_slice(&page[span.clone()]).map_err(|_| unreadable())?;
    let jobs: Vec<Item> =
        items.iter().map(|item| serde_json::from_str(item.get()).unwrap_or_default()).collect();
    let kept = mine(bigquery, parts, &jobs).await?;
    let kept: Vec<&str> =
        items.iter().zip(kept).filter(|(_, mine)| *mine).map(|(item, _)| item.get()).collect();
    let list = format!("[{}]", kept.join(","));
    Ok([&page[..span.start], list.as_bytes(), &page[span.end..]].concat().into())
}

/// Which of them are the asker's, or children of the asker's. Children of a parent that was asked for become it.
async fn mine(bigquery: &BigQuery, parts: &Forwardable<Plan>, jobs: &[Item]) -> Result<Vec<bool>, String> {
    let away = |error: state::ClaimError| format!("hansard can't tell whose jobs these are: {error}.");
    let own = |item: &Item| Owned::job(&item.job_reference.project_id, &item.job_reference.job_id);
    if parts.plan.parent.is_some() {
        // The parent is the asker's, or the request would not have come here.
        let owner = Owner {
            principal: parts.principal.clone(),
            record: parts.record.to_string(),
            excluded_by: parts.excluded_by.clone(),
        };
        let owned = jobs.iter().map(own).collect();
        bigquery.owners.claim(Claim::new(owned, owner, bigquery.clock.now())).await.map_err(away)?;
    }
    let parent = |item: &Item| Owned::job(&item.job_reference.project_id, &item.statistics.parent_job_id);
    let owners = bigquery.owners.owners(jobs.iter().map(own).collect()).await.map_err(away)?;
    let parents = bigquery.owners.owners(jobs.iter().map(parent).collect()).await.map_err(away)?;
    let is_mine = |owner: Option<Owner>| owner.is_some_and(|owner| owner.principal == parts.principal);
    Ok(owners.into_iter().zip(parents).map(|(own, parent)| is_mine(own) || is_mine(parent)).collect())
}

async fn whole(source: Source) -> Result<BytesMut, String> {
    let mut page = BytesMut::new();
    let Source::Upstream(mut body) = source else { return Ok(page) };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("BigQuery broke off its answer: {error}."))?;
        page.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if page.len() > PAGE_BYTES_MAX {
            return Err("BigQuery's list of jobs is too long; ask for fewer with maxResults.".to_owned());
        }
    }
    Ok(page)
}
