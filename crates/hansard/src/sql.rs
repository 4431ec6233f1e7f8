//! The GoogleSQL analyzer: where it is installed, and the reader that uses it.

use bigquery::Reader;

/// Reads SQL by the installed analyzer; without one by the lexer alone, with a warning.
pub(crate) fn reader() -> Reader {
    match analyzer() {
        Ok(parsers) => Reader::new(Some(parsers)),
        Err(why) => {
            tracing::warn!(
                why,
                "statements are read by their words alone, so rules that ask about tables refuse; run 'hansard analyzer install'"
            );
            Reader::new(None)
        }
    }
}

#[cfg(feature = "analyzer")]
pub(crate) fn analyzer() -> Result<std::sync::Arc<dyn googlesql::Parsers>, String> {
    let cache = crate::cache::cache().map_err(|failure| failure.message)?;
    let installed = analyzer::find(&cache).map_err(|error| error.to_string())?;
    let installed = installed.ok_or_else(|| "the analyzer is not installed".to_owned())?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, THREADS_MAX);
    Ok(std::sync::Arc::new(analyzer::Analyzer::load(&installed.path, threads)?))
}

#[cfg(not(feature = "analyzer"))]
pub(crate) fn analyzer() -> Result<std::sync::Arc<dyn googlesql::Parsers>, String> {
    Err("this build has no analyzer".to_owned())
}

/// Instances; each takes 10 MB once it is used.
#[cfg(feature = "analyzer")]
const THREADS_MAX: usize = 8;
