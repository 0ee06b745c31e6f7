//! What ends a command early: a code for programs, a sentence and a hint for people, an exit code for shells.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use clawchat_ipc::ErrorCode;
use serde_json::{Map, Value, json};

/// Exit code of a command line that cannot be read.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit code of anything that failed for a reason without its own.
const EXIT_FAILED: u8 = 1;

/// Result of everything that can fail here.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a command ends early.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure(Box<Details>);

#[derive(Debug, Clone, PartialEq)]
struct Details {
    message: String,
    code: Cow<'static, str>,
    exit: u8,
    hint: Option<String>,
    /// What to do where there is no better hint.
    advice: &'static str,
    /// Further fields of the JSON form.
    more: Map<String, Value>,
    /// Nobody reads the answers any more: end without a word.
    silent: bool,
}

impl Failure {
    /// A failure of that kind.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::with(code.as_str(), code.exit_code(), message.into(), code.advice())
    }

    /// The command line cannot be meant.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::with("usage", EXIT_USAGE, message.into(), "see: clawchat --help").hint(hint)
    }

    /// A file or folder could not be used.
    pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Self {
        let hint = [
            (io::ErrorKind::NotFound, "check the path"),
            (io::ErrorKind::PermissionDenied, "check its owner and permissions"),
            (io::ErrorKind::StorageFull, "free some disk space"),
            (io::ErrorKind::QuotaExceeded, "free some disk space"),
        ]
        .into_iter()
        .find_map(|(kind, hint)| (error.kind() == kind).then_some(hint))
        .unwrap_or(ErrorCode::Io.advice());
        Self::new(
            ErrorCode::Io,
            format!("cannot {doing} {}: {error}", path.display()),
        )
        .hint(hint)
    }

    /// Nothing serves this home folder.
    pub(crate) fn not_running(home: &Path) -> Self {
        Self::new(
            ErrorCode::NotRunning,
            format!("the daemon is not running for {}", home.display()),
        )
        .hint(if home.join("gateway-config.json").exists() {
            "start it with: clawchat daemon start".to_owned()
        } else if home.join("identity.enc").exists() {
            "an identity from before gateways is in that folder; this takes it over and starts it: clawchat up, or \
             clawchat daemon start"
                .to_owned()
        } else if home.join("mesh").is_dir() {
            format!(
                "a mesh peer by itself is started with: clawchatd -d '{}' mesh",
                home.display()
            )
        } else {
            "there is no gateway in that folder yet; this creates one: clawchat up".to_owned()
        })
    }

    /// Whoever read our answers has gone.
    pub(crate) fn nobody_reads() -> Self {
        let mut failure = Self::with("closed", 0, String::new(), "");
        failure.0.silent = true;
        failure
    }

    /// What the daemon, or an offline request, answered.
    pub(crate) fn from_daemon(failure: clawchat_ipc::Failure) -> Self {
        let mut ours = Self::new(failure.code, failure.message);
        ours.0.hint = failure.hint.filter(|hint| !hint.trim().is_empty());
        if let Some(data) = failure.data {
            ours = ours.detail("data", data);
        }
        ours
    }

    /// The same with advice.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same with advice, unless there is some already.
    #[must_use]
    pub(crate) fn or_hint(self, hint: impl Into<String>) -> Self {
        if self.0.hint.is_some() {
            self
        } else {
            self.hint(hint)
        }
    }

    /// The same with one more field in its JSON form.
    #[must_use]
    pub(crate) fn detail(mut self, name: &str, value: Value) -> Self {
        self.0.more.insert(name.to_owned(), value);
        self
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn exit_as(mut self, exit: u8) -> Self {
        self.0.exit = exit;
        self
    }

    /// The same under another name for programs.
    #[must_use]
    pub(crate) fn named(mut self, code: &'static str) -> Self {
        self.0.code = Cow::Borrowed(code);
        self
    }

    /// The process's exit code.
    pub(crate) fn exit(&self) -> u8 {
        self.0.exit
    }

    /// Whether nothing is to be said about it.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.silent
    }

    /// Whether it is of that kind.
    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        self.0.code == code.as_str()
    }

    /// A further field of the JSON form.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.more.get(name)
    }

    /// For people: one line, then the details and the daemon's log lines if there are any.
    pub(crate) fn text(&self) -> String {
        let one_line = |text: &str| text.replace(['\n', '\r'], " ");
        let mut text = format!(
            "clawchat: {} ({})",
            one_line(&self.0.message),
            one_line(self.told_hint())
        );
        for (name, value) in self.get("data").and_then(Value::as_object).into_iter().flatten() {
            let value = match value {
                Value::String(value) => one_line(value),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            let name = if name == "mnemonic" {
                "recovery words, write them down"
            } else {
                name
            };
            text.push_str(&format!("\n  {name}: {value}"));
        }
        for line in self
            .get("log")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            // The daemon's last words are in its log as well.
            .filter(|line| !line.contains(&self.0.message))
        {
            text.push_str("\n  log: ");
            text.push_str(line);
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let mut object = json!({
            "error": self.0.message,
            "code": self.0.code,
            "hint": self.told_hint(),
        });
        if let Some(object) = object.as_object_mut() {
            for (name, value) in &self.0.more {
                object.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        object
    }

    /// The hint, which is never empty: advice for the kind of failure where it brought none.
    fn told_hint(&self) -> &str {
        self.0.hint.as_deref().unwrap_or(self.0.advice)
    }

    fn with(code: &'static str, exit: u8, message: String, advice: &'static str) -> Self {
        Self(Box::new(Details {
            message,
            code: Cow::Borrowed(code),
            exit: if exit == 0 && !code.eq("closed") {
                EXIT_FAILED
            } else {
                exit
            },
            hint: None,
            advice,
            more: Map::new(),
            silent: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        for (code, exit) in [
            (ErrorCode::Failed, 1),
            (ErrorCode::AlreadyRunning, 1),
            (ErrorCode::AlreadyInitialized, 1),
            (ErrorCode::NotRunning, 3),
            (ErrorCode::NoSuchIdentity, 4),
            (ErrorCode::NoSuchPeer, 4),
            (ErrorCode::NoSuchMessage, 4),
            (ErrorCode::UnknownRecipient, 4),
            (ErrorCode::WrongPassword, 5),
            (ErrorCode::NotAllowed, 5),
            (ErrorCode::Timeout, 6),
        ] {
            assert_eq!(Failure::new(code, "x").exit(), exit, "{code}");
        }
        assert_eq!(Failure::usage("x", "y").exit(), EXIT_USAGE);
        assert_eq!(Failure::nobody_reads().exit(), 0);
    }

    #[test]
    fn the_json_form_always_has_error_code_and_hint() {
        let bare = Failure::new(ErrorCode::Failed, "it broke").json();
        assert_eq!(
            bare,
            json!({"error": "it broke", "code": "failed", "hint": ErrorCode::Failed.advice()})
        );
        let full = Failure::new(ErrorCode::Timeout, "late")
            .hint("wait")
            .detail("data", json!({"id": "1"}))
            .json();
        assert_eq!(
            full,
            json!({"error": "late", "code": "timeout", "hint": "wait", "data": {"id": "1"}})
        );
    }

    #[test]
    fn every_kind_of_failure_says_what_to_do() {
        for code in ErrorCode::ALL {
            let hint = Failure::new(*code, "x").json()["hint"].clone();
            assert!(hint.as_str().is_some_and(|hint| !hint.is_empty()), "{code}");
        }
        let silent = clawchat_ipc::Failure::new(ErrorCode::Busy, "x").with_hint(" ");
        assert_eq!(
            Failure::from_daemon(silent).json()["hint"],
            ErrorCode::Busy.advice()
        );
    }

    #[test]
    fn the_text_form_shows_the_details() {
        let refused = clawchat_ipc::Failure::new(ErrorCode::Failed, "added, but not served")
            .with_hint("reload")
            .with_data(
                json!({"principal": "stacks:STA", "nick": null, "mnemonic": "a\nb", "more": {"x": 1}}),
            );
        assert_eq!(
            Failure::from_daemon(refused).text(),
            "clawchat: added, but not served (reload)\n  principal: stacks:STA\n  recovery words, write them down: a b"
        );
    }

    #[test]
    fn the_text_form_is_one_line() {
        let failure = Failure::new(ErrorCode::Failed, "a\nb").hint("c\nd");
        assert_eq!(failure.text(), "clawchat: a b (c d)");
    }
}
