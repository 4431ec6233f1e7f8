//! Keeping tables as they are before a statement changes them.

use http::StatusCode;
use record::RecordId;
use std::collections::BTreeSet;

use crate::admission::Permit;
use crate::exchange::Gateway;
use crate::refusal::{Reason, Refusal};
use crate::upstream::{Kept, Upstream};

impl<U: Upstream> Gateway<U> {
    /// Keeps what an exchange may change, and says what would put it back. Nothing is sent if that fails.
    pub(crate) async fn keep_tables(
        &self,
        permit: &Permit<U::Plan>,
        record: RecordId,
    ) -> Result<Vec<String>, Refusal> {
        let mut undo = Vec::new();
        let asker = permit.asker();
        let by = asker.by();
        let (project, location) = &permit.judged().place;
        let mut kept_already = BTreeSet::new();
        for keep in &permit.judged().keeps {
            for table in &keep.tables {
                let dataset = &keep.snapshot.dataset;
                if !kept_already.insert((dataset, table)) {
                    continue;
                }
                let name = table.rsplitn(3, '.').take(2).collect::<Vec<_>>();
                let name: Vec<&str> = name.into_iter().rev().collect();
                let snapshot = format!("{dataset}.{}_{}", name.join("_"), permit.judged().kept_as.0.simple());
                let expires_secs = keep.snapshot.expires_secs;
                let kept = Kept { project, location, table, snapshot: &snapshot, expires_secs };
                match self.keep_table(by, &kept, record).await {
                    Ok(true) => undo.push(format!("CREATE OR REPLACE TABLE `{table}` CLONE `{snapshot}`")),
                    // What is not there is made, not changed.
                    Ok(false) => {}
                    Err(why) => return Err(not_kept(&keep.rule, table, &why)),
                }
            }
        }
        Ok(undo)
    }

    /// Keeps one table; false if it is not there.
    async fn keep_table(
        &self,
        by: (&str, Option<&str>),
        kept: &Kept<'_>,
        record: RecordId,
    ) -> Result<bool, String> {
        let unasked = || "BigQuery was not asked, or its answer not recorded".to_owned();
        let asked = Box::pin(self.probe(by, self.upstream.ask_snapshot(kept), Some(record))).await;
        let answer = asked.ok_or_else(unasked)?;
        match answer.status {
            status if status.is_success() => self.upstream.read_done(&answer.body).map(|()| true),
            // A try before this one kept it.
            StatusCode::CONFLICT => Ok(true),
            StatusCode::NOT_FOUND => {
                // The table, or the dataset that it is to be kept in?
                let question = self.upstream.ask_rows(kept.table).ok_or_else(unasked)?;
                let asked = Box::pin(self.probe(by, question, Some(record))).await;
                match asked.ok_or_else(unasked)?.status {
                    StatusCode::NOT_FOUND => Ok(false),
                    _ => Err(crate::later::said_no(&answer.body).1),
                }
            }
            _ => Err(crate::later::said_no(&answer.body).1),
        }
    }
}

fn not_kept(rule: &str, table: &str, why: &str) -> Refusal {
    let message = format!(
        "Access Denied: hansard rule '{rule}' keeps a snapshot of {table} first, and that failed: {why}. Nothing was sent. \
         Tell whoever runs the gateway."
    );
    Refusal { rule: rule.to_owned(), ..Refusal::new(Reason::Denied, message) }
}
