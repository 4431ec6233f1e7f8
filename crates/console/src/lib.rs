//! Lets people find, read and verify records, and manage keys: `/api/v1`, which the command line speaks too.
//!
//! The same code answers on the control socket, on the gateway's port, and inside a command that opened the
//! folder itself. It has no rule of its own: who may is decided before it is called.

mod api;
mod keys;
mod ending;
mod approvals;
mod testing;
mod read;
mod stream;

pub use api::{
    Access, Answer, Answered, Api, ApiRequest, ApiSettings, Ending, Later, RowText, RowTexts, Running,
    Tested, Which, needs,
};
pub use stream::{ApiBody, ApiReply};
