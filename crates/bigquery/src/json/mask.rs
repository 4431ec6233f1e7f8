//! Google's partial responses: the `fields` parameter.
//!
//! `a,b/c,d(e,f/g),h/*` selects members; arrays are looked through. Source: "Partial response" in Google's API
//! client guides, as BigQuery's `fields` parameter.

use std::collections::BTreeMap;

/// What a `fields` parameter selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// Everything below.
    All,
    /// These members; `*` stands for any.
    Some(BTreeMap<String, Mask>),
}

/// Nesting of parentheses and slashes that is followed.
const DEPTH_MAX: usize = 32;

impl Mask {
    /// Parses it; none if it is not well-formed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        let mask = list(&mut rest, 0)?;
        rest.is_empty().then_some(mask)
    }

    /// What it says of a member.
    pub(crate) fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::All => Some(self),
            Self::Some(members) => members.get(key).or_else(|| members.get("*")),
        }
    }

    fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All, _) => {}
            (mine, Self::All) => *mine = Self::All,
            (Self::Some(mine), Self::Some(theirs)) => {
                for (key, mask) in theirs {
                    match mine.get_mut(&key) {
                        Some(known) => known.merge(mask),
                        None => {
                            mine.insert(key, mask);
                        }
                    }
                }
            }
        }
    }
}

fn list(rest: &mut &str, depth: usize) -> Option<Mask> {
    let mut all = Mask::Some(BTreeMap::new());
    loop {
        all.merge(path(rest, depth)?);
        match rest.strip_prefix(',') {
            Some(more) => *rest = more,
            None => return Some(all),
        }
    }
}

fn path(rest: &mut &str, depth: usize) -> Option<Mask> {
    if depth > DEPTH_MAX {
        return None;
    }
    let end = rest.find([',', '/', '(', ')']).unwrap_or(rest.len());
    let name = rest[..end].trim();
    if name.is_empty() {
        return None;
    }
    *rest = &rest[end..];
    let below = if let Some(more) = rest.strip_prefix('/') {
        *rest = more;
        path(rest, depth + 1)?
    } else if let Some(more) = rest.strip_prefix('(') {
        *rest = more;
        let inner = list(rest, depth + 1)?;
        *rest = rest.strip_prefix(')')?;
        inner
    } else {
        Mask::All
    };
    if name == "*" && below == Mask::All {
        return Some(Mask::All);
    }
    Some(Mask::Some(BTreeMap::from([(name.to_owned(), below)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_selected_as_google_does() {
        let mask = Mask::parse("kind,rows(f/v),jobReference/jobId,schema").unwrap();
        assert!(mask.member("kind").is_some());
        assert!(mask.member("etag").is_none());
        assert!(mask.member("jobReference").unwrap().member("location").is_none());
        assert!(mask.member("rows").unwrap().member("f").unwrap().member("v").is_some());
        assert_eq!(Mask::parse("a/b,a").unwrap().member("a"), Some(&Mask::All));
        assert_eq!(Mask::parse("*"), Some(Mask::All));
        assert!(Mask::parse("items/*/id").unwrap().member("items").unwrap().member("x").is_some());
    }

    #[test]
    fn nonsense_is_no_mask() {
        for text in ["", ",", "a(", "a(b", "a)", "a//b", "a(b))", &"a(".repeat(100)] {
            assert_eq!(Mask::parse(text), None, "{text}");
        }
    }
}
