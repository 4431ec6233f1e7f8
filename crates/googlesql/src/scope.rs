//! What a name may mean at a place: queries of a WITH clause, and the tables that a FROM clause has named.

/// Where a scope stands among the others.
pub(crate) type ScopeId = u32;

/// All scopes of one statement; each adds one name to the one it stands in.
#[derive(Default)]
pub(crate) struct Scopes(Vec<Scope>);

struct Scope {
    outer: ScopeId,
    what: What,
}

enum What {
    /// A query of a WITH clause, in lower case.
    Query(String),
    /// A table's alias, in lower case.
    Range(String),
    /// Aliases outside are not seen here; queries are.
    Wall,
}

/// The scope that holds nothing.
pub(crate) const NOTHING: ScopeId = 0;

impl Scopes {
    pub(crate) fn with_query(&mut self, outer: ScopeId, name: &str) -> ScopeId {
        if name.contains('.') {
            return outer;
        }
        self.push(outer, What::Query(name.to_lowercase()))
    }

    pub(crate) fn with_range(&mut self, outer: ScopeId, alias: &str) -> ScopeId {
        if alias.contains('.') {
            return outer;
        }
        self.push(outer, What::Range(alias.to_lowercase()))
    }

    pub(crate) fn with_wall(&mut self, outer: ScopeId) -> ScopeId {
        self.push(outer, What::Wall)
    }

    fn push(&mut self, outer: ScopeId, what: What) -> ScopeId {
        self.0.push(Scope { outer, what });
        self.0.len() as ScopeId
    }

    /// Whether a path names no table here: a query of a WITH clause, or an array of a table beside it.
    pub(crate) fn explains(&self, mut at: ScopeId, path: &[&str]) -> bool {
        // Quotes that hold a dot hold several names, which BigQuery takes apart before it asks what they mean.
        if path.iter().any(|part| part.contains('.')) {
            return false;
        }
        let first = path.first().map(|first| first.to_lowercase()).unwrap_or_default();
        let mut sees_ranges = true;
        while at != NOTHING {
            let scope = &self.0[at as usize - 1];
            match &scope.what {
                What::Query(name) if path.len() == 1 && *name == first => return true,
                What::Range(alias) if path.len() > 1 && sees_ranges && *alias == first => return true,
                What::Wall => sees_ranges = false,
                What::Query(_) | What::Range(_) => {}
            }
            at = scope.outer;
        }
        false
    }
}
