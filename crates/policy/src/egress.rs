//! What nobody has to forbid: ways out of the connection, changes of who may do what, and other people's history.
//!
//! The table is the documentation and the tests' data. It is not written in CEL: it must hold with no rule at
//! all.

use record::{Deed, Footprint, Knowledge};
use std::collections::BTreeSet;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Default {
    pub name: &'static str,
    pub who: Who,
    pub what: &'static str,
    pub why: &'static str,
    /// What `allow_egress` must hold to allow it.
    pub opened_by: &'static str,
}

/// Whom a default binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Principals of kind agent.
    Agents,
    /// Everyone but auditors, unless the connection has `shared_history`.
    AllButAuditors,
}

/// The defaults, in the order they are looked at.
pub const DEFAULTS: &[Default] = &[
    Default {
        name: "export",
        who: Who::Agents,
        what: "EXPORT DATA, EXPORT MODEL and extract jobs",
        why: "Rows leave for a bucket or another system, where nothing masks, records or expires them.",
        opened_by: "the address or its beginning, such as \"gs://exports/\"",
    },
    Default {
        name: "foreign-project",
        who: Who::Agents,
        what: "writing, copying or putting a result into a project that is not one of the connection's",
        why: "Whoever owns that project reads the rows there, by their own rules.",
        opened_by: "the project, or \"project.dataset\"",
    },
    Default {
        name: "external-location",
        who: Who::Agents,
        what: "LOAD DATA and load jobs from an address, external tables, table definitions of a query",
        why: "What a bucket or a sheet says is not BigQuery's record; an address can carry data out in its name.",
        opened_by: "the address or its beginning",
    },
    Default {
        name: "remote-function",
        who: Who::Agents,
        what: "EXTERNAL_QUERY, and functions and procedures that a connection runs elsewhere or that can't be looked up",
        why: "Rows are sent to another system as arguments.",
        opened_by: "the function or connection, or its dataset as \"project.dataset\"",
    },
    Default {
        name: "remote-model",
        who: Who::Agents,
        what: "AI.* and those ML functions that run on remote models, and making a remote model",
        why: "Rows are sent to a model's endpoint as prompts.",
        opened_by: "the function or the model, such as \"AI.GENERATE\"",
    },
    Default {
        name: "access",
        who: Who::Agents,
        what: "GRANT, REVOKE, IAM policies, dataset access, row access policies, reservations; transfers and other APIs \
               beside BigQuery are closed unless the connection's `apis` name them",
        why: "They decide who reads what, and stay when the task is over.",
        opened_by: "\"access\"",
    },
    Default {
        name: "runs-later",
        who: Who::Agents,
        what: "making or changing functions, procedures and table functions that outlive the session",
        why: "They run later, as somebody else.",
        opened_by: "\"routines\"",
    },
    Default {
        name: "dynamic",
        who: Who::Agents,
        what: "text that is made only as it runs or that hansard can't read, and procedures whose body is not known",
        why: "It may be any of the above.",
        opened_by: "\"dynamic\"",
    },
    Default {
        name: "others-work",
        who: Who::AllButAuditors,
        what: "BQ.JOBS.CANCEL, and BQ.ABORT_SESSION of a session whose id is not written out (one that is must be the caller's own)",
        why: "All share one credential: it would end what another principal does.",
        opened_by: "`shared_history = true`",
    },
    Default {
        name: "history",
        who: Who::AllButAuditors,
        what: "INFORMATION_SCHEMA.JOBS*, SESSIONS* and system variables of jobs; dynamic text, which may be one",
        why: "All share one credential: they hold every principal's statements.",
        opened_by: "`shared_history = true`",
    },
];

/// Why a default forbids an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    pub default: &'static Default,
    /// What about the exchange.
    pub found: String,
}

/// Whom and what the defaults are asked about.
pub struct Asked<'a> {
    pub is_agent: bool,
    /// An auditor, or anybody where history is shared.
    pub reads_history: bool,
    pub projects: &'a [String],
    pub allow_egress: &'a [String],
}

/// AI functions whose model is BigQuery's own (Google's "The AI.FORECAST function": TimesFM, without a connection).
const LOCAL_FUNCTIONS: &[&str] = &["AI.DETECT_ANOMALIES", "AI.EVALUATE", "AI.FORECAST"];

