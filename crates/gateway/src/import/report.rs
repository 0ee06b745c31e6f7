//! What became of a file, for the log and for the operator.

use std::fmt;
use std::path::{Path, PathBuf};

use clawchat_types::Principal;
use serde_json::{Value, json};

/// How many remarks about single records are told. All are counted.
const REMARKS_SHOWN: usize = 5;
/// Longest piece of a file that is repeated in a remark, in characters.
const QUOTED_CHARS: usize = 64;

/// Something the operator should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    file: PathBuf,
    place: Option<(usize, usize)>,
    error: String,
}

impl Problem {
    pub(super) fn of(file: &Path, error: String) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            error,
        }
    }

    /// What is wrong at a place of a file that is left alone. Line and column count from 1.
    pub(super) fn at(file: &Path, line: usize, column: usize, reason: String) -> Self {
        Self {
            file: file.to_owned(),
            place: Some((line, column)),
            error: format!("not taken over, and left as it is: {reason}"),
        }
    }

    /// `{"principal","file","line"?,"column"?,"error"}`, as `status` shows it.
    pub(crate) fn to_json(&self, principal: &Principal) -> Value {
        let mut value = json!({ "principal": principal, "file": self.file.display().to_string() });
        if let Some((line, column)) = self.place {
            value["line"] = json!(line);
            value["column"] = json!(column);
        }
        value["error"] = json!(self.error);
        value
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.error)
    }
}

/// How the records of a file fared.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Written into the store.
    pub(super) imported: usize,
    /// Were there already.
    pub(super) known: usize,
    /// Cannot be stored.
    pub(super) skipped: usize,
    /// Why, and what else was not taken as it stood.
    pub(super) remarks: Remarks,
}

impl Tally {
    pub(super) fn skip(&mut self, number: usize, reason: &Unusable) {
        self.skipped += 1;
        self.remarks.add(number, &reason.0);
    }

    /// What the operator should know of a file that was taken over and lies at `place` now.
    pub(super) fn problem(&self, place: &Path) -> Option<Problem> {
        if self.skipped == 0 {
            return None;
        }
        let all = self.imported + self.known + self.skipped;
        let error = format!(
            "{} of {all} records could not be taken over and are kept here alone: {}",
            self.skipped,
            self.remarks.shown().join("; ")
        );
        Some(Problem::of(place, error))
    }
}

/// What there is to say of single records: the first few, and how many more.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    first: Vec<String>,
    more: usize,
}

impl Remarks {
    pub(super) fn add(&mut self, number: usize, remark: &str) {
        if self.first.len() < REMARKS_SHOWN {
            self.first.push(format!("record {number}: {remark}"));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn shown(&self) -> Vec<String> {
        let mut shown = self.first.clone();
        if self.more > 0 {
            shown.push(format!("{} more", self.more));
        }
        shown
    }
}

/// Why a record cannot be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unusable(pub(super) String);

/// A piece of a file as a remark may repeat it.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text
        .chars()
        .take(QUOTED_CHARS)
        .filter(|c| !c.is_control())
        .collect();
    format!("\"{short}\"")
}
