//! How many statements a principal sent in the last minute, for rules that bound that.

use record::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

const MINUTE_SECS: i64 = 60;
/// Principals and rules that are counted; beyond that, those who were quiet for a minute are forgotten.
const COUNTED_MAX: usize = 10_000;

/// Whose statements, by which rule.
type Counted = (String, String);

/// The statements of the last minute.
#[derive(Default)]
pub(crate) struct Paces(Mutex<HashMap<Counted, VecDeque<Timestamp>>>);

impl Paces {
    /// Counts one more, unless there were so many in the last minute already; then how long to wait, in seconds.
    pub(crate) fn count(&self, rule: &str, principal: &str, most: u64, now: Timestamp) -> Result<(), i64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.plus_secs(-MINUTE_SECS);
        if counted.len() >= COUNTED_MAX {
            counted.retain(|_, times| times.back().is_some_and(|last| *last > since));
        }
        let times = counted.entry((rule.to_owned(), principal.to_owned())).or_default();
        while times.front().is_some_and(|first| *first <= since) {
            times.pop_front();
        }
        if times.len() as u64 >= most {
            let oldest = times.front().copied().unwrap_or(now);
            return Err((oldest.secs() + MINUTE_SECS - now.secs()).max(1));
        }
        times.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_holds_so_many_and_slides() {
        let paces = Paces::default();
        let at = |secs| Timestamp::from_secs(secs);
        assert_eq!(paces.count("r", "a", 2, at(100)), Ok(()));
        assert_eq!(paces.count("r", "a", 2, at(130)), Ok(()));
        assert_eq!(paces.count("r", "a", 2, at(150)), Err(10));
        assert_eq!(paces.count("r", "b", 2, at(150)), Ok(()));
        assert_eq!(paces.count("r", "a", 2, at(160)), Ok(()));
        assert_eq!(paces.count("r", "a", 2, at(161)), Err(29));
    }
}