/// Functions that run on models of other systems.
const REMOTE_FUNCTIONS: &[&str] = &[
    "ML.ANNOTATE_IMAGE",
    "ML.GENERATE_EMBEDDING",
    "ML.GENERATE_TEXT",
    "ML.GENERATE_TEXT_EMBEDDING",
    "ML.PROCESS_DOCUMENT",
    "ML.TRANSCRIBE",
    "ML.TRANSLATE",
    "ML.UNDERSTAND_TEXT",
];
/// Views of the catalogue that hold what others did.
const HISTORY_VIEWS: &[&str] = &["JOBS", "SESSIONS"];
/// System variables that name jobs or sessions of others, or the text of one's own.
const HISTORY_VARIABLES: &[&str] = &["@@last_job_id", "@@script.job_id", "@@session_id"];

/// The first default that forbids it.
pub fn forbidden(footprint: &Footprint, asked: &Asked<'_>) -> Option<Forbidden> {
    DEFAULTS.iter().find_map(|default| {
        let binds = match default.who {
            Who::Agents => asked.is_agent,
            Who::AllButAuditors => !asked.reads_history,
        };
        let found = binds.then(|| find(default.name, footprint, asked)).flatten()?;
        Some(Forbidden { default, found })
    })
}

fn find(name: &str, footprint: &Footprint, asked: &Asked<'_>) -> Option<String> {
    let deeds: Vec<&Deed> = footprint.statements.iter().chain(&footprint.guessed).collect();
    let closed = |names: &BTreeSet<String>| names.iter().find(|name| !is_open(asked, name)).cloned();
    match name {
        "export" => {
            deeds.iter().find_map(|deed| closed(&deed.destinations).map(|to| format!("it exports to {to}")))
        }
        "foreign-project" => foreign(footprint, asked),
        "external-location" => {
            deeds.iter().find_map(|deed| closed(&deed.sources).map(|from| format!("it reads {from}")))
        }
        "remote-function" => deeds.iter().find_map(|deed| remote_function(deed, asked)),
        "remote-model" => deeds.iter().find_map(|deed| remote_model(deed, asked)),
        "access" => {
            let changes = deeds.iter().find(|deed| deed.is_about_access())?;
            (!is_open(asked, "access")).then(|| format!("{} changes who may do what", changes.kind))
        }
        "runs-later" => {
            let made = deeds.iter().find(|deed| is_routine(deed) && !deed.is_temporary)?;
            (!is_open(asked, "routines")).then(|| format!("{} makes what runs later", made.kind))
        }
        "dynamic" => (is_unseen(footprint) && !is_open(asked, "dynamic")).then(|| dynamic(footprint)),
        "others-work" => {
            const ENDING: &[&str] = &["BQ.ABORT_SESSION", "BQ.JOBS.CANCEL"];
            let called =
                deeds.iter().flat_map(|deed| &deed.functions).find(|name| ENDING.contains(&name.as_str()))?;
            Some(format!("{called} may end another principal's work"))
        }
        _ => history(footprint),
    }
}

/// Whether what it runs can't be told: not even by its words.
fn is_unseen(footprint: &Footprint) -> bool {
    let is_unread = footprint.unknown(Knowledge::Kind).is_some() && footprint.guessed.is_empty();
    footprint.is_dynamic() || is_unread
}

fn dynamic(footprint: &Footprint) -> String {
    footprint.unknown(Knowledge::Kind).unwrap_or_else(|| "some of what it runs is made as it runs".to_owned())
}

/// Whether `allow_egress` holds the name, its beginning at a separator, or an address's beginning.
fn is_open(asked: &Asked<'_>, name: &str) -> bool {
    asked.allow_egress.iter().any(|open| {
        let rest = name.strip_prefix(open.as_str());
        let at_end = |rest: &str| rest.is_empty() || rest.starts_with(['.', '/']) || open.ends_with('/');
        rest.is_some_and(at_end)
    })
}

