//! Reads the text of a request, off the async threads, once for all requests that carry it.

use googlesql::{Columns, Defaults, Description, NoParser, Parsers, Schemas};
use record::{Access, Deed, Footprint, Knowledge};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Descriptions that are remembered, and the bytes of text behind them.
const KNOWN_MAX: usize = 4_096;
const KNOWN_BYTES_MAX: usize = 32 << 20;
/// A reading that was cut short stands for so long: another one may take as long.
const CUT_KEPT: Duration = Duration::from_secs(30);
/// What a text names is not looked up in a session's own defaults.
const SESSION_DEFAULTS: &str = "a session may have changed its default dataset";
const LEGACY: &str = "legacy SQL is not read; set useLegacySql to false";

/// What must be known beside a text to read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    pub(crate) sql: String,
    /// Of `dataset.table`.
    pub(crate) project: String,
    /// Of the default dataset, if it is another.
    pub(crate) dataset_project: String,
    pub(crate) dataset: String,
    /// `project` was set apart from the default dataset.
    pub(crate) is_moved: bool,
    pub(crate) dialect: Dialect,
    /// It runs in a session that was there before.
    pub(crate) in_session: bool,
}

/// The language of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    #[default]
    GoogleSql,
    /// Also where nothing is said: that is BigQuery's default.
    Legacy,
}

/// Reads texts.
pub struct Reader {
    parsers: Option<Arc<dyn Parsers>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    descriptions: HashMap<Asked, Arc<Described>>,
    bytes: usize,
}

/// A text, and the tables whose columns are known where it is asked which ones it touches.
type Asked = (Reading, Option<Arc<Schemas>>);

/// A text that was read.
struct Described {
    description: Description,
    fingerprint: String,
    read_at: Instant,
}

impl Described {
    fn new(reading: &Reading, description: Description) -> Self {
        Self { description, fingerprint: fingerprint(&reading.sql), read_at: Instant::now() }
    }
}

impl Reader {
    /// By Google's parser; without one by the lexer alone.
    pub fn new(parsers: Option<Arc<dyn Parsers>>) -> Self {
        Self { parsers, known: Mutex::default() }
    }

    /// What a text does, added to what its request does besides; with schemas, also which columns it touches.
    pub(crate) async fn read(
        &self,
        reading: &Reading,
        schemas: Option<Arc<Schemas>>,
        mut footprint: Footprint,
    ) -> Footprint {
        let known = self.describe((reading.clone(), schemas)).await;
        footprint.fingerprint.clone_from(&known.fingerprint);
        add(&mut footprint, &known.description);
        if footprint.access == Access::Write && footprint.statements_only_read() {
            footprint.access = Access::Read;
        }
        footprint
    }

    async fn describe(&self, asked: Asked) -> Arc<Described> {
        if let Some(known) = self.known().descriptions.get(&asked)
            && (!known.description.is_cut || known.read_at.elapsed() < CUT_KEPT)
        {
            return known.clone();
        }
        let Some(parsers) = &self.parsers else {
            let description = describe(&asked, &mut NoParser);
            return self.keep(asked, description);
        };
        let (say, hear) = oneshot::channel();
        let sent = asked.clone();
        let submitted = parsers.with_one(Box::new(move |parser| {
            let _ = say.send(describe(&sent, parser));
        }));
        let described = match submitted {
            Ok(()) => hear.await.map_err(|_| "reading it failed".to_owned()),
            Err(busy) => Err(busy.to_string()),
        };
        match described {
            Ok(description) => self.keep(asked, description),
            Err(why) => Arc::new(Described::new(&asked.0, Description::unknown(&why))),
        }
    }

