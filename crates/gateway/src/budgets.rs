//! What was billed so far, and whether there is room for more.

use policy::{Per, Ruling};
use record::{Footprint, Timestamp};
use state::{Spending, secs_left_today};

use crate::exchange::Gateway;
use crate::ownership::Asker;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::upstream::{Action, Estimating, Upstream};

impl<U: Upstream> Gateway<U> {
    /// What the asker was billed.
    pub(crate) async fn spending(&self, asker: &Asker, now: Timestamp) -> Result<Spending, Refusal> {
        let (state, payer) = (self.state.clone(), asker.payer());
        let read = tokio::task::spawn_blocking(move || state.spending(&payer, now)).await;
        match read {
            Ok(Ok(spending)) => Ok(spending),
            Ok(Err(error)) => {
                tracing::error!(%error, "what was billed can't be read");
                Err(Refusal::unrecorded())
            }
            Err(_) => Err(Refusal::unrecorded()),
        }
    }

    /// The bytes that are left of the tightest budget, for what may be billed; a refusal if there are none. Whatever
    /// is under way is counted when it is over, so budgets are exceeded by that at most.
    pub(crate) fn within_budgets(
        &self,
        ruling: &Ruling,
        spending: Spending,
        (action, request, footprint): (&Action<U::Plan>, &Request, &Footprint),
        now: Timestamp,
    ) -> Result<Option<u64>, Refusal> {
        // What can't be read may be any statement.
        if ruling.budgets.is_empty() || footprint.is_dry_run || footprint.statements.is_empty() {
            return Ok(None);
        }
        if matches!(self.upstream.ask_dry_run(action, request), Estimating::Free) {
            return Ok(None);
        }
        let mut left: Option<u64> = None;
        for budget in &ruling.budgets {
            let spent = match budget.per {
                Per::Day => spending.today,
                Per::Task => spending.task,
            };
            let rest = budget.bytes.saturating_sub(spent);
            if rest == 0 {
                return Err(Refusal::ruled(budget.denial(spent, secs_left_today(now))));
            }
            left = left.into_iter().chain([rest]).min();
        }
        Ok(left)
    }
}
