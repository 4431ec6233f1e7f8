//! Why hansard says no, and the words for it. The upstream's room gives them its own error shape.

use record::RecordId;

/// A no, with its sentence for the caller.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub reason: Reason,
    /// What failed and what to do.
    pub message: String,
    /// The rule that says no; empty if it is none.
    pub rule: String,
    /// What would be allowed instead; empty where nothing is said of it.
    pub instead: String,
    /// Where to ask: the approval that it waits for.
    pub approval: Option<RecordId>,
}

/// What kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody was identified.
    Unauthenticated,
    /// Identified, and not allowed.
    Denied,
    /// It ended before it began: BigQuery's word for a job that was cancelled.
    Stopped,
    /// No such method.
    UnknownMethod,
    /// No connection, or more than one, fits.
    UnknownConnection,
    /// The request makes no sense, or could be read in two ways.
    Invalid,
    /// It exists, and is somebody else's.
    Duplicate,
    /// Nobody made it by this gateway.
    NotFound,
    /// The part that must be read before deciding is too long.
    TooLarge,
    /// Nothing may move, for it could not be recorded.
    Unrecorded,
    /// It ran, and its answer is withheld, for it could not be recorded.
    Withheld,
    /// The upstream, or the way to it, is broken.
    Upstream,
}

impl Refusal {
    /// A no of that kind.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), rule: String::new(), instead: String::new(), approval: None }
    }

    /// A rule's no.
    pub(crate) fn ruled(denial: policy::Denial) -> Self {
        Self { rule: denial.rule, instead: denial.instead, ..Self::new(Reason::Denied, denial.text) }
    }

    pub(crate) fn unrecorded() -> Self {
        Self::new(
            Reason::Unrecorded,
            "hansard could not record this exchange, so nothing was sent to BigQuery. Try again; if it goes on, \
             the gateway's data folder needs its operator.",
        )
    }

    pub(crate) fn unrecorded_answer() -> Self {
        Self::new(
            Reason::Unrecorded,
            "hansard could not record this answer, so it is withheld. It only read: try again; if it goes on, the \
             gateway's data folder needs its operator.",
        )
    }

    pub(crate) fn withheld(record: RecordId) -> Self {
        Self::new(
            Reason::Withheld,
            format!(
                "It ran, its answer is withheld because it could not be recorded; do not repeat it. Record {record}"
            ),
        )
    }

    pub(crate) fn not_allowed(connection: &str) -> Self {
        Self::new(
            Reason::Denied,
            format!(
                "Access Denied: hansard does not allow you on connection '{connection}'. Ask its owner for access."
            ),
        )
    }

    /// The same, naming its record.
    pub(crate) fn with_record(mut self, record: RecordId) -> Self {
        let end = if self.message.ends_with(['.', '?', '!']) { "" } else { "." };
        self.message = format!("{}{end} Record {record}", self.message);
        self
    }
}