    fn keep(&self, asked: Asked, description: Description) -> Arc<Described> {
        let is_whole = description.unsure.is_empty();
        let description = Arc::new(Described::new(&asked.0, description));
        if !is_whole {
            // It may have been stopped by chance, or come of a parser that was not there.
            return description;
        }
        let mut known = self.known();
        let bytes = asked.0.sql.len() + asked.1.as_ref().map_or(0, |schemas| schemas.weight());
        known.bytes += bytes;
        if known.descriptions.len() >= KNOWN_MAX || known.bytes > KNOWN_BYTES_MAX {
            *known = Known { bytes, ..Known::default() };
        }
        known.descriptions.insert(asked, description.clone());
        description
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SHA-256 of the normal form.
fn fingerprint(sql: &str) -> String {
    googlesql::normal_form(sql).map(|form| ledger::sha256(form.as_bytes()).to_string()).unwrap_or_default()
}

fn describe((reading, schemas): &Asked, parser: &mut dyn googlesql::Parser) -> Description {
    let defaults = Defaults {
        project: reading.project.clone(),
        dataset_project: reading.dataset_project.clone(),
        dataset: reading.dataset.clone(),
        is_moved: reading.is_moved,
        lost: reading.in_session.then_some(SESSION_DEFAULTS),
    };
    let mut description = googlesql::describe(&reading.sql, &defaults, schemas.as_deref(), parser);
    if reading.dialect == Dialect::Legacy {
        let reads = description.statements.iter().any(|one| {
            !one.read.is_empty()
                || !one.functions.is_empty()
                || !one.routines.is_empty()
                || !one.unknown.is_empty()
        });
        if reads {
            // It can only select, but what, and by which functions, is another language's to say.
            for statement in &mut description.statements {
                statement.unknown.retain(|(what, _)| *what != googlesql::Knowledge::Tables);
                statement.unknown.push((googlesql::Knowledge::Tables, LEGACY.to_owned()));
                if statement.columns != Columns::NotRead {
                    statement.columns = Columns::Unknown(LEGACY.to_owned());
                }
            }
        }
    }
    description
}

/// What the text does beside what its request does: sources and connections of a query's configuration are its
/// statements' own, and a view or a routine is made of what its text does.
fn add(footprint: &mut Footprint, description: &Description) {
    let (definitions, brought): (Vec<Deed>, Vec<Deed>) =
        std::mem::take(&mut footprint.statements).into_iter().partition(|deed| !deed.kind.is_empty());
    if definitions.is_empty() {
        footprint.kind.clone_from(&description.kind);
        footprint.is_script = description.is_script;
        footprint.makes_text = description.is_dynamic;
    }
    footprint.unsure.extend(description.unsure.iter().cloned());
    footprint.guessed = description.guessed.iter().map(deed).collect();
    footprint.statements = definitions;
    for statement in &description.statements {
        let mut deed = deed(statement);
        for other in &brought {
            deed.sources.extend(other.sources.iter().cloned());
            deed.connections.extend(other.connections.iter().cloned());
            deed.unknown.extend(other.unknown.clone());
            deed.overwrites |= other.overwrites;
        }
        footprint.statements.push(deed);
    }
}

fn deed(statement: &googlesql::Statement) -> Deed {
    let unknown = statement.unknown.iter().map(|(what, why)| {
        let what = match what {
            googlesql::Knowledge::Kind => Knowledge::Kind,
            googlesql::Knowledge::Tables => Knowledge::Tables,
            googlesql::Knowledge::Target => Knowledge::Target,
            googlesql::Knowledge::Wildcards => Knowledge::Wildcards,
        };
        (what, why.clone())
    });
    let (columns, columns_written, columns_unsure) = match &statement.columns {
        Columns::NotRead => (None, BTreeSet::new(), String::new()),
        Columns::Known(touched) => (Some(touched.read.clone()), touched.written.clone(), String::new()),
        Columns::Unknown(why) => (None, BTreeSet::new(), why.clone()),
    };
    Deed {
        kind: statement.kind.clone(),
        read: statement.read.clone(),
        written: statement.written.clone(),
        columns,
        columns_written,
        columns_unsure,
        has_where: statement.has_where,
        branches: statement.branches.iter().map(|one| (one.kind.to_owned(), one.has_where)).collect(),
        functions: statement.functions.clone(),
        defined: statement.defined.clone(),
        routines: statement.routines.clone(),
        models: statement.models.clone(),
        connections: statement.connections.clone(),
        destinations: statement.destinations.clone(),
        sources: statement.sources.clone(),
        system_variables: statement.system_variables.clone(),
        sessions: statement.sessions.clone(),
        overwrites: statement.overwrites,
        is_temporary: statement.is_temporary,
        is_remote: statement.is_remote,
        changes_access: false,
        unknown: unknown.collect(),
    }
}
