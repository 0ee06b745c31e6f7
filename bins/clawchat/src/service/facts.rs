//! What a unit is written from, and the comment in the unit that keeps it.

use serde_json::{Value, json};

/// What stands before the facts in their comment.
const MARK: &str = "clawchat service: ";

/// What a unit is written from. All paths are absolute, and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The unit's name.
    pub(crate) name: String,
    /// The path of `clawchatd`.
    pub(crate) program: String,
    /// The gateway's home folder.
    pub(crate) home: String,
    /// The file with the password; `None` when every identity keeps its own.
    pub(crate) password_file: Option<String>,
    /// `PATH` of the daemon, where it finds the programs it wakes.
    pub(crate) search_path: String,
}

impl Facts {
    /// The words the daemon is started with.
    pub(super) fn command(&self) -> Vec<&str> {
        let mut words = vec![self.program.as_str(), "--data-dir", &self.home];
        if let Some(file) = &self.password_file {
            words.extend(["--password-file", file]);
        }
        words
    }

    /// One line for a comment, without what starts and ends the comment. Two hyphens in a row, which XML forbids
    /// there, do not occur.
    pub(super) fn comment(&self) -> String {
        let facts = json!({
            "name": self.name,
            "program": self.program,
            "dataDir": self.home,
            "passwordFile": self.password_file,
            "path": self.search_path,
        });
        format!("{MARK}{}", facts.to_string().replace("--", "-\\u002d"))
    }

    /// The facts a unit was written from; `None` when it is not one of ours.
    pub(crate) fn of_unit(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| Some(line.split_once(MARK)?.1))?;
        let end = line.rfind('}')?;
        let facts: Value = serde_json::from_str(line.get(..=end)?).ok()?;
        let text = |name: &str| facts.get(name)?.as_str().map(str::to_owned);
        Some(Self {
            name: text("name")?,
            program: text("program")?,
            home: text("dataDir")?,
            password_file: text("passwordFile"),
            search_path: text("path")?,
        })
    }
}
