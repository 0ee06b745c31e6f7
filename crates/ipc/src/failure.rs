//! What went wrong, for programs (a code) and for people (a sentence and a hint).

use std::fmt;

use serde_json::{Map, Value};

macro_rules! error_codes {
    ($($(#[$doc:meta])+ $variant:ident = $text:literal, exit $exit:literal, $advice:literal;)+) => {
        /// Why a request failed, to branch on. Text form: snake_case; the `code` field of an error line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])+ $variant,)+
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it stands in an error line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The exit code of a command that failed for this reason: 1 failed, 2 usage, 3 the daemon is not
            /// running, 4 no such thing, 5 refused, 6 timed out waiting.
            #[must_use]
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)+ }
            }

            /// What to do about it, for a failure that brings no hint of its own.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

error_codes! {
    /// Not JSON, or a field is missing or of the wrong type; the message names it.
    InvalidRequest = "invalid_request", exit 2,
        "correct what the message names; --help shows the form";
    /// The command does not exist.
    UnknownCommand = "unknown_command", exit 1,
        "clawchat and clawchatd may be of different versions: restart the daemon after an upgrade";
    /// No identity of that name or principal is hosted here.
    NoSuchIdentity = "no_such_identity", exit 4,
        "see: clawchat gateway identity list";
    /// No peer of that name or principal.
    NoSuchPeer = "no_such_peer", exit 4,
        "see: clawchat peers list";
    /// No message with that id.
    NoSuchMessage = "no_such_message", exit 4,
        "see: clawchat inbox";
    /// No invite of that name or token.
    NoSuchInvite = "no_such_invite", exit 4,
        "see: clawchat invite list";
    /// No channel of that name.
    NoSuchChannel = "no_such_channel", exit 4,
        "see: clawchat channel list";
    /// Nobody known by what was given as recipient.
    UnknownRecipient = "unknown_recipient", exit 4,
        "give a principal, or add the peer first with: clawchat peers add";
    /// Refused by an access rule, here or at the other side.
    NotAllowed = "not_allowed", exit 5,
        "ask the other side to allow you; for an identity of your own: clawchat gateway identity allow WHO PEER";
    /// The password does not open the keystore.
    WrongPassword = "wrong_password", exit 5,
        "try again with --password-file FILE";
    /// A password is needed and none was given.
    PasswordRequired = "password_required", exit 2,
        "give it with --password-file FILE or CLAWCHAT_PASSWORD_FILE";
    /// Principals of different Stacks networks cannot talk to each other or share a gateway.
    WrongNetwork = "wrong_network", exit 5,
        "use an identity of the same network, in its own --data-dir if need be";
    /// A daemon serves this folder already.
    AlreadyRunning = "already_running", exit 1,
        "use it, or stop it with: clawchat daemon stop";
    /// What should be created exists.
    AlreadyExists = "already_exists", exit 1,
        "choose another name, or use what is there";
    /// The folder holds a gateway already.
    AlreadyInitialized = "already_initialized", exit 1,
        "use it, or choose another --data-dir";
    /// The daemon is not running, or is stopping.
    NotRunning = "not_running", exit 3,
        "start it with: clawchat daemon start";
    /// The folder holds no gateway yet.
    NotInitialized = "not_initialized", exit 1,
        "create one with: clawchat up";
    /// The time given to wait is over.
    Timeout = "timeout", exit 6,
        "wait longer, or look later with: clawchat outbox or clawchat inbox";
    /// A request, an answer or a message is longer than allowed.
    TooLarge = "too_large", exit 1,
        "make it smaller, or split it";
    /// No room on the disk.
    StorageFull = "storage_full", exit 1,
        "free some disk space; nothing that was stored is lost";
    /// Stored data cannot be read; nothing was overwritten.
    StorageDamaged = "storage_damaged", exit 1,
        "nothing was overwritten: restore the folder from a backup, or see daemon.log";
    /// Reading or writing a file or socket failed.
    Io = "io", exit 1,
        "check the path, its permissions and the disk";
    /// The other side could not be reached.
    Network = "network", exit 1,
        "check the address and the connection, then try again";
    /// It was tried and did not work.
    Failed = "failed", exit 1,
        "see daemon.log for the reason";
    /// Too much at once; try again.
    Busy = "busy", exit 1,
        "try again in a moment";
    /// This daemon cannot do that.
    Unsupported = "unsupported", exit 1,
        "a newer clawchatd may do it";
    /// A fault of the daemon itself; its log tells more.
    Internal = "internal", exit 1,
        "see daemon.log, and report it as a bug";
}

impl ErrorCode {
    /// The code of that text; `None` for one this build does not know.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error half of an answer: `{"ok":false,"error":…,"code":…,"hint"?:…,"data"?:…}`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to branch on.
    pub code: ErrorCode,
    /// What happened, in one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Details for programs, such as the id of a message that stays queued.
    pub data: Option<Value>,
}

impl Failure {
    /// A failure without hint or data.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            data: None,
        }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with details.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// A request whose form is wrong.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// The daemon is going down and answers nothing new.
    #[must_use]
    pub fn stopping() -> Self {
        Self::new(ErrorCode::NotRunning, "the daemon is stopping").with_hint("try again once it is back")
    }

    pub(crate) fn write_into(&self, object: &mut Map<String, Value>) {
        object.insert("error".to_owned(), Value::from(self.message.as_str()));
        object.insert("code".to_owned(), Value::from(self.code.as_str()));
        if let Some(hint) = &self.hint {
            object.insert("hint".to_owned(), Value::from(hint.as_str()));
        }
        if let Some(data) = &self.data {
            object.insert("data".to_owned(), data.clone());
        }
    }

    /// Reads what `write_into` wrote. Codes of other versions become [`ErrorCode::Failed`].
    pub(crate) fn take_from(object: &mut Map<String, Value>) -> Self {
        let mut text = |name: &str| match object.remove(name) {
            Some(Value::String(text)) => Some(text),
            Some(_) | None => None,
        };
        let message = text("error").unwrap_or_else(|| "the daemon gave no reason".to_owned());
        let code = text("code")
            .and_then(|code| ErrorCode::from_text(&code))
            .unwrap_or(ErrorCode::Failed);
        Self {
            code,
            message,
            hint: text("hint"),
            data: object.remove("data"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
            assert!((1..=6).contains(&code.exit_code()), "{code}");
            assert!(!code.advice().is_empty(), "{code}");
        }
        assert_eq!(ErrorCode::from_text("no_such_code"), None);
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        for (code, exit) in [
            (ErrorCode::Failed, 1),
            (ErrorCode::AlreadyRunning, 1),
            (ErrorCode::InvalidRequest, 2),
            (ErrorCode::NotRunning, 3),
            (ErrorCode::NoSuchIdentity, 4),
            (ErrorCode::UnknownRecipient, 4),
            (ErrorCode::WrongPassword, 5),
            (ErrorCode::NotAllowed, 5),
            (ErrorCode::Timeout, 6),
        ] {
            assert_eq!(code.exit_code(), exit, "{code}");
        }
    }
}
