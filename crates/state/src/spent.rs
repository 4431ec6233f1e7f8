//! What was billed: by principal and day, and by task. Budgets are asked of it, so it survives restarts.

use record::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{State, StateError};

const DAY_SECS: i64 = 86_400;
/// The day of what has none: a task's budget is for all of it.
const NO_DAY: i64 = 0;
/// A task that nothing was billed for so long is over, and forgotten: names of tasks are for callers to make up.
const TASK_DAYS: i64 = 90;

/// Whose budget something counts against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payer {
    /// Provider and id.
    pub principal: String,
    /// Empty where none was named; then it is the principal's own.
    pub task: String,
}

/// So many bytes, billed at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    pub payer: Payer,
    pub bytes: u64,
    pub at: Timestamp,
}

/// What a payer was billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    /// The principal, on that day (UTC).
    pub today: u64,
    /// The principal's task, from its beginning.
    pub task: u64,
}

impl Payer {
    fn day_key(&self) -> String {
        format!("principal\u{0}{}", self.principal)
    }

    fn task_key(&self) -> String {
        match self.task.as_str() {
            "" => format!("no task\u{0}{}", self.principal),
            task => format!("task\u{0}{}\u{0}{task}", self.principal),
        }
    }
}

/// Counts it.
pub(crate) fn add(db: &Connection, spent: &Spent) -> rusqlite::Result<()> {
    let bytes = i64::try_from(spent.bytes).unwrap_or(i64::MAX);
    let keys = [(spent.payer.day_key(), day(spent.at)), (spent.payer.task_key(), NO_DAY)];
    for (who, day) in keys {
        db.prepare_cached(
            "INSERT INTO spent (who, day, bytes, seen) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (who, day) DO UPDATE SET seen = max(seen, excluded.seen),
                 bytes = min(9223372036854775807 - excluded.bytes, bytes) + excluded.bytes",
        )?
        .execute(params![who, day, bytes, self::day(spent.at)])?;
    }
    Ok(())
}

fn day(at: Timestamp) -> i64 {
    at.secs().div_euclid(DAY_SECS)
}

impl State {
    /// What a payer was billed today, and for the task.
    pub fn spending(&self, payer: &Payer, now: Timestamp) -> Result<Spending, StateError> {
        let db = self.db();
        let read = |who: String, day: i64| {
            db.prepare_cached("SELECT bytes FROM spent WHERE who = ?1 AND day = ?2")?
                .query_row(params![who, day], |row| row.get::<_, i64>(0))
                .optional()
                .map(|bytes| bytes.unwrap_or(0) as u64)
        };
        Ok(Spending { today: read(payer.day_key(), day(now))?, task: read(payer.task_key(), NO_DAY)? })
    }

    /// Forgets days and tasks that are over.
    pub fn expire_spent(&self, now: Timestamp) -> Result<usize, StateError> {
        let today = day(now);
        let db = self.db();
        // Of an earlier build's rows it is not known when they were last used.
        db.execute("UPDATE spent SET seen = ?1 WHERE seen = 0", [today])?;
        let days = db.execute("DELETE FROM spent WHERE day > ?1 AND day < ?2", [NO_DAY, today - 1])?;
        let tasks =
            db.execute("DELETE FROM spent WHERE day = ?1 AND seen < ?2", [NO_DAY, today - TASK_DAYS])?;
        Ok(days + tasks)
    }
}

/// The end of the day, in seconds from a moment.
pub fn secs_left_today(now: Timestamp) -> i64 {
    DAY_SECS - now.secs().rem_euclid(DAY_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_counted_by_principal_and_a_task_while_it_lasts() {
        let folder = std::env::temp_dir().join(format!("hansard-spent-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let state = State::open(&folder.join("state.db")).unwrap();
        let payer = |principal: &str, task: &str| Payer { principal: principal.into(), task: task.into() };
        let monday = Timestamp::from_secs(1_800_000_000);
        let tuesday = monday.plus_secs(DAY_SECS);
        for (principal, task, at) in
            [("a", "t", monday), ("a", "t", monday), ("b", "t", monday), ("a", "", tuesday)]
        {
            add(&state.db(), &Spent { payer: payer(principal, task), bytes: 10, at }).unwrap();
        }
        let spending = |principal, task, at| state.spending(&payer(principal, task), at).unwrap();
        assert_eq!(spending("a", "t", monday), Spending { today: 20, task: 20 });
        assert_eq!(spending("a", "", tuesday), Spending { today: 10, task: 10 });
        assert_eq!(spending("b", "", tuesday), Spending { today: 0, task: 0 });
        state.expire_spent(tuesday.plus_secs(2 * DAY_SECS)).unwrap();
        assert_eq!(spending("a", "t", monday), Spending { today: 0, task: 20 });
        state.expire_spent(monday.plus_secs((TASK_DAYS + 1) * DAY_SECS)).unwrap();
        assert_eq!(spending("a", "t", monday), Spending::default());
        // Something was billed a day later.
        assert_eq!(spending("a", "", monday), Spending { today: 0, task: 10 });
        let _ = std::fs::remove_dir_all(&folder);
    }
}