fn foreign(footprint: &Footprint, asked: &Asked<'_>) -> Option<String> {
    let result = Some(&footprint.result_table).filter(|table| !table.is_empty());
    let deeds = || footprint.statements.iter().chain(&footprint.guessed);
    let models = deeds().filter(|deed| makes_a_model(deed)).flat_map(|deed| &deed.models);
    let makes = |deed: &&Deed| !deed.kind.starts_with("DROP_");
    let defined = deeds().filter(makes).flat_map(|deed| &deed.defined).filter(|name| name.contains('.'));
    let mut written = deeds().flat_map(|deed| &deed.written).chain(models).chain(result).chain(defined);
    let is_foreign = |table: &&String| {
        // A project may hold a dot before its colon: its own are told by their beginning.
        let mut own = asked.projects.iter().map(String::as_str).chain(["_SESSION"]);
        let is_own = own.any(|own| table.strip_prefix(own).is_some_and(|rest| rest.starts_with('.')));
        !is_own && !is_open(asked, table)
    };
    if let Some(table) = written.find(is_foreign) {
        return Some(format!("it writes {table}, outside the connection's projects"));
    }
    let is_unseen = |deed: &&Deed| {
        const NO_TABLES: &[&str] = &["", "SELECT", "DECLARE", "SET", "GRANT", "REVOKE"];
        let reads = NO_TABLES.contains(&deed.kind.as_str()) || deed.kind.ends_with("_SCHEMA");
        let is_lost = deed.unknown.contains_key(&Knowledge::Target);
        !reads && (is_lost || deed.written.is_empty() && deed.unknown.contains_key(&Knowledge::Tables))
    };
    let unseen = deeds().find(is_unseen)?;
    let why = unseen.unknown.get(&Knowledge::Target).or(unseen.unknown.get(&Knowledge::Tables))?;
    Some(format!("which table {} writes is not known ({why})", unseen.kind))
}

fn makes_a_model(deed: &Deed) -> bool {
    deed.kind.ends_with("_MODEL") && !deed.kind.starts_with("DROP_")
}

fn remote_function(deed: &Deed, asked: &Asked<'_>) -> Option<String> {
    let connection = deed.connections.iter().find(|name| !is_open(asked, name));
    if let Some(connection) = connection {
        return Some(format!("it goes out by the connection {connection}"));
    }
    if deed.is_remote && is_routine(deed) && !is_open(asked, "routines") {
        return Some(format!("{} makes something remote", deed.kind));
    }
    // A procedure is another line's.
    let is_called = !deed.unknown.contains_key(&Knowledge::Kind);
    let called = deed.routines.iter().find(|name| is_called && !is_open(asked, name))?;
    Some(format!("{called} may be a remote function, and could not be looked up"))
}

fn remote_model(deed: &Deed, asked: &Asked<'_>) -> Option<String> {
    let is_remote = |name: &&String| {
        let name = name.strip_prefix("SAFE.").unwrap_or(name);
        let may_be_remote = name.starts_with("AI.") && !LOCAL_FUNCTIONS.contains(&name);
        (may_be_remote || REMOTE_FUNCTIONS.contains(&name)) && !is_open(asked, name)
    };
    if let Some(function) = deed.functions.iter().find(is_remote) {
        return Some(format!("{function} runs on a remote model"));
    }
    let is_made = deed.is_remote && deed.kind.ends_with("_MODEL");
    let model = deed.models.iter().find(|model| is_made && !is_open(asked, model))?;
    Some(format!("it makes the remote model {model}"))
}

fn is_routine(deed: &Deed) -> bool {
    let (verb, object) = deed.kind.split_once('_').unwrap_or_default();
    matches!(verb, "CREATE" | "ALTER") && matches!(object, "FUNCTION" | "PROCEDURE" | "TABLE_FUNCTION")
}

fn history(footprint: &Footprint) -> Option<String> {
    let deeds = || footprint.statements.iter().chain(&footprint.guessed);
    let read = deeds().flat_map(|deed| &deed.read);
    let is_history = |table: &&String| {
        let view = table.rsplit_once(".INFORMATION_SCHEMA.").map(|(_, view)| view.to_owned());
        view.is_some_and(|view| HISTORY_VIEWS.iter().any(|history| view.starts_with(history)))
    };
    if let Some(table) = read.clone().find(is_history) {
        return Some(format!("{table} holds what others did"));
    }
    let mut variables = deeds().flat_map(|deed| &deed.system_variables);
    // By its words alone a text gives the beginning of the name.
    let is_history = |variable: &&String| {
        HISTORY_VARIABLES
            .iter()
            .any(|known| *known == variable.as_str() || known.starts_with(&format!("{variable}.")))
    };
    if let Some(variable) = variables.find(is_history) {
        return Some(format!("{variable} names jobs"));
    }
    is_unseen(footprint).then(|| dynamic(footprint))
}
