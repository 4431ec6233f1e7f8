//! Keeping tables as they are before a statement changes them.

use http::StatusCode;
use record::RecordId;

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
        let by = (asker.connection.as_str(), asker.account.as_deref());
        let (project, location) = &permit.judged().place;
        for keep in &permit.judged().keeps {
            for table in &keep.tables {
                let (dataset, name) = (&keep.snapshot.dataset, table.rsplit('.').next().unwrap_or_default());
                let snapshot = format!("{dataset}.{name}_{}", record.0.simple());
                let expires_secs = keep.snapshot.expires_secs;
                let kept = Kept { project, location, table, snapshot: &snapshot, expires_secs };
                let asked = Box::pin(self.probe(by, self.upstream.ask_snapshot(&kept), Some(record))).await;
                let why = match asked {
                    Some(answer) if answer.status.is_success() => match self.upstream.read_done(&answer.body)
                    {
                        Ok(()) => {
                            undo.push(format!("CREATE OR REPLACE TABLE `{table}` CLONE `{snapshot}`"));
                            continue;
                        }
                        Err(why) => why,
                    },
                    // What is not there is made, not changed.
                    Some(answer) if answer.status == StatusCode::NOT_FOUND => continue,
                    Some(answer) => crate::later::said_no(&answer.body).1,
                    None => "BigQuery was not asked, or its answer not recorded".to_owned(),
                };
                let message = format!(
                    "Access Denied: hansard rule '{}' keeps a snapshot of {table} first, and that failed: {why}. Nothing was \
                     sent. Tell whoever runs the gateway.",
                    keep.rule
                );
                return Err(Refusal { rule: keep.rule.clone(), ..Refusal::new(Reason::Denied, message) });
            }
        }
        Ok(undo)
    }
}
