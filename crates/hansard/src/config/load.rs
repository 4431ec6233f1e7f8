//! Reads the file, with errors that name line, what, and the nearest valid key.

use serde::de::DeserializeOwned;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::enforced;
use super::shape::{Config, RuleFile};

/// A file that was read.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// The folder that paths are relative to.
    pub folder: PathBuf,
    /// SHA-256 of its text, which records name.
    pub hash: String,
    pub path: PathBuf,
    text: String,
}

/// Why a file can't be used.
#[derive(Debug)]
pub struct ConfigError {
    pub path: PathBuf,
    /// 1-based; 0 = the file as a whole.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.what),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.what),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads and parses the file at `path`.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file. Make one with 'hansard init', or see everything run with 'hansard demo'.".to_owned()
            }
            _ => error.to_string(),
        };
        ConfigError { path: path.to_owned(), line: 0, what }
    })?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    parse(&text, path, folder)
}

/// Parses a text as if it stood at `path`.
pub fn parse(text: &str, path: &Path, folder: &Path) -> Result<Loaded, ConfigError> {
    let config: Config = from_toml(text, path)?;
    let hash = format!("sha256:{}", ledger::sha256(text.as_bytes()));
    Ok(Loaded { config, folder: folder.to_owned(), hash, path: path.to_owned(), text: text.to_owned() })
}

/// A file of rules that was read.
pub struct LoadedRules {
    pub rules: Vec<toml::Spanned<super::shape::Rule>>,
    path: PathBuf,
    text: String,
}

impl super::rules::Stands for LoadedRules {
    fn error_at(&self, span: &Range<usize>, what: String) -> ConfigError {
        ConfigError { path: self.path.clone(), line: line_of(&self.text, span), what }
    }
}

/// Parses a file of rules that stands at `path`.
pub fn parse_rules(text: &str, path: &Path) -> Result<LoadedRules, ConfigError> {
    let file: RuleFile = from_toml(text, path)?;
    Ok(LoadedRules { rules: file.rule, path: path.to_owned(), text: text.to_owned() })
}

fn from_toml<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(text, &span));
        ConfigError { path: path.to_owned(), line, what: with_nearest(error.message()) }
    })
}

impl Loaded {
    /// An error at a place in the file.
    pub fn error_at(&self, span: &Range<usize>, what: impl Into<String>) -> ConfigError {
        ConfigError { path: self.path.clone(), line: line_of(&self.text, span), what: what.into() }
    }

    /// An error of the file as a whole.
    pub fn error(&self, what: impl Into<String>) -> ConfigError {
        ConfigError { path: self.path.clone(), line: 0, what: what.into() }
    }

    /// A path of the file, made absolute to its folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Refuses what this build understands but does not enforce.
    pub fn check_enforced(&self) -> Result<(), ConfigError> {
        enforced::check(self)
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    if span.start == 0 && span.end == 0 {
        return 0;
    }
    text[..span.start.min(text.len())].matches('\n').count() + 1
}

/// `unknown field `colour`, expected one of `a`, `b``: names the nearest.
fn with_nearest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (Some(given), true) = (quoted.first(), message.starts_with("unknown ")) else {
        return message.to_owned();
    };
    let nearest = quoted[1..].iter().min_by_key(|known| distance(given, known));
    match nearest {
        Some(nearest) => format!(
            "unknown key '{given}'; the nearest valid one is '{nearest}' (valid: {})",
            quoted[1..].join(", ")
        ),
        None => message.to_owned(),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left_above = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (left_above + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
            left_above = above;
        }
    }
    row[b.len()]
}
